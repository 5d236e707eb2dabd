import type { FunctionRef } from '../protocol/function-ref.js';

/** What came of a drain. */
export interface DrainReport {
  /** Calls that finished within the limit. */
  readonly finished: number;
  /** Calls that did not, or had not started, and were handed back. */
  readonly handedBack: number;
}

/** How a session was lost: declared dead, or gone with everything else in Redis. */
export type SessionFate = 'condemned' | 'forgotten';

/**
 * What takes calls and runs them, as the coordinator drives it; the execution layer implements it. A
 * function is read exactly between {@link begin} (or {@link resume}) and {@link pause} or {@link end}.
 */
export interface WorkSource {
  /** Takes part under a new session's name; nothing is read yet. `offsetMs`: see {@link pulse}. */
  open(sessionId: string, offsetMs: number): void;
  /**
   * Makes the groups and puts the read in place; resolves when calls can arrive. A pause stays one. The
   * result: functions that began before and are read in another way now, to be registered again.
   */
  begin(refs: readonly FunctionRef[]): Promise<readonly FunctionRef[]>;
  /** Takes no new calls of a function. */
  pause(ref: FunctionRef): void;
  /** Takes calls of it again. */
  resume(ref: FunctionRef): void;
  /** Stops reading a function, lets its calls finish within the limit, hands back the rest. */
  end(ref: FunctionRef, limitMs: number): Promise<DrainReport>;
  /** Stops reading everything, lets calls finish within the limit, hands back the rest. */
  drain(limitMs: number): Promise<DrainReport>;
  /**
   * The session is lost. Condemned: its calls belong to others, what runs is aborted. Forgotten: nobody has
   * them, what runs goes on. When it resolves nothing is delivered to that session any more.
   */
  abandon(fate: SessionFate): Promise<void>;
  /** The pool through whose bell the function's calls are heard of; `''` when they are read directly. */
  poolOf(ref: FunctionRef): string;
  /** Sets what says which generation of a workflow this process has loaded: calls bound to others are passed on. */
  useGenerations(generationOf: (workflowId: string) => number): void;
  /** The function's group was destroyed and made anew: claims what runs here. */
  reclaim(functionId: string): void;
  /** Aborts a call that its caller cancelled. */
  cancel(callId: string): void;
  /** Told by the source when its group is gone or its reading fails: the session may be lost. */
  onTrouble(listener: () => void): void;
  /**
   * The lease was kept just now; `offsetMs` is Redis's clock minus this host's. Without a pulse the source
   * stops reading before the lease can run out.
   */
  pulse(offsetMs: number): void;
  /** `false` when calls could not be handed back: they are pending for the session, which has to be handed over. */
  readonly leftNothing: boolean;
  close(): Promise<void>;
}
