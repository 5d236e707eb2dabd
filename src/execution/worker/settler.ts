import type { Backend } from '../../backend/backend.js';
import type { Concluded, Outcome } from '../../backend/call-streams.js';
import { TickBatch } from '../../common/batch.js';
import type { Clock, Timer } from '../../common/clock.js';
import { createDeferred, type Deferred } from '../../common/deferred.js';
import { BackendRefusedError, isFunctionsError } from '../../common/errors.js';
import { backendName, messageOf } from '../../common/text.js';
import type { Dispose } from '../../common/typed-events.js';

const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 1_000;

/** An outcome and what to do when Redis has carried it out; `owned` is false when it changed nothing. */
export interface PendingOutcome {
  readonly outcome: Outcome;
  readonly done: (owned: boolean) => void;
}

/**
 * Sends outcomes to Redis: those of one tick together, in order, and again until Redis has carried them out or
 * said that their calls belong to somebody else. Sending one twice is harmless: the call is gone after the
 * first time, and the script says so.
 *
 * Whatever else Redis answers (no connection, full, read-only, busy with a script, a permission taken away) says
 * nothing about the call: as long as its outcome is not carried out it stays this process's, and is not run
 * again by it. Only progress is dropped then, which would pile up.
 *
 * Interleaving of two outcomes of one call (an answer, then the end): while one waits to be sent again, all that
 * follow wait behind it. Else the end could overtake the answer, and remove the call without it.
 *
 * Interleaving with a connection that is down: sending fails in the same tick, so sending again is left to
 * the next connection, or to a timer. At once would be a loop that never lets the event loop turn, in which
 * the news of the connection's end waits.
 */
export class Settler {
  private readonly batch = new TickBatch<PendingOutcome>((items) => this.sendOrPark(items));
  private parked: PendingOutcome[] = [];
  /** What was parked is on its way again, and not carried out yet. */
  private resending = false;
  private timer: Timer | undefined;
  private inFlight = 0;
  private idle: Deferred<void> | undefined;
  private retryMs = FIRST_RETRY_MS;
  /** What was said last of why outcomes wait; said once. */
  private told = '';
  private closed = false;
  private readonly dispose: Dispose;

  constructor(
    private readonly backend: Backend,
    private readonly clock: Clock,
    /** The present session: under the name of a lost one a consumer would come into being again. */
    private readonly consumer: () => string,
    private readonly warn: (text: string) => void,
  ) {
    this.dispose = backend.onConnected(() => this.resend());
  }

  add(outcome: Outcome, done: (owned: boolean) => void): void {
    this.inFlight += 1;
    this.batch.add({ outcome, done });
  }

  /** Resolves when everything added so far was carried out. */
  whenIdle(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    this.idle ??= createDeferred();
    return this.idle.promise;
  }

  /** Forgets what could not be sent: its calls belong to others now. */
  forget(): void {
    const parked = this.parked;
    this.parked = [];
    for (const item of parked) this.finish(item, false);
  }

  close(): void {
    this.dispose();
    this.timer?.cancel();
    this.batch.flush();
    this.closed = true;
    this.forget();
  }

  private sendOrPark(items: PendingOutcome[]): void {
    if (this.parked.length === 0 && !this.resending) this.send(items);
    else this.parked.push(...items);
  }

  private send(items: readonly PendingOutcome[]): void {
    const outcomes = items.map(({ outcome }) => outcome);
    this.backend.calls.conclude(outcomes, this.consumer()).then(
      (concluded) => this.note(items, concluded),
      (error: unknown) => this.park(items, error),
    );
  }

  private carriedOut(): void {
    this.told = '';
    this.retryMs = FIRST_RETRY_MS;
    this.resending = false;
    // What came meanwhile has waited behind it.
    this.resend();
  }

  private note(items: readonly PendingOutcome[], { lost, again, why }: Concluded): void {
    if (lost.length === 0 && again.length === 0) {
      if (why !== '') this.warn(`an answer could not be written: ${why}`);
      for (const item of items) this.finish(item, true);
      if (this.resending) this.carriedOut();
      return;
    }
    const gone = new Set(lost);
    const waiting = new Set(again);
    for (const [index, item] of items.entries())
      if (!waiting.has(index)) this.finish(item, !gone.has(index));
    if (again.length > 0)
      this.park(
        items.filter((_, index) => waiting.has(index)),
        new BackendRefusedError('conclude', this.backend.address, why),
      );
    else if (this.resending) this.carriedOut();
  }

  private park(items: readonly PendingOutcome[], error: unknown): void {
    const away = isFunctionsError(error, 'BACKEND_UNAVAILABLE');
    if (!away && this.told !== messageOf(error)) {
      this.told = messageOf(error);
      const name = backendName(this.backend.address);
      this.warn(`${items.length} outcome(s) wait, ${name} refuses them: ${this.told}`);
    }
    const wasResending = this.resending;
    this.resending = false;
    const kept: PendingOutcome[] = [];
    for (const item of items) {
      if (this.closed || item.outcome.kind === 'progress') this.finish(item, false);
      else kept.push(item);
    }
    // What came while it was on its way again stands behind it; what failed beside it, in its order.
    this.parked = wasResending ? [...kept, ...this.parked] : [...this.parked, ...kept];
    if (this.parked.length === 0) return;
    const { retryMs } = this;
    if (!away) this.retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
    this.timer?.cancel();
    this.timer = this.clock.after(retryMs, () => this.resend());
  }

  private resend(): void {
    if (this.parked.length === 0 || this.resending || !this.backend.isConnected()) return;
    const items = this.parked;
    this.parked = [];
    this.resending = true;
    this.send(items);
  }

  private finish(item: PendingOutcome, owned: boolean): void {
    this.inFlight -= 1;
    item.done(owned);
    if (this.inFlight > 0) return;
    this.idle?.resolve();
    this.idle = undefined;
  }
}
