import type { WorkerStore } from '../backend/worker-store.js';
import type { Clock, Timer } from '../common/clock.js';
import { CallCancelledError, isRefused, ReadinessTimeoutError } from '../common/errors.js';
import { processHold } from '../common/process-hold.js';
import { messageOf, oneLine } from '../common/text.js';
import type { Subscription } from '../notifications/channel-message.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { Keys } from '../protocol/keys.js';
import type { Notification } from '../protocol/notification.js';
import { ReadinessView, type KnownWorker, type WorkerNews } from './readiness-view.js';
import { situationOf } from './situation.js';

/** A worker that can take a call. */
export interface WorkerInfo {
  readonly functionName: string;
  readonly workflowId: string;
  readonly workerId: string;
  readonly epoch: number;
}

/** What a watch needs from its surroundings. */
export interface WatchContext {
  readonly notifications: NotificationManager;
  readonly workers: WorkerStore;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly debug: (text: () => string) => void;
  /** Said once for as long as it is the same. */
  readonly warn: (text: string) => void;
  /** What keeps Redis from being asked; `undefined` while it can be. */
  readonly outage: () => Error | undefined;
  /** What this process knows about a function without a worker besides the registry. */
  readonly explain: (ref: FunctionRef) => string | undefined;
  /** The watch is live now, or is polling now. */
  readonly modeChanged: () => void;
}

/**
 * - `starting`: subscribing, then reading; waiters wait
 * - `live`: subscribed and read since; news arrive as they happen
 * - `polling`: no subscription; the registry is read every `pollIntervalMs`
 * - `stopped`: for good
 */
export type WatchState = 'starting' | 'live' | 'polling' | 'stopped';

/** What somebody waits to find in a view, and for how long. */
export interface ViewWait<T> {
  readonly find: (view: ReadinessView) => T | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** What it ends with when its time is up. */
  readonly late: () => Error;
}

interface Waiter {
  /** Looks whether the view has what it waits for, and ends then. */
  look(view: ReadinessView): boolean;
  reject(error: Error): void;
  release(): void;
}

/**
 * One function as one process watches it: its view, its one subscription, and everyone who waits for it.
 *
 * The hand-shake (promise 2): subscribe, wait for the acknowledgement, read the registry, apply what came in
 * between by (epoch, seq). The interleavings with a worker that becomes ready:
 *
 * 1. ready before the acknowledgement: not heard, but in the registry when it is read after it.
 * 2. ready between acknowledgement and read: heard, and in what is read; the same (epoch, seq) twice.
 * 3. ready while the read is under way: heard; whether what is read has it or not, the view keeps it.
 * 4. ready after the read: heard.
 * 5. the connection breaks anywhere: `connected` is told after every topic is acknowledged anew, and each
 *    starts again with a read. Between loss and return the registry is polled while somebody waits.
 * 6. two reads overtake each other: the one that began earlier is ignored by the view.
 *
 * What this process itself changes in the registry ({@link learn}) comes twice: from the answer to its command,
 * and as news on another connection. Both carry the (epoch, seq) that Redis gave the change, so
 * - answer, then news: the news are stale.
 * - news, then answer: the answer is stale, and what was told since by others stays.
 * - the answer while a read is under way that began before the change: the worker is touched, so the read does
 *   not take it back; a read that began after it has it already.
 * - the answer after another process took the worker's place: the higher epoch stays.
 * - a worker that left has no further change in its epoch, so its leaving counts as the last one, even though
 *   the answer does not say its seq: news of before that are still on their way are stale.
 * A watch that begins after the answer reads the registry, which has the change.
 *
 * Who asks for a read is served by the first one that begins after the question: one may run and one be next,
 * however many ask. (To read until nobody has asked meanwhile would never end under a steady stream of calls.)
 *
 * The definition in the view is stale from a `ready` with another one until a read that began after it. The
 * interleavings with a worker that brings another definition:
 *
 * 7. heard while a read is under way: what that read brings may be older, so it changes nothing; the next one,
 *    which `hear` asks for, brings the definition.
 * 8. heard before a read begins: that read brings the definition, and ends it.
 * 9. read before it is heard: its fingerprint is the view's already, and nothing is stale.
 * 10. heard again, with a third definition, while the read for the second is under way: as 7.
 *
 * Such a read begins when those whom the news released have gone on, unless one of them has begun it by then.
 */
export class FunctionWatch {
  readonly view = new ReadinessView();
  /** Set by the watcher at every use, in the order of use; a watch that nobody uses is stopped. */
  lastUse = 0;
  private current: WatchState = 'starting';
  private readonly waiters = new Set<Waiter>();
  private subscription: Subscription | undefined;
  private subscribing: Promise<void> | undefined;
  private reading: Promise<void> | undefined;
  private nextRead: Promise<void> | undefined;
  /** How many definitions were heard of that the view did not have, and how many of them it has by now. */
  private redefined = 0;
  private redefinedRead = 0;
  /** How many of them were heard of when the last read began. */
  private beganFor = 0;
  private readProblem: unknown;

  constructor(
    readonly ref: FunctionRef,
    private readonly context: WatchContext,
  ) {}

  get state(): WatchState {
    return this.current;
  }

  get waiting(): number {
    return this.waiters.size;
  }

  /** Whether nobody waits on it, nor for its first read: it can be stopped. */
  get isIdle(): boolean {
    return this.waiters.size === 0 && this.current !== 'starting';
  }

  /** Whether nobody ever registered the function, as far as is known. */
  get isUnknown(): boolean {
    return this.view.definition === undefined && this.view.registered === 0;
  }

  /** Whether the definition in the view is the one that the newest worker registered. */
  get definitionKnown(): boolean {
    return this.view.synced && this.redefinedRead === this.redefined;
  }

  /** Subscribes and reads; safe to call again after a failure. Settles when the first read is done or failed. */
  async start(): Promise<void> {
    if (this.current === 'stopped') return;
    if (this.subscription === undefined) {
      this.subscribing ??= this.subscribe();
      await this.subscribing;
    }
    await this.read();
  }

  /** The subscription is gone until {@link start} is called again by the watcher. */
  degrade(): void {
    if (this.current === 'live' || this.current === 'starting') this.transition('polling');
  }

  /** Resolves with a healthy worker: from memory, or when one becomes ready. */
  wait(timeoutMs: number, signal: AbortSignal | undefined): Promise<WorkerInfo> {
    const { functionName, workflowId } = this.ref;
    return this.until({
      find: (view) => {
        const worker = view.firstHealthy();
        return worker === undefined ? undefined : this.describe(worker);
      },
      timeoutMs,
      signal,
      late: () =>
        new ReadinessTimeoutError(
          functionName,
          workflowId,
          timeoutMs,
          this.situation(),
          this.problem(),
        ),
    });
  }

  /** Resolves with what is found in the view: now, or after whichever change brings it. */
  until<T>({ find, timeoutMs, signal, late }: ViewWait<T>): Promise<T> {
    const { functionName, workflowId } = this.ref;
    if (signal?.aborted === true) {
      return Promise.reject(new CallCancelledError(functionName, workflowId, signal.reason));
    }
    const found = find(this.view);
    if (found !== undefined) return Promise.resolve(found);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { look, reject: end, release: () => undefined };
      const { waiters } = this;
      function end(error: Error): void {
        waiters.delete(waiter);
        waiter.release();
        reject(error);
      }
      const timer = this.context.clock.after(timeoutMs, () => end(late()));
      const abort = (): void =>
        end(new CallCancelledError(functionName, workflowId, signal?.reason));
      signal?.addEventListener('abort', abort, { once: true });
      waiter.release = releaser(timer, signal, abort);
      waiters.add(waiter);
      function look(view: ReadinessView): boolean {
        const value = find(view);
        if (value === undefined) return false;
        waiters.delete(waiter);
        waiter.release();
        resolve(value);
        return true;
      }
      this.context.debug(
        () =>
          `waiting for ${this.name()} (${this.waiters.size} waiting, ${this.current}): ${this.situation()}`,
      );
    });
  }

  /** What keeps the registry from being read; `undefined` when what is known is up to date. */
  problem(): unknown {
    return this.context.outage() ?? (this.view.synced ? undefined : this.readProblem);
  }

  /** Why nobody can take a call, for errors. */
  situation(): string {
    const { view, ref } = this;
    const problem = this.problem();
    const known =
      this.context.explain(ref) ??
      (view.synced ? situationOf(view.workers(), view.definition) : undefined);
    if (problem === undefined) return known ?? 'the registry could not be read yet';
    return known === undefined
      ? `the registry could not be read: ${messageOf(problem)}`
      : `${known} (as far as it is known here: ${messageOf(problem)})`;
  }

  /** Reads the registry once more: the safety net, and the way without pub/sub. */
  read(): Promise<void> {
    if (this.reading === undefined) return this.beginRead();
    // What is being read may be older than what the caller of this wants to see.
    this.nextRead ??= this.reading.then(() => {
      this.nextRead = undefined;
      return this.reading ?? this.beginRead();
    });
    return this.nextRead;
  }

  /**
   * Takes in what this process changed in the registry, without waiting for the news of it.
   *
   * @param definition fingerprint of the definition that a worker registered; `undefined` when it did not register
   */
  learn(news: WorkerNews, definition: string | undefined): void {
    if (this.isStopped()) return;
    const applied = this.view.applyNews(news);
    const released = applied === 'applied' ? this.settleWaiters() : 0;
    this.context.debug(
      () =>
        `${news.workerId} is ${news.status} for ${this.name()}, by this process: ${applied}${releasing(released)}`,
    );
    if (definition !== undefined) this.followDefinition(definition);
  }

  /** Ends the watch; everyone who waits gets `error`. */
  async stop(error: Error): Promise<void> {
    if (this.current === 'stopped') return;
    this.transition('stopped');
    this.rejectWaiters(error);
    await this.subscription?.unsubscribe();
  }

  /** It will be refused again: nobody should wait for that. */
  private refuse(error: Error): void {
    this.context.warn(error.message);
    this.rejectWaiters(error);
  }

  private rejectWaiters(error: Error): void {
    for (const waiter of [...this.waiters]) waiter.reject(error);
  }

  private async subscribe(): Promise<void> {
    const { notifications, keys } = this.context;
    const channels = keys.channels(this.ref).map((channel) => keys.unprefixed(channel));
    try {
      const subscription = await notifications.subscribeAll<Notification>(channels, ({ data }) =>
        this.hear(data),
      );
      if (this.isStopped()) await subscription.unsubscribe();
      else this.subscription = subscription;
    } catch (error) {
      this.context.debug(() => `${this.name()} cannot be subscribed to: ${messageOf(error)}`);
      this.degrade();
    } finally {
      this.subscribing = undefined;
    }
  }

  private beginRead(): Promise<void> {
    if (this.isStopped()) return Promise.resolve();
    this.reading = this.readOnce().finally(() => (this.reading = undefined));
    return this.reading;
  }

  private async readOnce(): Promise<void> {
    const sync = this.view.beginSync();
    const redefined = (this.beganFor = this.redefined);
    try {
      const snapshot = await this.context.workers.snapshot(this.ref);
      this.view.applySnapshot(snapshot, sync);
      this.readProblem = undefined;
      this.redefinedRead = redefined;
    } catch (error) {
      this.view.abandonSync(sync);
      this.readProblem = error;
      this.context.debug(
        () => `the registry could not be read for ${this.name()}: ${messageOf(error)}`,
      );
      this.degrade();
      if (isRefused(error) && !error.retryable) this.refuse(error);
      return;
    }
    if (this.isStopped()) return;
    const subscribed =
      this.subscription !== undefined && this.context.notifications.state === 'connected';
    if (subscribed) this.transition('live');
    else this.degrade();
    const released = this.settleWaiters();
    if (released > 0) this.context.debug(() => `${this.name()} was read${releasing(released)}`);
  }

  private hear(notification: Notification): void {
    if (this.isStopped()) return;
    const applied = this.view.applyNotification(notification);
    const released = applied === 'applied' ? this.settleWaiters() : 0;
    this.context.debug(
      () =>
        `${notification.type} of ${oneLine(notification.workerId)} for ${this.name()}: ${applied}${releasing(released)}`,
    );
    if (applied === 'unknown-worker') void this.read();
    if (notification.type === 'ready') this.followDefinition(notification.definition ?? '');
  }

  private followDefinition(fingerprint: string): void {
    if (fingerprint === this.view.fingerprint) return;
    this.redefined += 1;
    // Who was released goes on first: the command that begins a read takes four times as long as a release.
    setImmediate(() => {
      if (this.beganFor !== this.redefined) void this.read();
    });
  }

  /** Lets those go on who find what they wait for; how many they were. */
  private settleWaiters(): number {
    if (this.waiters.size === 0) return 0;
    return [...this.waiters].filter((waiter) => waiter.look(this.view)).length;
  }

  private describe(worker: KnownWorker): WorkerInfo {
    const { functionName, workflowId } = this.ref;
    return { functionName, workflowId, workerId: worker.workerId, epoch: worker.epoch };
  }

  private isStopped(): boolean {
    return this.current === 'stopped';
  }

  private transition(to: WatchState): void {
    const from = this.current;
    if (from === to) return;
    this.current = to;
    this.context.debug(() => `${this.name()}: ${from} -> ${to}`);
    // The end of a watch says nothing about pub/sub.
    if (to !== 'stopped') this.context.modeChanged();
  }

  private name(): string {
    return `${this.ref.functionName} (workflow ${this.ref.workflowId})`;
  }
}

function releasing(waiters: number): string {
  return waiters === 0 ? '' : `, releases ${waiters} waiter(s)`;
}

function releaser(timer: Timer, signal: AbortSignal | undefined, abort: () => void): () => void {
  processHold.take();
  return () => {
    processHold.release();
    timer.cancel();
    signal?.removeEventListener('abort', abort);
  };
}
