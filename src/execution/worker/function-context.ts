import type { Clock, Timer } from '../../common/clock.js';
import { DeadlineExceededError, InvalidArgumentError } from '../../common/errors.js';
import type { FunctionRef } from '../../protocol/function-ref.js';

/** Facts of a call and what a handler can say before it ends. */
export interface ContextChannel {
  readonly ref: FunctionRef;
  readonly callId: string;
  readonly workerId: string;
  readonly item: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly trace: unknown;
  readonly attempt: number;
  /** On this host's clock. */
  readonly deadline: number;
  readonly ttlMs: number;
  readonly clock: Clock;
  progress(value: unknown): void;
  giveAnswer(value: unknown): void;
}

/**
 * What a handler knows of its call: its second argument.
 *
 * @example
 * ```ts
 * @FunctionHandler({ name: 'import', workflowId: 'crm' })
 * async import(input: ImportInput, context: FunctionContext) {
 *   for await (const row of rows(input.url, { signal: context.signal })) context.progress({ row: row.number });
 *   context.return({ accepted: true });     // the caller has its answer; this goes on
 *   await this.reindex();
 * }
 * ```
 */
export class FunctionContext {
  private controller: AbortController | undefined;
  private deadlineTimer: Timer | undefined;
  private abortReason: Error | undefined;
  private answered = false;
  private over = false;

  constructor(private readonly channel: ContextChannel) {}

  /** The call's id: the same for every attempt. */
  get callId(): string {
    return this.channel.callId;
  }

  get functionName(): string {
    return this.channel.ref.functionName;
  }

  get workflowId(): string {
    return this.channel.ref.workflowId;
  }

  /** The worker that runs it. */
  get workerId(): string {
    return this.channel.workerId;
  }

  /** The data item that flows through the workflow. */
  get item(): unknown {
    return this.channel.item;
  }

  /** What the caller sent along. */
  get headers(): Readonly<Record<string, string>> {
    return this.channel.headers;
  }

  /** @internal What its caller's tracing sent along. */
  get trace(): unknown {
    return this.channel.trace;
  }

  /** 1 for the first run; more when a worker of the call was lost, or its handler failed and a retry policy says so. */
  get attempt(): number {
    return this.channel.attempt;
  }

  /** When the caller stops waiting: milliseconds since the epoch, on this host's clock. */
  get deadline(): number {
    return this.channel.deadline;
  }

  /** Whether {@link return} was called. */
  get hasReturned(): boolean {
    return this.answered;
  }

  /** @internal Whether the call is over for its caller or for this worker. */
  get isAborted(): boolean {
    return this.abortReason !== undefined;
  }

  /**
   * Aborts when the call is over for its caller (CallCancelledError, DeadlineExceededError) or for this
   * worker (OwnershipLostError, DrainingError); `signal.reason` says which. Made on first use: a handler that
   * never looks costs no timer.
   */
  get signal(): AbortSignal {
    if (this.controller !== undefined) return this.controller.signal;
    this.controller = new AbortController();
    if (this.abortReason !== undefined) this.controller.abort(this.abortReason);
    else if (!this.over) this.watchDeadline();
    return this.controller.signal;
  }

  /**
   * Sends a value to the caller's `onProgress`. Not durable: a caller that lost its connection may miss it.
   *
   * @throws PayloadNotSerializableError, PayloadTooLargeError
   */
  progress(value: unknown): void {
    if (!this.over && !this.answered) this.channel.progress(value);
  }

  /**
   * Answers the caller now, while the handler goes on ("ReturnFromFunction"). What the handler returns later
   * is ignored; what it throws later is logged. If the worker dies before the handler ends, the call runs
   * again, as any other.
   *
   * @throws PayloadNotSerializableError, PayloadTooLargeError, InvalidArgumentError on a second answer
   */
  return(value: unknown): void {
    if (this.answered) {
      throw new InvalidArgumentError('context.return()', 'called twice', 'one answer per call');
    }
    if (this.over) return;
    this.channel.giveAnswer(value);
    this.answered = true;
  }

  /** @internal Ends the call for the handler. */
  abort(reason: Error): void {
    if (this.abortReason !== undefined || this.over) return;
    this.abortReason = reason;
    this.deadlineTimer?.cancel();
    this.controller?.abort(reason);
  }

  /** @internal The handler is done: nothing is said any more and no timer is left. */
  finish(): void {
    this.over = true;
    this.deadlineTimer?.cancel();
  }

  /** A deadline that has passed aborts at once: who looks first after it must not find the signal silent. */
  private watchDeadline(): void {
    const { ref, ttlMs, clock, deadline } = this.channel;
    const expire = (): void =>
      this.abort(
        new DeadlineExceededError(ref.functionName, ref.workflowId, ttlMs, 'while its handler ran'),
      );
    const leftMs = deadline - clock.now();
    if (leftMs <= 0) expire();
    else this.deadlineTimer = clock.after(Math.min(leftMs, 2_147_483_647), expire);
  }
}
