import type { Clock } from '../../common/clock.js';
import type { Dispose } from '../../common/typed-events.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { RawDeadLetter } from '../dead-letter-store.js';
import { AnswerQueue } from './answer-queue.js';
import { MemoryPubSub } from './memory-pubsub.js';
import { MemorySpace } from './memory-space.js';

/** Who looks on, for tests. It is no subscriber: nothing is told, or done, for its sake. */
export interface ServerObserver {
  /** Something was published, and its receivers have it. */
  published(channel: string, payload: string): void;
  /** A call was given up, under this key prefix. */
  buried(prefix: string, ref: FunctionRef, letter: RawDeadLetter): void;
}

/**
 * What Redis is to the other backend, inside this process: data by key prefix, pub/sub, and one clock. A command is
 * one synchronous step, so nothing comes in between; answers and news come in a later turn of the event loop.
 *
 * It has no timer of its own. What expires is found expired when it is asked for.
 */
export class MemoryServer {
  readonly answers = new AnswerQueue();
  readonly pubsub = new MemoryPubSub(this.answers, (channel, payload) => {
    if (this.observers.size > 0) this.answers.add(() => this.tellPublished(channel, payload));
  });
  private readonly observers = new Set<ServerObserver>();
  private readonly spaces = new Map<string, MemorySpace>();
  /** Consumers on whose behalf calls are read, and through how many connections. */
  private readonly readers = new Map<string, number>();

  constructor(readonly clock: Clock) {}

  /** What is stored under a key prefix. */
  space(prefix: string): MemorySpace {
    let space = this.spaces.get(prefix);
    if (space === undefined) this.spaces.set(prefix, (space = this.makeSpace(prefix)));
    return space;
  }

  /** Looks on; the result ends it. */
  observe(observer: ServerObserver): Dispose {
    this.observers.add(observer);
    return () => this.observers.delete(observer);
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

  private makeSpace(prefix: string): MemorySpace {
    return new MemorySpace(this.clock, (ref, letter) => {
      for (const observer of this.observers) observer.buried(prefix, ref, letter);
    });
  }

  private tellPublished(channel: string, payload: string): void {
    for (const observer of this.observers) observer.published(channel, payload);
  }
}
