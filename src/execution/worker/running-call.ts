import type { Outcome, RawCall } from '../../backend/call-streams.js';
import type { CallEntry } from '../../protocol/call.js';
import type { FunctionContext } from './function-context.js';
import type { Lane } from './lanes.js';
import type { Listed } from './roster.js';

/** What the consumer wants to hear of its calls. */
export interface CallObserver {
  /** The handler is done: its place is free. */
  ended(call: RunningCall): void;
  /** Redis has carried the outcome out. */
  settled(call: RunningCall): void;
}

/** A call that this process holds. */
export interface RunningCall extends Listed<RunningCall> {
  readonly raw: RawCall;
  readonly lane: Lane;
  readonly entry: Pick<CallEntry, 'callId'>;
  readonly context: Pick<FunctionContext, 'abort'>;
  /** When its handler began, as who measures said; `undefined` when nobody did. */
  readonly startedAt: number | undefined;
  /** Resolves when it ended and was settled. */
  readonly done: Promise<void>;
  run(): void;
  /** It belongs to somebody else now: aborts the handler, and nothing is settled. */
  lose(reason: Error): void;
}

/** How a run ended, to be said of the entry that it was started for, or of another entry of the same call. */
export type Ending = Pick<Outcome, 'kind' | 'reply' | 'delayMs' | 'failure' | 'generation'>;

/** Where an echo learns how its call ended. */
export interface EchoSource {
  /** Calls back once: how the call ended, and whether that was carried out under the first entry. */
  whenEnded(listener: (ending: Ending, carriedOut: boolean) => void): void;
}
