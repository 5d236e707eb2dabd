import type { FunctionRef } from '../protocol/function-ref.js';
import type { FunctionContext } from './worker/function-context.js';

/** A call as its caller names it. */
export interface FollowedCall {
  readonly callId: string;
  readonly ref: FunctionRef;
}

/** Sees the calls that this process makes. */
export interface CallerProbe {
  /**
   * A call that nothing is wrong with begins: `perform` makes it with the payload that it is given, and settles when
   * the call does. The result is what the caller gets.
   */
  follow<T>(
    call: FollowedCall,
    payload: string,
    perform: (payload: string) => Promise<T>,
  ): Promise<T>;
  /** It has a worker, and is on its way. */
  sent(callId: string): void;
}

/** How a run of a call ended. */
export interface EndedRun {
  /** What {@link WorkerProbe.started} gave; `undefined` when nobody looked then, or its handler never ran. */
  readonly startedAt: number | undefined;
  /** `settle`: answered. `retry`: it runs again later. `bury`: answered, and among the dead letters. */
  readonly kind: string;
  /** Code of the error; `undefined` when there was none. */
  readonly code: string | undefined;
  /** 1 for the first run. */
  readonly attempt: number;
  /** How many runs before this one the handler failed. */
  readonly failures: number;
}

/** Sees the runs of calls in this process. */
export interface WorkerProbe {
  /** A handler is about to run. @param queuedMs since its entry was added, on Redis's clock */
  started(ref: FunctionRef, queuedMs: number): number;
  ended(ref: FunctionRef, run: EndedRun): void;
}

/** What runs a handler, as the registry gives it to the consumer. */
export type Invoke = (parameters: unknown, context: FunctionContext) => Promise<unknown>;

/**
 * Where calls look for somebody who measures or traces them. Empty while nobody does: then a call costs a look here,
 * and nothing else.
 */
export class CallProbes {
  caller: CallerProbe | undefined;
  worker: WorkerProbe | undefined;
  /** Puts something around every handler, when it is registered. */
  wrap: ((ref: FunctionRef, invoke: Invoke) => Invoke) | undefined;
  private readonly callers: CallerProbe[] = [];

  /** Lets a probe see the calls of this process, inside those that see them already. */
  addCaller(probe: CallerProbe): void {
    this.callers.push(probe);
    this.caller = joined(this.callers);
  }

  removeCaller(probe: CallerProbe): void {
    const at = this.callers.indexOf(probe);
    if (at >= 0) this.callers.splice(at, 1);
    this.caller = joined(this.callers);
  }
}

/** One probe for several: the first is the outermost. */
function joined(probes: readonly CallerProbe[]): CallerProbe | undefined {
  const [outer, ...others] = probes;
  const inner = outer === undefined ? undefined : joined(others);
  if (outer === undefined || inner === undefined) return outer;
  return {
    follow: (call, payload, perform) =>
      outer.follow(call, payload, (followed) => inner.follow(call, followed, perform)),
    sent: (callId) => {
      outer.sent(callId);
      inner.sent(callId);
    },
  };
}
