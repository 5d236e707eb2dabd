import { Logger } from '@nestjs/common';
import type { Backend } from '../../backend/backend.js';
import type { RawReply, ReplyReader, Submission, Submitted } from '../../backend/call-streams.js';
import { TickBatch, tickSent } from '../../common/batch.js';
import { pause, type Clock, type Timer } from '../../common/clock.js';
import { Complaint } from '../../common/complaint.js';
import { processHold } from '../../common/process-hold.js';
import { Deadlines, type Expiring } from '../../common/deadlines.js';
import {
  BackendUnavailableError,
  BacklogFullError,
  CallCancelledError,
  ClosedError,
  DeadlineExceededError,
  ERROR_CODES,
  GenerationGoneError,
  isFunctionsError,
  isRefused,
  MaxDeliveriesError,
  NOT_WRITTEN,
  OutcomeUnknownError,
  RemoteFunctionError,
  WorkerLostError,
} from '../../common/errors.js';
import { backendName, messageOf } from '../../common/text.js';
import { callIsolated, type Dispose } from '../../common/typed-events.js';
import { parseReply, type Delivery, type Reply } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import { isMalformed } from '../../protocol/notification.js';
import { PendingCalls } from './pending-calls.js';

/** One call, ready to be sent. */
export interface CallRequest {
  readonly callId: string;
  readonly ref: FunctionRef;
  /** {@link joinPayload}. */
  readonly payload: string;
  /** From now to the deadline. */
  readonly timeoutMs: number;
  readonly delivery: Delivery;
  readonly idempotencyKey: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((value: unknown) => void) | undefined;
  /** The generation that its payload binds it to. */
  readonly generation: number | undefined;
}

/** A result and who made it. */
export interface CallResult {
  readonly data: unknown;
  readonly workerId: string | undefined;
}

/** Counters, for health and tests. */
export interface CallClientStats {
  readonly pending: number;
  readonly submitted: number;
  /** Replies to calls that had been settled otherwise before. */
  readonly late: number;
  readonly malformed: number;
}

/** A call that is out: what is written of it, and what settles it. */
interface PendingCall extends Submission, Expiring {
  readonly request: CallRequest;
  /** On this host's clock. */
  readonly deadline: number;
  readonly resolve: (result: CallResult) => void;
  readonly reject: (error: Error) => void;
  abort: (() => void) | undefined;
  /** Where it lies in the function's stream; unknown until it is written. */
  entryId: string | undefined;
  /** Of the time at which it is written. */
  ttlMs: number;
  sentAt: number | undefined;
  again: boolean;
}

/** Also how long it takes at the most to notice that Redis was emptied: FLUSHALL ends no read. */
const BLOCK_MS = 1_000;
const READ_GRACE_MS = 1_500;
const RETRY_MS = 50;
/** Whose answers cannot be heard for so long is told: rights that are being changed are lacking for moments. */
const REFUSED_GRACE_MS = 1_000;
const TRIM_AFTER = 1_000;
const GIVEN_UP_LIMIT = 1_000;
/** In the place of an entry's id: it is answered, and its entry gone. */
const ANSWERED = '';

/**
 * The caller's side of the streams: submits calls, and settles each exactly once.
 *
 * A call leaves {@link PendingCall the table} in the same step in which its promise settles, so whichever
 * comes first (reply, deadline, cancellation, close) is the only one; a later reply finds nothing and is
 * counted.
 *
 * Interleavings with the loss of Redis: a call that is not written yet waits here, not in a queue of the
 * client, and is written with the time that is left to it, or not at all when it settled meanwhile. A call
 * whose write was cut off may lie in the stream or not: it is written again under its id, unless it must
 * run at most once, in which case the caller is told that nobody can know.
 *
 * A Redis that comes back empty has forgotten the reply stream too; that it has to be made again is how the
 * caller knows that its calls are to be written again.
 *
 * The reply stream exists before the first call is written: workers reply only to streams that exist.
 */
export class CallClient {
  private readonly logger = new Logger('CallFunction');
  private readonly readTrouble = new Complaint((text) =>
    this.logger.error(`reading replies failed: ${text}`),
  );
  private readonly tidyTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly pending = new PendingCalls<PendingCall>();
  private readonly deadlines: Deadlines<PendingCall>;
  private readonly batch = new TickBatch<PendingCall>((calls) => this.write(calls));
  /** Calls that were given up lately: one that was being handed over then is not where it was taken back. */
  private readonly givenUp = new Map<string, PendingCall>();
  private parked: PendingCall[] = [];
  private replies: ReplyReader | undefined;
  private repliesReady = false;
  private loop: Promise<void> = Promise.resolve();
  private reading: number | undefined;
  /** Since when answers may not be read. */
  private refusedAt: number | undefined;
  private watchdog: Timer | undefined;
  private readSinceTrim = 0;
  private submitted = 0;
  private late = 0;
  private malformed = 0;
  private closed = false;
  private dispose: Dispose = () => undefined;

  constructor(
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly processId: string,
    private readonly maxBacklog: number,
    /** Redis's clock minus this host's, once it is known. */
    private readonly offsetMs: () => number | undefined,
  ) {
    this.deadlines = new Deadlines(clock, (call) => this.expire(call));
  }

  /** Starts a call. Every argument was checked before. */
  submit(request: CallRequest): Promise<CallResult> {
    if (this.closed) return Promise.reject(new ClosedError('The caller'));
    const { callId } = request;
    const { functionName, workflowId } = request.ref;
    if (request.signal?.aborted === true) {
      return Promise.reject(
        new CallCancelledError(functionName, workflowId, request.signal.reason),
      );
    }
    this.listen();
    return new Promise<CallResult>((resolve, reject) => {
      const call: PendingCall = {
        ref: request.ref,
        callId,
        replyTo: this.processId,
        ttlMs: request.timeoutMs,
        sentAt: undefined,
        delivery: request.delivery,
        payload: request.payload,
        again: false,
        idempotencyKey: request.idempotencyKey,
        bound: request.generation !== undefined,
        request,
        deadline: this.clock.now() + request.timeoutMs,
        resolve,
        reject,
        abort: undefined,
        entryId: undefined,
        expiresAt: undefined,
        queue: undefined,
        earlier: undefined,
        later: undefined,
      };
      this.deadlines.add(call, request.timeoutMs);
      if (request.signal !== undefined) {
        call.abort = () =>
          this.giveUp(
            call,
            new CallCancelledError(functionName, workflowId, request.signal?.reason),
          );
        request.signal.addEventListener('abort', call.abort, { once: true });
      }
      if (this.pending.size === 0) processHold.take();
      this.pending.add(call);
      this.batch.add(call);
    });
  }

  /** Connects for replies ahead of the first call: a call that waits for its worker should wait for nothing else. */
  prepare(): void {
    if (!this.closed) this.listen();
  }

  /** Calls that are out and not settled. */
  unsettled(): Iterable<{ readonly callId: string; readonly ref: FunctionRef }> {
    return this.pending;
  }

  stats(): CallClientStats {
    return {
      pending: this.pending.size,
      submitted: this.submitted,
      late: this.late,
      malformed: this.malformed,
    };
  }

  /** Settles what is pending with a ClosedError and ends the connection. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.dispose();
    this.watchdog?.cancel();
    this.deadlines.clear();
    this.parked = [];
    for (const call of this.pending) this.take(call)?.reject(new ClosedError('The caller'));
    await this.replies?.close();
    await this.loop;
  }

  private write(calls: readonly PendingCall[]): void {
    // A call that was settled in the tick in which it was made.
    const live = calls.every((call) => this.pending.has(call))
      ? calls
      : calls.filter((call) => this.pending.has(call));
    if (live.length === 0) return;
    if (!this.repliesReady || !this.backend.isConnected()) {
      this.parked.push(...live);
      return;
    }
    const now = this.clock.now();
    this.submitted += live.length;
    const offsetMs = this.offsetMs();
    const sentAt = offsetMs === undefined ? undefined : Math.round(now + offsetMs);
    for (const call of live) {
      call.ttlMs = Math.max(1, Math.ceil(call.deadline - now));
      call.sentAt = sentAt;
    }
    this.backend.calls.submit(live, { maxBacklog: this.maxBacklog }).then(
      (results) => {
        live.forEach((call, index) => this.noteWritten(call, results[index]));
      },
      (error: unknown) => {
        for (const call of live)
          this.noteWritten(call, error instanceof Error ? error : new Error(messageOf(error)));
      },
    );
  }

  private noteWritten(call: PendingCall, result: Submitted | undefined): void {
    if (typeof result === 'string') {
      // Its answer was read before this was: there is nothing to take back.
      if (call.entryId === ANSWERED) return;
      // 'answered' is no entry's id, but tells a call that was written from one that was not. News of a later place may
      // have been read before.
      call.entryId ??= result;
      // Given up while it was being written: nobody waits for it any more.
      if (!this.pending.has(call)) this.recall(call);
      return;
    }
    if (!this.pending.has(call)) return;
    const { functionName, workflowId } = call.request.ref;
    if (result !== undefined && 'backlog' in result) {
      this.take(call)?.reject(
        new BacklogFullError(functionName, workflowId, result.backlog, this.maxBacklog),
      );
    } else if (isRefused(result)) {
      this.take(call)?.reject(result);
    } else if (!isFunctionsError(result, 'BACKEND_UNAVAILABLE')) {
      this.take(call)?.reject(
        new BackendUnavailableError(
          `Writing the call of ${functionName}`,
          this.backend.address,
          result,
        ),
      );
    } else if (call.request.delivery === 'at-most-once') {
      this.take(call)?.reject(new OutcomeUnknownError(functionName, workflowId, result));
    } else {
      this.logger.warn(`${call.callId} of ${functionName} is written again: ${messageOf(result)}`);
      call.again = true;
      call.entryId = undefined;
      this.parked.push(call);
      // Not at once: a write on a connection that has just ended fails in the same tick, again and again.
      this.clock.after(RETRY_MS, () => this.unpark());
    }
  }

  private unpark(): void {
    if (this.parked.length === 0 || !this.repliesReady || !this.backend.isConnected()) return;
    const calls = this.parked;
    this.parked = [];
    this.write(calls);
  }

  private expire(call: PendingCall): void {
    const { ref, timeoutMs } = call.request;
    const stage =
      call.entryId === undefined
        ? `${NOT_WRITTEN} to ${backendName(this.backend.address)}`
        : 'no worker finished it in time';
    this.giveUp(
      call,
      new DeadlineExceededError(ref.functionName, ref.workflowId, timeoutMs, stage),
    );
  }

  /** Settles with an error, and takes the call out of the stream or tells its worker. */
  private giveUp(call: PendingCall, error: Error): void {
    if (this.take(call) === undefined) return;
    call.reject(error);
    this.givenUp.set(call.callId, call);
    for (const [oldest] of this.givenUp) {
      if (this.givenUp.size <= GIVEN_UP_LIMIT) break;
      this.givenUp.delete(oldest);
    }
    this.recall(call);
  }

  private recall(call: PendingCall): void {
    if (call.entryId === undefined || this.closed) return;
    const { ref, idempotencyKey } = call.request;
    this.backend.calls.cancel(ref, call.entryId, call.callId, idempotencyKey).then(
      (outcome) => this.logger.debug(`${call.callId} given up: ${outcome}`),
      (error: unknown) => {
        if (isRefused(error)) this.tidyTrouble.tell(`calls cannot be taken back: ${error.message}`);
        this.logger.debug(`${call.callId} could not be taken back: ${messageOf(error)}`);
      },
    );
  }

  /** Takes a call out of the table, with everything that could still settle it; `undefined` if it is out. */
  private take(call: PendingCall): PendingCall | undefined {
    if (!this.pending.delete(call)) return undefined;
    if (this.pending.size === 0) processHold.release();
    this.deadlines.remove(call);
    if (call.abort !== undefined) call.request.signal?.removeEventListener('abort', call.abort);
    return call;
  }

  private listen(): void {
    if (this.replies !== undefined) return;
    const replies = this.backend.calls.openReplies(this.processId);
    this.replies = replies;
    this.dispose = this.backend.onConnected(() => this.unpark());
    this.watchdog = this.clock.every(500, () => this.watch(replies));
    this.loop = this.run(replies);
  }

  private async run(replies: ReplyReader): Promise<void> {
    let connection = -1;
    let quiet = false;
    while (!this.closed) {
      try {
        await replies.whenConnected();
        // Looked at on every new connection, and whenever calls are out and nothing comes: FLUSHALL breaks none.
        if (replies.connections() !== connection || (quiet && this.pending.size > 0)) {
          connection = replies.connections();
          if (await replies.ensure()) this.submitForgotten();
        }
        if (!this.repliesReady) {
          this.repliesReady = true;
          this.unpark();
        }
        this.reading = this.clock.now();
        const read = await replies.read(BLOCK_MS);
        this.reading = undefined;
        this.readTrouble.settle();
        this.refusedAt = undefined;
        quiet = read.length === 0;
        for (const reply of read) this.settle(reply);
        // A caller that goes on with another call has it written first: the next read may wait that long.
        if (!quiet) await tickSent();
        this.tidy(replies, read.length);
      } catch (error) {
        this.reading = undefined;
        if (this.closed) return;
        connection = -1;
        this.repliesReady = false;
        if (!isFunctionsError(error, 'BACKEND_UNAVAILABLE'))
          this.readTrouble.tell(messageOf(error));
        if (isRefused(error) && !error.retryable) this.refuse(error);
        await pause(this.clock, RETRY_MS);
      }
    }
  }

  /** Answers may not be read, and that does not pass: nobody should wait for them until the deadline. */
  private refuse(error: Error): void {
    this.refusedAt ??= this.clock.now();
    if (this.clock.now() - this.refusedAt < REFUSED_GRACE_MS) return;
    this.parked = [];
    for (const call of this.pending) this.take(call)?.reject(error);
  }

  /** Redis was emptied: what was written and not answered is written again under its id. */
  private submitForgotten(): void {
    const forgotten = [...this.pending].filter((call) => call.entryId !== undefined);
    if (forgotten.length === 0) return;
    const name = backendName(this.backend.address);
    this.logger.warn(`${name} has forgotten ${forgotten.length} call(s): writing them again`);
    for (const call of forgotten) {
      call.entryId = undefined;
      call.again = true;
      const { ref, delivery } = call.request;
      if (delivery === 'at-least-once') this.parked.push(call);
      else {
        const cause = new Error(`${name} was emptied`);
        this.take(call)?.reject(new OutcomeUnknownError(ref.functionName, ref.workflowId, cause));
      }
    }
    this.unpark();
  }

  /** Drops from the stream what was read: often enough under load, and whenever it is quiet. */
  private tidy(replies: ReplyReader, count: number): void {
    this.readSinceTrim += count;
    if (this.readSinceTrim < TRIM_AFTER && (count > 0 || this.readSinceTrim === 0)) return;
    this.readSinceTrim = 0;
    replies.trim().catch((error: unknown) => {
      if (isRefused(error)) this.tidyTrouble.tell(`replies pile up: ${error.message}`);
      this.logger.debug(`the reply stream could not be trimmed: ${messageOf(error)}`);
    });
  }

  private settle({ callId, reply: text }: RawReply): void {
    const call = this.pending.get(callId);
    if (call === undefined) return this.settleLate(callId, text);
    const reply = parseReply(text);
    if (isMalformed(reply)) {
      this.malformed += 1;
      if (this.malformed === 1)
        this.logger.warn(
          `dropped a reply: ${reply.malformed} (further ones are counted, not logged)`,
        );
      return;
    }
    this.apply(call, reply);
  }

  /** A reply to a call that was settled otherwise; one that tells a new place of a call that was given up ends it there. */
  private settleLate(callId: string, text: string): void {
    this.late += 1;
    const call = this.givenUp.get(callId);
    if (call === undefined) return;
    const reply = parseReply(text);
    if (isMalformed(reply) || reply.kind !== 'moved') return;
    call.entryId = reply.entryId;
    this.recall(call);
  }

  private apply(call: PendingCall, reply: Reply): void {
    switch (reply.kind) {
      case 'progress':
        callIsolated(
          () => call.request.onProgress?.(reply.value),
          (error) => this.logger.error(`onProgress of ${call.callId} failed: ${messageOf(error)}`),
        );
        return;
      case 'moved':
        call.entryId = reply.entryId;
        return;
      case 'result':
        call.entryId = ANSWERED;
        this.take(call)?.resolve({ data: reply.data, workerId: reply.workerId });
        return;
      case 'error':
        call.entryId = ANSWERED;
        this.take(call)?.reject(callerError(call, reply));
    }
  }

  private watch(replies: ReplyReader): void {
    if (this.reading === undefined || this.clock.now() - this.reading < BLOCK_MS + READ_GRACE_MS)
      return;
    this.logger.warn('the read of replies is overdue: making a new connection');
    replies.reset();
  }
}

/** The library's own verdicts come back as their own classes, a handler's errors as RemoteFunctionError. */
function callerError(call: PendingCall, reply: Extract<Reply, { kind: 'error' }>): Error {
  const { functionName, workflowId } = call.request.ref;
  const { code, message, details = {} } = reply.error;
  switch (reply.verdict === true ? code : undefined) {
    case ERROR_CODES.WORKER_LOST:
      return new WorkerLostError(message, details);
    case ERROR_CODES.GENERATION_GONE:
      return new GenerationGoneError(functionName, workflowId, call.request.generation ?? 0);
    case ERROR_CODES.MAX_DELIVERIES:
      return new MaxDeliveriesError(message, details);
    case ERROR_CODES.DEADLINE_EXCEEDED:
      return new DeadlineExceededError(
        functionName,
        workflowId,
        call.request.timeoutMs,
        typeof details['stage'] === 'string' ? details['stage'] : 'on the worker',
      );
    default:
      return new RemoteFunctionError(
        functionName,
        workflowId,
        call.callId,
        reply.workerId,
        reply.error,
      );
  }
}
