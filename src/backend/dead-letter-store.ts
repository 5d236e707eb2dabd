import type { FunctionRef } from '../protocol/function-ref.js';

/** A dead letter as it lies in its stream. */
export interface RawDeadLetter {
  /** Names it for {@link DeadLetterStore.requeue} and {@link DeadLetterStore.remove}. */
  readonly id: string;
  readonly fields: readonly string[];
}

/** Port: calls that were given up, per function, oldest first. */
export interface DeadLetterStore {
  /** Up to `limit` letters that come after the one with this id (`''`: from the oldest on). */
  list(ref: FunctionRef, after: string, limit: number): Promise<RawDeadLetter[]>;
  /**
   * Puts a letter back among the function's calls, as a first attempt that nobody waits for; its entry id
   * there, or `undefined` when there is no such letter.
   *
   * @param ttlMs from now to its deadline; `undefined` keeps what its caller had given it
   */
  requeue(ref: FunctionRef, id: string, ttlMs: number | undefined): Promise<string | undefined>;
  /** How many of these there were, and are no more. */
  remove(ref: FunctionRef, ids: readonly string[]): Promise<number>;
  count(ref: FunctionRef): Promise<number>;
}
