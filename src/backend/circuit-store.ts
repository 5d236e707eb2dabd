import type { CircuitRecord } from '../protocol/circuit.js';
import type { FunctionRef } from '../protocol/function-ref.js';

/** When a circuit opens, and for how long. */
export interface CircuitTerms {
  /** Counts that are older do not count. */
  readonly windowMs: number;
  /** Calls in the window, of all callers, below which nothing opens. */
  readonly minimumCalls: number;
  /** Failed part of the calls from which on it opens; above 0, up to 1. */
  readonly failureRate: number;
  /** More than this part of the callers have to see that rate themselves, and two of them where there are two. */
  readonly quorum: number;
  readonly openMs: number;
  /**
   * Counting that began less long ago opens nothing: callers report now and then, and the first one to do so is not
   * alone for that. It begins with the first report after a change, or after a window without any.
   */
  readonly settleMs: number;
}

/** What one caller counted since its last report. */
export interface CircuitReport {
  readonly caller: string;
  /** Under which the calls began; those of another one than the present one are dropped. */
  readonly generation: number;
  readonly calls: number;
  readonly failures: number;
  readonly terms: CircuitTerms;
}

/** A record, and when it was read. */
export interface CircuitReading {
  /** As JSON; `''` when there is none. */
  readonly record: string;
  /** The store's clock at that moment. */
  readonly timestamp: number;
}

/** What the callers counted within the window. */
export interface CircuitCounts {
  readonly calls: number;
  readonly failures: number;
  /** Callers that called. */
  readonly callers: number;
  /** Those of them that see the failure rate. */
  readonly failingCallers: number;
}

/** The answer to who wants to probe. */
export interface ProbeAnswer extends CircuitReading {
  /** Whether the probe is this caller's. */
  readonly granted: boolean;
}

/**
 * - `keep`: it runs still: its lease is renewed
 * - `success`, `failure`: what it showed
 * - `none`: it showed nothing: another call has to probe
 */
export type ProbeVerdict = 'keep' | 'success' | 'failure' | 'none';

/** What is done by hand. */
export type CircuitOrder =
  /** Without `forMs` until it is closed by hand. */
  | { readonly kind: 'open'; readonly reason: string; readonly forMs: number | undefined }
  | { readonly kind: 'close' }
  /** Closed, whatever it was, and everything counted so far, or under way, forgotten. */
  | { readonly kind: 'reset' };

/**
 * Port: the circuits that callers share. A change and its news are one atomic step; each gives the record a higher
 * generation, `max(the store's clock, the last one + 1)`, and forgets what was counted. A record whose state this
 * version does not know is answered as it is, and changed by an order only.
 */
export interface CircuitStore {
  /**
   * The record. `known`: one that is not closed, as this caller knows it: where the store has none (it was emptied), it
   * is written back as `open`, under a new generation, and told.
   */
  read(ref: FunctionRef, known: CircuitRecord | undefined): Promise<CircuitReading>;
  /** Counts, and opens it when what is counted now says so. */
  report(ref: FunctionRef, report: CircuitReport): Promise<CircuitReading>;
  /** Takes the probe, if it is due and nobody has it; `known` as in {@link read}. */
  probe(
    ref: FunctionRef,
    caller: string,
    leaseMs: number,
    known: CircuitRecord | undefined,
  ): Promise<ProbeAnswer>;
  /**
   * Says how a probe stands; of one that was taken over nothing changes.
   *
   * @param generation the record's when the probe was granted
   * @param ms for `keep` the lease, else how long it stays open if it does
   */
  conclude(
    ref: FunctionRef,
    generation: number,
    verdict: ProbeVerdict,
    ms: number,
  ): Promise<CircuitReading>;
  /** Does what an operator wants. */
  order(ref: FunctionRef, order: CircuitOrder): Promise<CircuitReading>;
  /** What was counted. */
  counts(
    ref: FunctionRef,
    terms: Pick<CircuitTerms, 'windowMs' | 'failureRate'>,
  ): Promise<CircuitCounts>;
}
