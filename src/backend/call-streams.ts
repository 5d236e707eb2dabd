import type { AddressedReply, CallSubmission } from '../protocol/call.js';
import type { FunctionRef } from '../protocol/function-ref.js';

/** An entry as it was read. */
export interface RawCall {
  readonly ref: FunctionRef;
  readonly entryId: string;
  readonly fields: readonly string[];
}

/** One thing to say about a call; what is said in one tick travels together. */
export interface Outcome {
  readonly ref: FunctionRef;
  readonly entryId: string;
  readonly callId: string;
  /** The process to answer; `''` for none. */
  readonly replyTo: string;
  /**
   * - `settle`: answer and remove the call, as one step, if this consumer still owns it
   * - `answer`: answer now and keep the call ("return"), if still owned
   * - `progress`: a value on the way; not tied to ownership
   * - `discard`: remove the call without an answer
   * - `retry`: put it aside, and back among the calls after {@link Outcome.delayMs}
   * - `bury`: answer, and move the call to the dead letters
   * - `pass`: it is bound to {@link Outcome.generation}, which is not this worker's: given to one of that generation that
   *   offers to take calls, or back among the calls, as the same attempt; at once until it was passed on as often as there
   *   are workers (`PASSES_AT_ONCE` at the least), then after {@link Outcome.delayMs}, and twice as long each time
   *   (`LAST_PASS_DELAY_MS` at the most); when no living worker of that generation is registered that is about to stay, it
   *   is answered with `GENERATION_GONE`
   */
  readonly kind: 'settle' | 'answer' | 'progress' | 'discard' | 'retry' | 'bury' | 'pass';
  /** A reply as JSON; `''` for `discard`; for `retry` the answer in case it cannot be put aside. */
  readonly reply: string;
  /**
   * For a call with an idempotency key: the outcome is told to everybody who shares it, and its result kept
   * for `keepMs`.
   */
  readonly once?: { readonly key: string; readonly keepMs: number } | undefined;
  /** For `retry` and `pass`. */
  readonly delayMs?: number | undefined;
  /** For `retry` and `bury`: what failed, as JSON, for the history. */
  readonly failure?: string | undefined;
  /** For `pass`. */
  readonly generation?: number | undefined;
}

/** A call and where it is to be written. */
export interface Submission extends CallSubmission {
  readonly ref: FunctionRef;
}

/** A function had too many calls for another one. */
export interface BacklogFull {
  readonly backlog: number;
}

/** What holds for all calls of a submission. */
export interface SubmitTerms {
  /** Calls that a function may have, waiting and running. */
  readonly maxBacklog: number;
}

/**
 * What came of a submission: the entry id of the call that runs (or `answered`, when an answer that was kept is
 * on its way), or why it was not written.
 */
export type Submitted = string | BacklogFull | Error;

/** What came of outcomes, by their index; the others were carried out. */
export interface Concluded {
  /** The call was not owned any more: the outcome changed nothing. */
  readonly lost: readonly number[];
  /** Redis refused for now (full, read-only, busy): to be said again. */
  readonly again: readonly number[];
  /** Why, for those; `''` when there are none. */
  readonly why: string;
}

/** Why pending calls are released. */
export type Release =
  /** Their worker died: one delivery more, and no second run of an at-most-once call. */
  | { readonly kind: 'lost'; readonly maxDeliveries: number }
  /** Their worker hands them back; `started` ones of at-most-once are answered, not run again. */
  | {
      readonly kind: 'handed-back';
      readonly entries: readonly { readonly entryId: string; readonly started: boolean }[];
    };

/** What a release did. */
export interface Released {
  readonly requeued: number;
  readonly answered: number;
  readonly deadLettered: number;
}

/** What came of a cancellation. */
export type Cancelled = 'removed' | 'running' | 'shared' | 'unknown';

/** The functions of a process that hosts too many for one read, by the pool whose bell tells of their calls. */
export interface PoolRead {
  readonly pools: readonly string[];
  /** Calls at the most, over all pools. */
  readonly limit: number;
  /** Due functions to look at. */
  readonly functions: number;
  /** Calls of one function at the most, unless `rooms` says otherwise. */
  readonly perFunction: number;
  /** Functions that have other places than that; none: they cannot be taken now. */
  readonly rooms: readonly { readonly ref: FunctionRef; readonly room: number }[];
  /** Whether it waits for the bell afterwards: an offer that brought nothing holds on then. */
  readonly waits?: boolean;
}

/** What a look at the pools brought. */
export interface Taken {
  readonly calls: readonly RawCall[];
  /** Whether there may be more that was not taken. When there is none, a bell tells of what comes next. */
  readonly more: boolean;
}

/** What a process that waits for a bell offers: calls may be given to it at once. */
export interface Offer {
  /** Calls of whatever functions of the pool that it could start. */
  readonly places: number;
  /** When the offer ends, on the backend's clock; in milliseconds since the epoch. */
  readonly until: number;
}

/** What a wait for a bell brought. */
export interface Bell {
  /** Whether one rang: something is due. */
  readonly rang: boolean;
  /** Calls that were given to who waited, within its offer; this consumer owns them. */
  readonly calls: readonly RawCall[];
}

/** A consumer's blocking read, on a connection of its own. */
export interface CallReader {
  /** Takes calls of the pools' functions that have any; never waits. */
  take(read: PoolRead): Promise<Taken>;
  /** Whether a function of these pools may have calls that nobody took: less to ask than {@link take} is. */
  isDue(pools: readonly string[]): Promise<boolean>;
  /**
   * Waits until a bell of these pools rings, or calls are given to it, `blockMs` at the most.
   *
   * @param offer calls may be given to it meanwhile, and need not be. It holds on after a wait that ended early, until
   *   {@link take} (see {@link PoolRead.waits}) or {@link withdraw}.
   */
  waitForBell(pools: readonly string[], blockMs: number, offer?: Offer): Promise<Bell>;
  /** Takes the offer of the last wait back; what was given meanwhile. */
  withdraw(): Promise<readonly RawCall[]>;
  /**
   * Up to `count` calls of each function, new ones; waits `blockMs` when there is none. 0: does not wait.
   *
   * @throws BackendRefusedError of kind `NOGROUP` where a function's group is gone
   */
  read(refs: readonly FunctionRef[], count: number, blockMs: number): Promise<RawCall[]>;
  /** Calls that were delivered to this consumer and not settled. Takes an offer back: what was given is among them. */
  pending(refs: readonly FunctionRef[]): Promise<RawCall[]>;
  /** Ends a waiting read early; `true` when one was waiting. */
  wake(): Promise<boolean>;
  /** Resolves when the connection is up. */
  whenConnected(): Promise<void>;
  /** Counts connections made: another number means that a delivery may have been lost on the way. */
  connections(): number;
  /** Breaks the connection and makes a new one: the way out of a half-open one. */
  reset(): void;
  /** Ends it; afterwards nothing is delivered through it. */
  close(): Promise<void>;
}

/** One answer out of a reply stream; without a call id it is none. */
export type RawReply = AddressedReply;

/** A caller's blocking read of its replies, on a connection of its own. */
export interface ReplyReader {
  /** The next replies; waits `blockMs` when there is none. */
  read(blockMs: number): Promise<RawReply[]>;
  /**
   * Makes the stream where it is missing; `true` when it was, although it had been there before: Redis was
   * emptied, and has forgotten the calls too.
   */
  ensure(): Promise<boolean>;
  /** Drops what was read from the stream. */
  trim(): Promise<void>;
  whenConnected(): Promise<void>;
  /** Counts connections made. */
  connections(): number;
  reset(): void;
  close(): Promise<void>;
}

/** A function's calls that no worker settled yet. */
export interface CallPressure {
  readonly calls: number;
  /** Those that no worker has taken. */
  readonly waiting: number;
  /** Redis's clock when the first of them was submitted; `undefined` when there is none. */
  readonly since: number | undefined;
}

/** Port: the work, durable. */
export interface CallStreams {
  /**
   * Makes the functions' consumer groups where they are missing. The result: functions whose group was destroyed
   * under other sessions. Those are told to {@link claim} what they run; what is left after 400 ms is noted as
   * unclaimed, for the supervisor to {@link adopt}.
   */
  ensureGroups(refs: readonly FunctionRef[], consumer: string): Promise<FunctionRef[]>;
  /** Notes in a group that was made anew which entries a consumer has. */
  claim(ref: FunctionRef, consumer: string, entryIds: readonly string[]): Promise<void>;
  /** Puts calls back that a destroyed group had and nobody claimed in time; how many there were. */
  adopt(ref: FunctionRef): Promise<number>;
  /** Gives what one session of a process has to its next one. */
  inherit(ref: FunctionRef, from: string, to: string): Promise<RawCall[]>;
  /** Adds calls, all in one go. */
  submit(calls: readonly Submission[], terms: SubmitTerms): Promise<Submitted[]>;
  /** Takes a waiting call out, or tells its worker to abort it. */
  cancel(
    ref: FunctionRef,
    entryId: string,
    callId: string,
    idempotencyKey: string | undefined,
  ): Promise<Cancelled>;
  /**
   * Carries outcomes out, in order. Those that were carried out before change nothing.
   *
   * @param consumer the present session of the process that ran the calls
   */
  conclude(outcomes: readonly Outcome[], consumer: string): Promise<Concluded>;
  /** Lets go of calls that a consumer holds, and of the consumer when it holds none. */
  release(ref: FunctionRef, consumer: string, release: Release): Promise<Released>;
  /** Puts delayed calls of a function that are due back among its calls; how many. */
  promote(ref: FunctionRef): Promise<number>;
  /** Of these functions, those whose calls cannot be read because their key holds something else. */
  broken(refs: readonly FunctionRef[]): Promise<FunctionRef[]>;
  /** Calls of a function that no worker settled yet. */
  backlog(ref: FunctionRef): Promise<number>;
  /** How many calls of each function wait and run, and since when; for who measures. */
  pressure(refs: readonly FunctionRef[]): Promise<CallPressure[]>;
  openReader(consumer: string): CallReader;
  openReplies(processId: string): ReplyReader;
}
