import type { Backend } from '../../backend/backend.js';
import type { Outcome } from '../../backend/call-streams.js';
import { TickBatch } from '../../common/batch.js';
import type { Clock } from '../../common/clock.js';
import { createDeferred, type Deferred } from '../../common/deferred.js';
import { isFunctionsError } from '../../common/errors.js';
import type { Dispose } from '../../common/typed-events.js';

const RETRY_MS = 20;

/** An outcome and what to do when Redis has carried it out; `owned` is false when it changed nothing. */
export interface PendingOutcome {
  readonly outcome: Outcome;
  readonly done: (owned: boolean) => void;
}

/**
 * Sends outcomes to Redis: those of one tick together, in order, again after a lost connection. Sending one
 * twice is harmless: the call is gone after the first time, and the script says so.
 *
 * Interleaving with a connection that is down: sending fails in the same tick, so sending again is left to
 * the next connection, or to a timer. At once would be a loop that never lets the event loop turn, in which
 * the news of the connection's end waits.
 */
export class Settler {
  private readonly batch = new TickBatch<PendingOutcome>((items) => this.send(items));
  private parked: PendingOutcome[] = [];
  private inFlight = 0;
  private idle: Deferred<void> | undefined;
  private readonly dispose: Dispose;

  constructor(
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly onError: (error: unknown) => void,
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
    this.batch.flush();
    this.forget();
  }

  private send(items: PendingOutcome[]): void {
    this.backend.calls.conclude(items.map(({ outcome }) => outcome)).then(
      (lost) => {
        const gone = lost.length === 0 ? undefined : new Set(lost);
        for (const [index, item] of items.entries()) this.finish(item, gone?.has(index) !== true);
      },
      (error: unknown) => {
        if (!isFunctionsError(error, 'BACKEND_UNAVAILABLE')) {
          this.onError(error);
          for (const item of items) this.finish(item, false);
          return;
        }
        this.parked.push(...items);
        this.clock.after(RETRY_MS, () => this.resend());
      },
    );
  }

  private resend(): void {
    if (this.parked.length === 0 || !this.backend.isConnected()) return;
    const items = this.parked;
    this.parked = [];
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
