import type { CallSubmission } from '../protocol/call.js';
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
   */
  readonly kind: 'settle' | 'answer' | 'progress' | 'discard';
  /** A reply as JSON; `''` for `discard`. */
  readonly reply: string;
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
export type Cancelled = 'removed' | 'running' | 'unknown';

/** A consumer's blocking read, on a connection of its own. */
export interface CallReader {
  /** Up to `count` calls of each function, new ones; waits `blockMs` when there is none. 0: does not wait. */
  read(refs: readonly FunctionRef[], count: number, blockMs: number): Promise<RawCall[]>;
  /** Calls that were delivered to this consumer and not settled. */
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

/** One answer out of a reply stream. */
export interface RawReply {
  readonly callId: string;
  readonly text: string;
}

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

/** Port: the work, durable. */
export interface CallStreams {
  /** Makes the functions' consumer groups where they are missing. */
  ensureGroups(refs: readonly FunctionRef[]): Promise<void>;
  /** Adds calls, all in one go; per call its entry id or why it could not be written. */
  submit(
    calls: readonly { readonly ref: FunctionRef; readonly call: CallSubmission }[],
  ): Promise<(string | Error)[]>;
  /** Takes a waiting call out, or tells its worker to abort it. */
  cancel(ref: FunctionRef, entryId: string, callId: string): Promise<Cancelled>;
  /** Carries outcomes out in order; the indexes of those whose call was no longer owned. */
  conclude(outcomes: readonly Outcome[]): Promise<number[]>;
  /** Lets go of calls that a consumer holds, and of the consumer when it holds none. */
  release(ref: FunctionRef, consumer: string, release: Release): Promise<Released>;
  /** Calls of a function that no worker settled yet. */
  backlog(ref: FunctionRef): Promise<number>;
  openReader(consumer: string): CallReader;
  openReplies(processId: string): ReplyReader;
}
