import type { CallerCommand, ActorEvent } from './messages.js';

/** The caller, or a worker, at work: the same code in a process of its own and in the demo's. */
export interface Application {
  perform(command: CallerCommand): Promise<unknown>;
  /** As a shutdown hook does: a worker drains. */
  close(): Promise<void>;
}

/** How an application says something by itself. */
export type Tell = (event: ActorEvent) => void;

/** Injects the application's {@link Tell}. */
export const TELL = Symbol('TELL');
