import type { CallerCommand, ActorEvent } from './messages.js';

/** The caller, or a worker: a process of its own over Redis, an application of this process over `memory://`. */
export interface Actor {
  readonly name: string;
  /** `pid 4711`, or `in this process`. */
  readonly whereabouts: string;
  /** Resolves with how it ended: `exit code 0`, `closed`. */
  readonly ended: Promise<string>;
  /** Listens to what it says by itself; the result removes the listener. */
  on(listener: (event: ActorEvent) => void): () => void;
  /** Has it do something, and resolves with what came of it. */
  ask<T>(command: CallerCommand): Promise<T>;
  /** Tells it to go, as a deploy does; says how. */
  dismiss(): string;
  /** Takes it away in the middle of what it does. Only a process can be. */
  kill?(): void;
  /** Tells it to go, and waits until it is gone. */
  stop(): Promise<void>;
}
