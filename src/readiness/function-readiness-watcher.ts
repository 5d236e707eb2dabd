import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import { pause, within, type Clock, type Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import {
  BackendUnavailableError,
  ClosedError,
  InvalidArgumentError,
  isRefused,
} from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import type { Settings } from '../common/settings.js';
import { messageOf, redactUrl, show } from '../common/text.js';
import { TypedEvents, type Dispose } from '../common/typed-events.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';
import type { Keys } from '../protocol/keys.js';
import {
  FunctionWatch,
  type ViewWait,
  type WatchContext,
  type WorkerInfo,
} from './function-watch.js';
import type { WorkerNews } from './readiness-view.js';

/** How long, and until what, to wait. */
export interface WaitOptions {
  /** Milliseconds; default the module's `readinessTimeoutMs` (10 000). */
  readonly timeoutMs?: number | undefined;
  /** Ends the wait with a CallCancelledError. */
  readonly signal?: AbortSignal | undefined;
}

/** What {@link FunctionReadinessWatcher.on} can listen to. */
export interface ReadinessEvents {
  /** Pub/sub is unavailable: the registry is polled. */
  degraded: { readonly functions: number };
  /** Pub/sub is back, and everything was read since. */
  restored: { readonly functions: number };
}

/** Longest wait: what a timer can hold. */
export const MAX_TIMEOUT_MS = 2_147_483_647;
/** Watches with waiters are read at this multiple of the poll interval even when all is well. */
const SAFETY_NET_FACTOR = 10;
/** How long an answer that shall come at once may wait for a connection that is just being made. */
const FIRST_READ_MS = 1_000;
/** A watch of a function that nobody ever registered, and that nobody asked for between two sweeps, is stopped. */
const SWEEP_INTERVAL_MS = 30_000;
/** Other watches that nobody asked for are stopped between two of so many sweeps. */
const KNOWN_SWEEP_FACTOR = 10;
/** Watches that nobody waits on are kept for the next call, up to this many; those used least lately go first. */
export const MAX_IDLE_WATCHES = 2_000;
/** Of functions that nobody ever registered: names may come from outside, and each costs four subscriptions. */
export const MAX_UNKNOWN_WATCHES = 100;
/** Watches are counted each time that so many were made. */
const TRIM_INTERVAL = 50;

/**
 * Waits for functions, and knows from memory who can run them. One {@link FunctionWatch} per function, one
 * Redis subscription per function however many wait, and one timer for all of them.
 *
 * @example
 * ```ts
 * const worker = await watcher.waitForFunction('resize', 'media', { timeoutMs: 5_000, signal });
 * ```
 */
@Injectable()
export class FunctionReadinessWatcher {
  private readonly logger = new Logger('WATCHER');
  private readonly watches = new Map<string, FunctionWatch>();
  private readonly events = new TypedEvents<ReadinessEvents>((event, error) =>
    this.logger.error(`A listener of ${String(event)} failed: ${messageOf(error)}`),
  );
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private readonly context: WatchContext;
  private disposers: Dispose[] = [];
  private sweep: Timer | undefined;
  private polling: Timer | undefined;
  private tick = 0;
  private sweeps = 0;
  private madeSinceTrim = 0;
  /** Counts uses of watches: the order in which they were used last. */
  private uses = 0;
  private usesAtSweep = 0;
  private usesAtFullSweep = 0;
  private degradedTold = false;
  /** When Redis was first seen to be away; absent while it is there. */
  private awaySince: number | undefined;
  private explain: (ref: FunctionRef) => string | undefined = () => undefined;
  private closed = false;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) keys: Keys,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
  ) {
    this.context = {
      notifications,
      workers: backend.workers,
      keys,
      clock,
      debug: (text) => {
        if (Logger.isLevelEnabled('debug')) this.logger.debug(text());
      },
      warn: (text) => this.trouble.tell(text),
      outage: () => this.outage(),
      explain: (ref) => this.explain(ref),
      modeChanged: () => this.tellMode(),
    };
  }

  /** Follows the connection; the module calls it. */
  start(): void {
    this.awayMs();
    // The registry may come back before the subscription does: no reason to wait for the next poll.
    this.disposers = [
      this.backend.onConnected(() => {
        this.awaySince = undefined;
        this.handleReturn();
      }),
    ];
    // A test may have put a stub in its place: then there is no pub/sub, and polling has to do.
    if (this.notifications instanceof NotificationManager) {
      this.disposers.push(
        this.notifications.on('disconnected', () => this.handleLoss()),
        this.notifications.on('connected', () => this.handleReturn()),
      );
    }
    this.sweep = this.clock.every(SWEEP_INTERVAL_MS, () => this.stopUnused());
  }

  /** Listens to the watcher; the result removes the listener. */
  on<K extends keyof ReadinessEvents>(
    event: K,
    listener: (payload: ReadinessEvents[K]) => unknown,
  ): Dispose {
    return this.events.on(event, listener);
  }

  /** Whether readiness runs on polling because pub/sub is unavailable. */
  get degraded(): boolean {
    return this.notifications.state !== 'connected' || this.countPolling() > 0;
  }

  /**
   * Resolves with a healthy worker of the function, at once when one is known, else the moment one is.
   *
   * @param options a timeout in milliseconds (default `readinessTimeoutMs`, 10 000), or {@link WaitOptions}
   * @throws ReadinessTimeoutError, CallCancelledError, BackendRefusedError, InvalidNameError, InvalidArgumentError,
   * ClosedError
   */
  async waitForFunction(
    functionName: string,
    workflowId: string,
    options: number | WaitOptions = {},
  ): Promise<WorkerInfo> {
    const { timeoutMs = this.settings.readinessTimeoutMs, signal } = waitOptions(options);
    assertTimeout('timeoutMs', timeoutMs);
    assertSignal(signal);
    const watch = this.watch(functionRef(functionName, workflowId));
    const wait = watch.wait(timeoutMs, signal);
    this.ensurePolling();
    return wait;
  }

  /**
   * Resolves with what is found in the view of a function: now, or after whichever change brings it.
   *
   * @throws what `late` makes, CallCancelledError, BackendRefusedError, ClosedError
   */
  async until<T>(ref: FunctionRef, wait: ViewWait<T>): Promise<T> {
    const found = this.watch(ref).until(wait);
    this.ensurePolling();
    return found;
  }

  /** The watch of a function, started if there was none. */
  watch(ref: FunctionRef): FunctionWatch {
    if (this.closed) throw new ClosedError('FunctionReadinessWatcher');
    let watch = this.watches.get(ref.id);
    if (watch === undefined) {
      watch = new FunctionWatch(ref, this.context);
      this.watches.set(ref.id, watch);
      void watch.start();
      this.madeSinceTrim += 1;
      if (this.madeSinceTrim >= TRIM_INTERVAL) this.trim();
    }
    watch.lastUse = this.uses += 1;
    return watch;
  }

  /**
   * The watch of a function whose registry was read, for who wants an answer now: from memory when it was read
   * before. While Redis has been away for longer it fails at once; a connection that is just being made, or
   * lost, gets a second.
   *
   * @throws BackendUnavailableError, BackendRefusedError, ClosedError
   */
  async watchSynced(ref: FunctionRef): Promise<FunctionWatch> {
    const watch = this.watch(ref);
    if (watch.view.synced) return watch;
    const unavailable = (): Error => this.outage() ?? this.unavailable(watch.problem());
    const limitMs = FIRST_READ_MS - this.awayMs();
    if (limitMs <= 0) throw unavailable();
    // Subscribing may take longer than that, and must not keep the registry from being read.
    const direct = pause(this.clock, limitMs / 2).then(() =>
      watch.view.synced ? undefined : watch.read(),
    );
    await within(this.clock, limitMs, Promise.race([watch.start(), direct]), unavailable);
    if (!watch.view.synced) throw unavailable();
    return watch;
  }

  /** Takes in what this process changed in the registry: its own view knows it before anybody is told. */
  learn(ref: FunctionRef, news: WorkerNews, definition: string | undefined): void {
    this.watches.get(ref.id)?.learn(news, definition);
  }

  /** Sets what else this process knows about functions that have no worker. */
  explainWith(explain: (ref: FunctionRef) => string | undefined): void {
    this.explain = explain;
  }

  /** Whether the function is watched by this process. */
  isWatching(functionName: string, workflowId: string): boolean {
    return this.watches.has(functionRef(functionName, workflowId).id);
  }

  /** Stops watching; who waits for the function gets a ClosedError. `false` when it was not watched. */
  async stopWatching(functionName: string, workflowId: string): Promise<boolean> {
    const { id } = functionRef(functionName, workflowId);
    const watch = this.watches.get(id);
    if (watch === undefined) return false;
    this.watches.delete(id);
    await watch.stop(
      new ClosedError(
        `The watch of ${functionName} (workflow ${workflowId})`,
        'stopWatching() was called',
      ),
    );
    return true;
  }

  /** Everything that is watched, and how. */
  stats(): { readonly watches: number; readonly waiting: number; readonly polling: number } {
    let waiting = 0;
    for (const watch of this.watches.values()) waiting += watch.waiting;
    return { watches: this.watches.size, waiting, polling: this.countPolling() };
  }

  /** Ends all watches; who waits gets a ClosedError. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    for (const dispose of this.disposers) dispose();
    this.sweep?.cancel();
    this.polling?.cancel();
    const watches = [...this.watches.values()];
    this.watches.clear();
    await Promise.all(
      watches.map((watch) => watch.stop(new ClosedError('FunctionReadinessWatcher'))),
    );
    this.events.clear();
  }

  private outage(): Error | undefined {
    if (this.backend.isConnected()) return undefined;
    const { problem } = this.notifications;
    return this.unavailable(problem === undefined ? undefined : redactUrl(problem));
  }

  private unavailable(cause: unknown): Error {
    return isRefused(cause)
      ? cause
      : new BackendUnavailableError('reading the registry', this.backend.address, cause);
  }

  /** How long Redis has been away, as far as this process noticed. */
  private awayMs(): number {
    if (this.backend.isConnected()) return 0;
    this.awaySince ??= this.clock.now();
    return this.clock.now() - this.awaySince;
  }

  private handleLoss(): void {
    this.awayMs();
    for (const watch of this.watches.values()) watch.degrade();
    this.tellMode();
    this.ensurePolling();
  }

  private handleReturn(): void {
    for (const watch of this.watches.values()) void watch.start();
  }

  /** One timer for all watches, and only while one of them needs it. */
  private ensurePolling(): void {
    if (this.polling !== undefined || this.closed) return;
    this.polling = this.clock.every(this.settings.pollIntervalMs, () => this.poll());
  }

  private poll(): void {
    this.tick += 1;
    this.awayMs();
    const slow = this.tick % SAFETY_NET_FACTOR === 0;
    let needed = false;
    for (const watch of this.watches.values()) {
      const degraded = watch.state === 'polling' || watch.state === 'starting';
      if (!degraded && watch.waiting === 0) continue;
      needed = true;
      if (!(degraded && watch.waiting > 0) && !slow) continue;
      void (degraded && this.notifications.state === 'connected' ? watch.start() : watch.read());
    }
    if (!needed) {
      this.polling?.cancel();
      this.polling = undefined;
    }
  }

  private tellMode(): void {
    const polling = this.countPolling();
    const degraded = polling > 0;
    if (degraded === this.degradedTold) return;
    this.degradedTold = degraded;
    const functions = this.watches.size;
    if (degraded) {
      this.logger.warn(
        `pub/sub is unavailable: ${functions} function(s) are watched by polling every ${this.settings.pollIntervalMs} ms`,
      );
      this.ensurePolling();
      this.events.emit('degraded', { functions });
    } else {
      this.logger.log(`pub/sub is back: ${functions} function(s) are watched by notification`);
      this.events.emit('restored', { functions });
    }
  }

  private countPolling(): number {
    let polling = 0;
    for (const watch of this.watches.values()) if (watch.state === 'polling') polling += 1;
    return polling;
  }

  private stopUnused(): void {
    this.trim();
    this.sweeps += 1;
    const all = this.sweeps % KNOWN_SWEEP_FACTOR === 0;
    for (const watch of this.watches.values()) {
      const since = watch.isUnknown ? this.usesAtSweep : this.usesAtFullSweep;
      if ((all || watch.isUnknown) && watch.isIdle && watch.lastUse <= since) this.drop(watch);
    }
    this.usesAtSweep = this.uses;
    if (all) this.usesAtFullSweep = this.uses;
  }

  /** Keeps the number of idle watches within its bounds. */
  private trim(): void {
    this.madeSinceTrim = 0;
    if (this.watches.size <= MAX_UNKNOWN_WATCHES) return;
    const idle = [...this.watches.values()]
      .filter((watch) => watch.isIdle)
      .sort((a, b) => b.lastUse - a.lastUse);
    const unknown = idle.filter((watch) => watch.isUnknown);
    const known = idle.filter((watch) => !watch.isUnknown);
    for (const watch of unknown.slice(MAX_UNKNOWN_WATCHES)) this.drop(watch);
    for (const watch of known.slice(MAX_IDLE_WATCHES)) this.drop(watch);
  }

  private drop(watch: FunctionWatch): void {
    void this.stopWatching(watch.ref.functionName, watch.ref.workflowId);
  }
}

const WAIT_OPTIONS: ReadonlySet<string> = new Set<keyof WaitOptions>(['timeoutMs', 'signal']);

/** @throws InvalidArgumentError */
export function assertSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new InvalidArgumentError('signal', show(signal), 'an AbortSignal');
}

function waitOptions(options: number | WaitOptions): WaitOptions {
  if (typeof options === 'number') return { timeoutMs: options };
  if (isRecord(options)) {
    assertKnownKeys(options, WAIT_OPTIONS, (key) => `options.${key}`);
    return options;
  }
  throw new InvalidArgumentError(
    'options',
    show(options),
    'a timeout in milliseconds, or { timeoutMs, signal }',
  );
}

/**
 * Refuses what a timer cannot hold.
 *
 * @throws InvalidArgumentError
 */
export function assertTimeout(argument: string, value: unknown): asserts value is number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= MAX_TIMEOUT_MS)
    return;
  throw new InvalidArgumentError(argument, show(value), `milliseconds from 0 to ${MAX_TIMEOUT_MS}`);
}
