import type { Clock } from '../../common/clock.js';
import { AnswerQueue } from './answer-queue.js';
import { MemoryPubSub } from './memory-pubsub.js';
import { MemorySpace } from './memory-space.js';

/**
 * What Redis is to the other backend, inside this process: data by key prefix, pub/sub, and one clock. A command is
 * one synchronous step, so nothing comes in between; answers and news come in a later turn of the event loop.
 *
 * It has no timer of its own. What expires is found expired when it is asked for.
 */
export class MemoryServer {
  readonly answers = new AnswerQueue();
  readonly pubsub = new MemoryPubSub(this.answers);
  private readonly spaces = new Map<string, MemorySpace>();
  /** Consumers on whose behalf calls are read, and through how many connections. */
  private readonly readers = new Map<string, number>();

  constructor(readonly clock: Clock) {}

  /** What is stored under a key prefix. */
  space(prefix: string): MemorySpace {
    let space = this.spaces.get(prefix);
    if (space === undefined) this.spaces.set(prefix, (space = new MemorySpace(this.clock)));
    return space;
  }

  openReader(consumer: string): void {
    this.readers.set(consumer, (this.readers.get(consumer) ?? 0) + 1);
  }

  closeReader(consumer: string): void {
    const left = (this.readers.get(consumer) ?? 0) - 1;
    if (left > 0) this.readers.set(consumer, left);
    else this.readers.delete(consumer);
  }

  isReading(consumer: string): boolean {
    return this.readers.has(consumer);
  }

  /** Forgets what is stored under a key prefix, as a Redis that was emptied does; subscriptions stay. */
  forget(prefix: string): void {
    this.spaces.delete(prefix);
  }
}
