import type { DeadLetter } from '../protocol/dead-letter.js';
import type { Delivery } from '../protocol/call.js';
import type { FunctionsError } from '../common/errors.js';
import type {
  HealthNotification,
  OfflineNotification,
  ReadyNotification,
  ShutdownNotification,
} from '../protocol/notification.js';

/** Which function an event is about. */
interface OfFunction {
  readonly functionName: string;
  readonly workflowId: string;
}

/** A call that an application of the fleet sent. */
export interface SentCall extends OfFunction {
  readonly callId: string;
  readonly parameters: unknown;
  readonly item: unknown;
  readonly headers: Readonly<Record<string, string>>;
  /** From now to its deadline, in milliseconds. */
  readonly timeoutMs: number;
  readonly delivery: Delivery;
  readonly idempotencyKey: string | undefined;
}

/** A run of a handler, or of a stub. */
export interface HandlerRun extends OfFunction {
  readonly callId: string;
  readonly workerId: string;
  /** 1 for the first run of the call. */
  readonly attempt: number;
  /** As the caller sent them: no pipe has seen them. */
  readonly parameters: unknown;
  readonly item: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

/** A run that threw. */
export interface FailedRun extends HandlerRun {
  /** What the handler, or what Nest puts around it, threw. */
  readonly error: unknown;
}

/** A call that has its outcome at its caller. */
export type SettledCall = OfFunction & { readonly callId: string } & (
    | { readonly success: true; readonly data: unknown; readonly workerId: string | undefined }
    | { readonly success: false; readonly error: FunctionsError }
  );

/** What a {@link FunctionsSpy} sees, by name. */
export interface SpyEvents {
  /** A worker is fully able to run a function. */
  ready: ReadyNotification;
  /** A worker is about to leave. */
  shutdown: ShutdownNotification;
  /** A worker left, or was found dead. */
  offline: OfflineNotification;
  /** A worker's health, on change; periodically only while an application listens. */
  health: HealthNotification;
  /** Somebody waits for a worker of a function, a call or `waitForFunction()`, be it for a moment. */
  waiting: OfFunction;
  /** A call was sent. One that found no worker, or was refused before, was not. */
  called: SentCall;
  /** A handler begins to run. */
  started: HandlerRun;
  /** A run of a handler threw; whether the call has failed with it, its retry policy says. */
  failed: FailedRun;
  /** A caller has the outcome of a call that was sent: the result, the handler's error, or the library's. */
  settled: SettledCall;
  /** A call was given up, and is among the dead letters. */
  deadLettered: OfFunction & DeadLetter;
}

export type SpyEventName = keyof SpyEvents;

export const SPY_EVENT_NAMES = [
  'ready',
  'shutdown',
  'offline',
  'health',
  'waiting',
  'called',
  'started',
  'failed',
  'settled',
  'deadLettered',
] as const satisfies readonly SpyEventName[];

/** One thing that happened. */
export type SpyRecord = {
  readonly [K in SpyEventName]: {
    readonly name: K;
    readonly event: SpyEvents[K];
    /** On the fleet's clock. */
    readonly at: number;
  };
}[SpyEventName];
