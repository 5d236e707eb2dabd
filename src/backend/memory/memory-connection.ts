import type { Clock } from '../../common/clock.js';
import { ClosedError } from '../../common/errors.js';
import type { Subscriber } from './memory-pubsub.js';
import type { MemoryServer } from './memory-server.js';
import { useServer, type ServerLease } from './memory-servers.js';
import type { MemorySpace } from './memory-space.js';

/** One application's way to a named server, under its key prefix; the server is taken with the first command. */
export class MemoryConnection {
  private lease: ServerLease | undefined;
  private closed = false;

  constructor(
    private readonly name: string,
    private readonly prefix: string,
    private readonly clock: Clock,
  ) {}

  get address(): string {
    return `memory://${this.name}`;
  }

  get isClosed(): boolean {
    return this.closed;
  }

  /** @throws ClosedError */
  get server(): MemoryServer {
    if (this.closed) throw this.closedError();
    this.lease ??= useServer(this.name, this.clock);
    return this.lease.server;
  }

  /** What is stored under this application's prefix. */
  get space(): MemorySpace {
    return this.server.space(this.prefix);
  }

  /**
   * Carries a command out now, as one step; its answer comes in a later turn of the event loop, that of a read that
   * waits when it ends.
   */
  run<T>(step: (space: MemorySpace) => T | Promise<T>): Promise<T> {
    if (this.closed) return Promise.reject(this.closedError());
    const { answers } = this.server;
    try {
      const answer = step(this.space);
      return answer instanceof Promise ? answer : answers.answer(answer);
    } catch (error) {
      return answers.refuse(error as Error);
    }
  }

  closedError(): ClosedError {
    return new ClosedError(`The connection to ${this.address}`);
  }

  /** Ends it, and the subscriptions of its subscriber. */
  close(subscriber: Subscriber): void {
    this.closed = true;
    this.lease?.server.pubsub.leave(subscriber);
    this.lease?.release();
  }
}
