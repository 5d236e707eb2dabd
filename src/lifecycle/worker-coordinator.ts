import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { reachable } from '../backend/reachable.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import type { ProcessSession, WorkerChange, WorkerOwner } from '../backend/worker-store.js';
import { holdingProcess, pause, within, type Clock, type Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { createDeferred } from '../common/deferred.js';
import {
  BackendUnavailableError,
  ClosedError,
  isRefused,
  WorkerNotRegisteredError,
} from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import { TypedEvents, type Dispose } from '../common/typed-events.js';
import { NotificationManager, type Subscription } from '../notifications/notification-manager.js';
import { definitionFingerprint } from '../protocol/definition.js';
import { encodeName, type FunctionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';
import type { Keys } from '../protocol/keys.js';
import type { WorkerRecord } from '../protocol/worker-record.js';
import type { WorkerNews } from '../readiness/readiness-view.js';
import { EventLoopProbe } from './event-loop-probe.js';
import { HealthNews } from './health-news.js';
import { LocalWorkers, type LocalRegistration, type LocalWorker } from './local-workers.js';
import { RedisClock } from './redis-clock.js';
import { Supervisor } from './supervisor.js';
import type { DrainReport, SessionFate, WorkSource } from './work-source.js';

/**
 * - `idle`: not started
 * - `joining`: taking a lease and registering, again and again until Redis lets it
 * - `active`: lease held, all workers registered
 * - `draining`: workers announced their leaving; nothing new is taken
 * - `stopped`: for good
 */
export type CoordinatorState = 'idle' | 'joining' | 'active' | 'draining' | 'stopped';

/** What {@link WorkerCoordinator.on} can listen to. */
export interface CoordinatorEvents {
  /** Any change of {@link WorkerCoordinator.state}. */
  state: { readonly from: CoordinatorState; readonly to: CoordinatorState };
  /** A worker of this process is registered (again). */
  registered: { readonly ref: FunctionRef; readonly workerId: string; readonly epoch: number };
  /**
   * The registry has a change that this process made, and it is told to everybody. Emitted before the promise of
   * the change resolves; `definition` is set when the worker registered.
   */
  told: {
    readonly ref: FunctionRef;
    readonly news: WorkerNews;
    readonly definition: string | undefined;
  };
  /** The lease had run out: calls may have been handed over, everything registers anew. */
  lost: { readonly sessionId: string };
}

/** A beat may fail twice before the lease is in danger. */
const BEATS_PER_LEASE = 4;
const RETRY_MS = 200;
/** Each step of a leave waits this long for Redis to come back; who is left finds out by presence and lease. */
const LEAVE_WAIT_MS = 1_000;
const BOOT_WAIT_MS = 2_000;
/** How often Redis's clock is measured before the first call can come, at the most. */
const CLOCK_SAMPLES = 4;
/** Own records that are compared with the registry once per lease, in turn. */
const RECORDS_PER_AUDIT = 4;
const REGISTER_WAIT_MS = 6_000;

/**
 * The life of this process in the fleet: lease, presence, heartbeat, its workers' registrations, drain, and
 * its part in the supervision.
 *
 * Order of a start (promise 1): presence, lease, consumer groups, read, and only then `register`, which
 * tells `ready`. Order of a leave (promise 9): `shutdown` told, reading stopped, calls finished or handed
 * back, `offline` told, lease given back, presence last (a supervisor that finds no presence finds no
 * session either).
 *
 * Interleavings with the loss of the lease:
 * - The heartbeat finds that it was declared dead: what runs is aborted, its calls were or will be handed over
 *   by the supervisor; everything registers under a new session, whose consumer name is new too, so the old
 *   one's calls cannot be mixed with the new one's.
 * - It finds that Redis was emptied: nobody has its calls. What runs goes on, and answers the call that its
 *   caller writes again.
 * - Loss while draining: the calls were handed over; the drain goes on with nothing to finish.
 * - A worker that had said it is unhealthy stays paused all through the join: beginning to read does not lift
 *   a pause, so there is no moment between the read and its repeated `health` in which it takes a call.
 * - Loss is found while a join is under way: the join starts again; there is one join at a time.
 *
 * Called by: the module's lifecycle hooks, FunctionLifecycleNotifier, EnhancedFunctionRegistry.
 */
@Injectable()
export class WorkerCoordinator {
  /** This process, for its whole life; also the name of its reply stream. */
  readonly processId = `${encodeName(hostname())
    .replace(/[^A-Za-z0-9._%-]/g, '-')
    .slice(0, 80)}-${process.pid}-${randomBytes(4).toString('hex')}`;
  private readonly logger = new Logger('COORDINATOR');
  private readonly lifecycle = new Logger('LIFECYCLE');
  private readonly beatTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly healthTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly presenceTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly local = new LocalWorkers();
  private readonly events = new TypedEvents<CoordinatorEvents>((event, error) =>
    this.logger.error(`A listener of ${String(event)} failed: ${messageOf(error)}`),
  );
  private readonly supervisor: Supervisor;
  private readonly health: HealthNews;
  private readonly loop: EventLoopProbe;
  private readonly firstActive = createDeferred();
  private current: CoordinatorState = 'idle';
  private work: WorkSource | undefined;
  private startNow: () => Promise<void> = () => this.start();
  private hosts: (ref: FunctionRef) => boolean = () => false;
  private session: ProcessSession | undefined;
  private presence: Subscription | undefined;
  private sessions = 0;
  private heart: Timer | undefined;
  private beats = 0;
  /** When the lease was kept last, on this host's clock. */
  private beatAt = 0;
  private readonly redisClock = new RedisClock();
  private beating: Promise<void> | undefined;
  private joining: Promise<void> | undefined;
  private drained: Promise<DrainReport> | undefined;
  private readonly stopping = new AbortController();
  private dispose: Dispose | undefined;
  private active = false;
  private leftNothing = true;
  private audited = 0;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
  ) {
    this.supervisor = new Supervisor(backend, clock, settings.maxDeliveries);
    this.loop = new EventLoopProbe(clock);
    this.health = new HealthNews(backend.bus, notifications, keys, this.local);
    this.firstActive.promise.catch(() => undefined);
  }

  get state(): CoordinatorState {
    return this.current;
  }

  /** The default workerId of this process. */
  get workerId(): string {
    return this.settings.workerId;
  }

  /** Whether this process is the one that finds the dead. */
  get isSupervisor(): boolean {
    return this.supervisor.isElected;
  }

  /** Whether this process was registered at least once. */
  get wasActive(): boolean {
    return this.active;
  }

  /** Redis's clock minus this host's, in milliseconds, as it was measured last. */
  get redisOffsetMs(): number | undefined {
    return this.redisClock.offsetMs;
  }

  /** Milliseconds since the lease was kept last; 0 before there was one. */
  get sinceBeatMs(): number {
    return this.beatAt === 0 ? 0 : Math.max(0, this.clock.now() - this.beatAt);
  }

  /** How late this process's timers run, in milliseconds. */
  get eventLoopLagMs(): number {
    return this.loop.lagMs;
  }

  /** Listens to the coordinator; the result removes the listener. */
  on<K extends keyof CoordinatorEvents>(
    event: K,
    listener: (payload: CoordinatorEvents[K]) => unknown,
  ): Dispose {
    return this.events.on(event, listener);
  }

  /** Workers of this process. */
  workers(): LocalWorker[] {
    return this.local.describe();
  }

  /** Gives the coordinator what takes calls; before {@link start}. */
  attach(work: WorkSource): void {
    this.work = work;
    work.onTrouble(() => void this.beat());
  }

  /** Sets what starts the process when a worker is registered before the application is up. */
  onEarlyRegistration(start: () => Promise<void>): void {
    this.startNow = start;
  }

  /** Sets what says which functions this process will host once it starts. */
  announce(hosts: (ref: FunctionRef) => boolean): void {
    this.hosts = hosts;
  }

  /** Whether this process hosts the function and has not begun to register. */
  willHost(ref: FunctionRef): boolean {
    return this.current === 'idle' && this.hosts(ref);
  }

  /** Announces functions that this process hosts under its default workerId; before {@link start}. */
  host(functions: readonly { readonly ref: FunctionRef; readonly definition: string }[]): void {
    for (const { ref, definition } of functions)
      this.local.remember(ref, this.workerId, definition);
  }

  /**
   * Joins the fleet and registers what is hosted. Resolves when done, or after 2 s without Redis, and goes
   * on in the background then: an application boots, and says in /health that it is not ready. The wait keeps
   * the process alive: without a connection nothing else may, and a boot would end without a word.
   */
  async start(): Promise<void> {
    if (this.current !== 'idle') return;
    this.loop.start();
    const disposers = [
      this.backend.onConnected(() => {
        void this.tellPresence();
        void this.beat();
      }),
    ];
    // A test may have put a stub in its place: then there is no presence, and the lease has to do.
    if (this.notifications instanceof NotificationManager) {
      disposers.push(
        this.notifications.on('state', () => void this.tellPresence()),
        this.notifications.on('connected', () => void this.auditAll()),
      );
    }
    this.dispose = () => disposers.forEach((dispose) => dispose());
    await holdingProcess(
      BOOT_WAIT_MS,
      within(
        this.clock,
        BOOT_WAIT_MS,
        this.join(),
        () => new BackendUnavailableError('joining', this.backend.address),
      ).catch((error: unknown) =>
        this.logger.warn(
          `${messageOf(error)} The application starts; its functions register when Redis answers.`,
        ),
      ),
    );
  }

  /** Resolves when this process is registered for the first time. */
  whenActive(): Promise<void> {
    return this.firstActive.promise;
  }

  /**
   * Registers a worker of this process for a function and tells `ready`, after its group exists and its read
   * is in place (when this process has a handler for it). Before the application is up it starts the process
   * at once: it is the application that says that it is ready. Without Redis it fails after 6 s, and the
   * worker is registered when Redis comes.
   *
   * @param definition the function's definition as JSON; `''` keeps what is stored
   */
  async registerWorker(
    ref: FunctionRef,
    workerId: string,
    definition: string,
  ): Promise<WorkerRecord> {
    return this.local.exclusive(ref, workerId, () =>
      this.registerExclusively(ref, workerId, definition),
    );
  }

  private async registerExclusively(
    ref: FunctionRef,
    workerId: string,
    definition: string,
  ): Promise<WorkerRecord> {
    this.assertOpen();
    const registration = this.local.remember(ref, workerId, definition);
    this.follow(ref);
    if (this.current === 'idle') await this.startNow();
    await within(
      this.clock,
      REGISTER_WAIT_MS,
      this.firstActive.promise,
      () => new BackendUnavailableError('register', this.backend.address),
    );
    await this.joining;
    const moved = await within(
      this.clock,
      REGISTER_WAIT_MS,
      this.work?.begin([ref]) ?? Promise.resolve([]),
      () => new BackendUnavailableError('register', this.backend.address),
    );
    try {
      await this.registerAgain(moved);
      return await this.register(registration);
    } catch (error) {
      // The session may be lost: the heartbeat finds out, and the join that follows registers it.
      void this.beat();
      throw error;
    }
  }

  /** Removes a worker and tells `offline`. `false` when it was not registered. */
  unregisterWorker(ref: FunctionRef, workerId: string, reason: string): Promise<boolean> {
    return this.local.exclusive(ref, workerId, () => this.remove(ref, workerId, reason));
  }

  private async remove(ref: FunctionRef, workerId: string, reason: string): Promise<boolean> {
    const registration = this.local.find(ref, workerId);
    if (registration !== undefined) {
      this.local.forget(ref, workerId);
      // Another worker of the function here may be unhealthy for now: it goes on reading when it is healthy.
      if (this.local.offers(ref)) this.follow(ref);
      else await this.work?.end(ref, this.settings.drainTimeoutMs);
    }
    const removed = await this.tellOffline(ref, workerId, registration, reason);
    this.lifecycle.debug(`${workerId} of ${label(ref)} is offline (${reason})`);
    return removed;
  }

  /**
   * Says that a worker is healthy or not. Its process stops (or resumes) taking calls of the function before
   * the registry and everybody else know.
   *
   * @throws WorkerNotRegisteredError
   */
  async changeHealth(
    ref: FunctionRef,
    workerId: string,
    healthy: boolean,
    reason: string,
  ): Promise<WorkerRecord> {
    const registration = this.local.find(ref, workerId);
    if (registration !== undefined) {
      this.applyHealth(registration, healthy, reason);
      registration.untold = true;
    }
    const change = healthy
      ? ({ kind: 'healthy' } as const)
      : ({ kind: 'unhealthy', reason } as const);
    const record = await this.change(ref, workerId, registration, change);
    if (registration !== undefined) this.adopt(registration, record);
    if (healthy) this.lifecycle.debug(`${workerId} of ${label(ref)} is healthy`);
    else
      this.lifecycle.warn(
        `${workerId} of ${label(ref)} is unhealthy (${reason}) and takes no calls`,
      );
    return record;
  }

  /**
   * Tells that a worker is about to leave, and stops taking calls of the function here.
   *
   * @throws WorkerNotRegisteredError
   */
  async announceShutdown(
    ref: FunctionRef,
    workerId: string,
    estimatedDowntimeMs: number,
  ): Promise<WorkerRecord> {
    const registration = this.local.find(ref, workerId);
    if (registration !== undefined) registration.status = 'draining';
    this.follow(ref);
    const record = await this.change(ref, workerId, registration, {
      kind: 'draining',
      estimatedDowntimeMs,
    });
    this.lifecycle.debug(
      `${workerId} of ${label(ref)} is shutting down, back in about ${estimatedDowntimeMs} ms`,
    );
    return record;
  }

  /** A graceful leave of one worker from one function: shutdown told, drained, offline told. */
  async coordinateShutdown(ref: FunctionRef, workerId: string): Promise<DrainReport> {
    return this.local.exclusive(ref, workerId, async () => {
      await this.announceShutdown(ref, workerId, this.settings.drainTimeoutMs);
      const nothing: DrainReport = { finished: 0, handedBack: 0 };
      const drains = this.local.find(ref, workerId) !== undefined && !this.local.takesCalls(ref);
      const report = drains ? await this.work?.end(ref, this.settings.drainTimeoutMs) : nothing;
      await this.remove(ref, workerId, 'shutdown');
      return report ?? nothing;
    });
  }

  /**
   * Drains every worker of this process: shutdown told, reading stopped, calls finished within
   * `drainTimeoutMs`, the rest handed back, offline told. The process can still call. Safe to call twice.
   */
  drain(): Promise<DrainReport> {
    this.drained ??= this.drainOnce();
    return this.drained;
  }

  /** Leaves the fleet; {@link drain} first. */
  async stop(): Promise<void> {
    if (this.current === 'stopped') return;
    await this.drain();
    this.transition('stopped');
    this.firstActive.reject(new ClosedError('WorkerCoordinator'));
    this.heart?.cancel();
    this.loop.stop();
    this.dispose?.();
    await this.beating;
    await this.supervisor.stop();
    await this.work?.close();
    if (!this.leftNothing || this.work?.leftNothing === false) {
      // Gone without its lease given back, the session is found dead, and its calls and records with it.
      this.logger.warn('not everything could be handed back: the supervisor will');
    } else if (this.session !== undefined && this.backend.isConnected()) {
      await this.backend.workers
        .leave(this.session)
        .catch((error: unknown) =>
          this.logger.debug(`the lease could not be given back: ${messageOf(error)}`),
        );
    }
    await this.presence?.unsubscribe();
    this.events.clear();
  }

  private async drainOnce(): Promise<DrainReport> {
    const registered = this.local.all();
    const started = this.clock.now();
    this.stopping.abort();
    if (this.current === 'idle') return { finished: 0, handedBack: 0 };
    this.transition('draining');
    // The join sees that it should stop between its steps; each of them is bounded, all of them together not.
    await within(
      this.clock,
      LEAVE_WAIT_MS,
      this.joining ?? Promise.resolve(),
      () => new ClosedError('join'),
    ).catch(() => undefined);
    for (const registration of registered) registration.status = 'draining';
    const leaving = {
      kind: 'draining',
      estimatedDowntimeMs: this.settings.drainTimeoutMs,
    } as const;
    await this.each(registered, 'announce the shutdown', (registration) =>
      this.tellChange(registration.ref, registration.workerId, registration, leaving),
    );
    const report = (await this.work?.drain(this.settings.drainTimeoutMs)) ?? {
      finished: 0,
      handedBack: 0,
    };
    await this.each(registered, 'tell offline', (registration) =>
      this.tellOffline(registration.ref, registration.workerId, registration, 'shutdown'),
    );
    this.local.clear();
    if (registered.length > 0) {
      this.logger.debug(
        `drained ${registered.length} worker(s) in ${this.clock.now() - started} ms: ${report.finished} call(s) ` +
          `finished, ${report.handedBack} handed back`,
      );
    }
    return report;
  }

  /** @throws WorkerNotRegisteredError */
  private async change(
    ref: FunctionRef,
    workerId: string,
    registration: LocalRegistration | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord> {
    const record = await this.tellChange(ref, workerId, registration, change);
    if (record === undefined)
      throw new WorkerNotRegisteredError(ref.functionName, ref.workflowId, workerId);
    return record;
  }

  private async tellChange(
    ref: FunctionRef,
    workerId: string,
    registration: LocalRegistration | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord | undefined> {
    const epoch = registration?.epoch;
    const record = await this.backend.workers.change(ref, workerId, epoch, change);
    if (record === undefined) return undefined;
    if (registration !== undefined) registration.seq = record.seq;
    this.events.emit('told', { ref, news: newsOf(record), definition: undefined });
    return record;
  }

  private async tellOffline(
    ref: FunctionRef,
    workerId: string,
    registration: LocalRegistration | undefined,
    reason: string,
  ): Promise<boolean> {
    const owner = ownerOf(registration, this.session);
    const removed = await this.backend.workers.unregister(ref, workerId, owner, reason);
    // Nothing can come after it in its epoch. Of another process's worker the epoch is not known here, and its
    // news have to say it.
    if (removed && owner.epoch !== undefined) {
      const news = { workerId, epoch: owner.epoch, seq: Infinity, timestamp: 0, reason } as const;
      this.events.emit('told', { ref, news: { ...news, status: 'gone' }, definition: undefined });
    }
    return removed;
  }

  /** Does something for every worker that the registry has; a failure is said and stops nobody else. */
  private async each(
    registrations: readonly LocalRegistration[],
    what: string,
    task: (registration: LocalRegistration) => Promise<unknown>,
  ): Promise<void> {
    const registered = registrations.filter(({ epoch }) => epoch !== undefined);
    if (registered.length === 0) return;
    if (!(await reachable(this.backend, this.clock, LEAVE_WAIT_MS))) {
      this.logger.warn(`could not ${what} of ${registered.length} worker(s): Redis is away`);
      this.leftNothing = false;
      return;
    }
    await Promise.all(
      registered.map((registration) =>
        task(registration).catch((error: unknown) => {
          this.leftNothing = false;
          this.logger.warn(`could not ${what} of ${label(registration.ref)}: ${messageOf(error)}`);
        }),
      ),
    );
  }

  /** One join at a time: who finds the session lost while one is under way waits for that one. */
  private join(): Promise<void> {
    this.joining ??= this.joinUntilDone().finally(() => (this.joining = undefined));
    return this.joining;
  }

  private async joinUntilDone(): Promise<void> {
    this.transition('joining');
    const trouble = new Complaint((text) => this.logger.warn(`joining the fleet failed: ${text}`));
    for (let attempt = 1; !this.stopping.signal.aborted; attempt += 1) {
      try {
        await this.joinOnce();
        if (this.stopping.signal.aborted) return;
        this.transition('active');
        this.active = true;
        this.firstActive.resolve();
        return;
      } catch (error) {
        // Another connection that fails in another way is no news; that Redis refuses it is.
        if (attempt === 1 || isRefused(error)) trouble.tell(messageOf(error));
        this.logger.debug(`joining the fleet failed (attempt ${attempt}): ${messageOf(error)}`);
        await this.undoJoin();
        await pause(this.clock, RETRY_MS, this.stopping.signal);
      }
    }
  }

  private async joinOnce(): Promise<void> {
    const sessionId = `${this.processId}.${(this.sessions += 1)}`;
    const before = this.presence;
    this.presence = await this.appear(sessionId);
    await before?.unsubscribe();
    const sentAt = this.clock.now();
    const session = await this.backend.workers.join(
      sessionId,
      this.settings.leaseMs,
      this.presence !== undefined,
    );
    this.session = session;
    this.beatAt = this.clock.now();
    // Deadlines are on Redis's clock: how far this host's is off has to be known before the first call comes.
    const offsetMs = await this.measureClock(session, sentAt, this.beatAt);
    this.heart ??= this.clock.every(
      this.settings.leaseMs / BEATS_PER_LEASE,
      () => void this.beat(),
    );
    if (this.settings.supervise) this.supervisor.start(sessionId);
    this.work?.open(sessionId, offsetMs);
    const registrations = this.local.all();
    await this.work?.begin(this.local.functions());
    if (this.stopping.signal.aborted) return;
    await Promise.all(registrations.map((registration) => this.register(registration)));
    this.logger.debug(`joined as ${sessionId} with ${registrations.length} worker(s)`);
  }

  /** The join told Redis's time; a process that is just starting may have heard the answer late. */
  private async measureClock(
    session: ProcessSession,
    joinedAt: number,
    answeredAt: number,
  ): Promise<number> {
    let offsetMs = this.redisClock.note(session.epoch, joinedAt, answeredAt);
    for (let sample = 1; sample < CLOCK_SAMPLES && !this.redisClock.isGood; sample += 1) {
      const sentAt = this.clock.now();
      const { timestamp } = await this.backend.workers.heartbeat(
        session,
        this.processId,
        this.settings.leaseMs,
      );
      offsetMs = this.redisClock.note(timestamp, sentAt, this.clock.now());
    }
    return offsetMs;
  }

  /** A join that failed half way: what it opened goes, and the next one starts with a session of its own. */
  private async undoJoin(): Promise<void> {
    const session = this.session;
    this.session = undefined;
    this.local.markUnregistered();
    await this.work?.abandon('condemned');
    if (session === undefined || !this.backend.isConnected()) return;
    await this.backend.workers.leave(session).catch(() => undefined);
  }

  /** The presence, in place; without pub/sub there is none, and only the lease proves this process's life. */
  private async appear(sessionId: string): Promise<Subscription | undefined> {
    try {
      return await this.notifications.subscribe(this.controlChannel(sessionId), ({ data }) =>
        this.obey(data),
      );
    } catch (error) {
      if (!this.backend.isConnected()) throw error;
      this.presenceTrouble.tell(
        `no presence for want of pub/sub, the lease has to do: ${messageOf(error)}`,
      );
      return undefined;
    }
  }

  /**
   * Pub/sub came or went while the process lives: it says so on the command connection, and is not missed.
   * A killed process cannot say it, which is what makes a missing presence a proof.
   */
  private async tellPresence(): Promise<void> {
    const session = this.session;
    if (session === undefined || this.current === 'stopped' || !this.backend.isConnected()) return;
    const connected = this.notifications.state === 'connected';
    try {
      if (connected) this.presence ??= await this.appear(session.sessionId);
      await this.backend.workers.setPresence(session, connected && this.presence !== undefined);
    } catch (error) {
      this.logger.debug(`the presence could not be told: ${messageOf(error)}`);
    }
  }

  /** These functions are read in another way from now on, and their callers have to know. */
  private async registerAgain(refs: readonly FunctionRef[]): Promise<void> {
    const ids = new Set(refs.map((ref) => ref.id));
    await Promise.all(
      this.local
        .all()
        .filter(({ ref, epoch }) => epoch !== undefined && ids.has(ref.id))
        .map((registration) => this.register(registration)),
    );
  }

  private async register(registration: LocalRegistration): Promise<WorkerRecord> {
    const { ref, workerId, definition } = registration;
    if (this.session === undefined) throw new ClosedError('WorkerCoordinator');
    const { record, replaced } = await this.backend.workers.register({
      ref,
      workerId,
      session: this.session,
      leaseMs: this.settings.leaseMs,
      definition,
      fingerprint: definition === '' ? '' : definitionFingerprint(definition),
      poolId: this.work?.poolOf(ref) ?? '',
    });
    registration.epoch = record.epoch;
    registration.seq = record.seq;
    this.events.emit('told', { ref, news: newsOf(record), definition: record.definition });
    this.lifecycle.debug(
      `${workerId} of ${label(ref)} is ready (epoch ${record.epoch}, seq ${record.seq})`,
    );
    // A join that failed half way may have left records of a session of this very process.
    if (replaced !== undefined && !replaced.startsWith(`${this.processId}.`)) {
      this.logger.warn(
        `workerId ${workerId} of ${label(ref)} was in use by ${replaced}, which lives: give each process its own workerId`,
      );
    }
    // It registers as ready; one that said it is unhealthy before says so again.
    if (registration.status === 'unhealthy') {
      await this.changeHealth(ref, workerId, false, registration.reason ?? 'unhealthy');
    }
    this.events.emit('registered', { ref, workerId, epoch: record.epoch });
    return record;
  }

  /** One beat at a time; called by the timer, after a reconnect, and when reading meets trouble. */
  private beat(): Promise<void> {
    this.beating ??= this.beatOnce().finally(() => (this.beating = undefined));
    return this.beating;
  }

  private async beatOnce(): Promise<void> {
    const session = this.session;
    if (session === undefined || this.joining !== undefined || this.current === 'stopped') return;
    // It beats at once when Redis is back.
    void this.backend.bus.probe();
    if (!this.backend.isConnected()) return;
    try {
      const sentAt = this.clock.now();
      const pulse = await this.backend.workers.heartbeat(
        session,
        this.processId,
        this.settings.leaseMs,
      );
      const offsetMs = this.redisClock.note(pulse.timestamp, sentAt, this.clock.now());
      if (pulse.verdict !== 'alive') return await this.handleLoss(session, pulse.verdict);
      this.beatAt = this.clock.now();
      this.work?.pulse(offsetMs);
      this.beats += 1;
      await this.tellUntold();
      if (this.beats % BEATS_PER_LEASE !== 0) return;
      await this.tellHealth(pulse.timestamp);
      await this.audit(session, RECORDS_PER_AUDIT);
      this.beatTrouble.settle();
    } catch (error) {
      this.beatTrouble.tell(`heartbeat failed: ${messageOf(error)}`);
    }
  }

  /** A right that periodic health lacks must not keep the rest of a beat from being done. */
  private async tellHealth(timestamp: number): Promise<void> {
    try {
      await this.health.tell(timestamp);
    } catch (error) {
      if (!isRefused(error)) throw error;
      this.healthTrouble.tell(`periodic health is not told: ${error.message}`);
    }
  }

  private async handleLoss(session: ProcessSession, fate: SessionFate): Promise<void> {
    const why =
      fate === 'condemned' ? `it was declared dead${this.lateness()}` : 'Redis was emptied';
    this.logger.warn(`the lease of ${session.sessionId} is gone (${why}): registering anew`);
    this.session = undefined;
    this.local.markUnregistered();
    this.events.emit('lost', { sessionId: session.sessionId });
    await this.work?.abandon(fate);
    if (fate === 'condemned') await this.releaseAll(session.sessionId);
    if (this.current !== 'draining') void this.join();
  }

  /**
   * Compares records of this process's workers with the registry, some of them in turn or all: what somebody
   * removed or Redis evicted is registered again, what was said while Redis or pub/sub was away is said, or
   * heard, now. Of two words the registry's stands, unless this process's own has never reached it.
   */
  private async audit(session: ProcessSession, count: number): Promise<void> {
    const registered = this.local.all().filter(({ epoch }) => epoch !== undefined);
    const from = registered.length === 0 ? 0 : this.audited % registered.length;
    const some = [...registered, ...registered].slice(
      from,
      from + Math.min(count, registered.length),
    );
    this.audited = from + some.length;
    await Promise.all(
      some.map(async (registration) => {
        const { ref, workerId, status } = registration;
        const record = await this.backend.workers.find(ref, workerId);
        if (this.session !== session || this.local.find(ref, workerId) !== registration) return;
        if (status === 'draining') return;
        if (record === undefined) {
          this.logger.warn(
            `${workerId} of ${label(ref)} is not in the registry: registering again`,
          );
          await this.register(registration);
        } else if (registration.untold) {
          await this.changeHealth(ref, workerId, status === 'ready', registration.reason ?? '');
        } else this.adopt(registration, record);
      }),
    );
  }

  /** What was said of workers here while Redis was away. */
  private async tellUntold(): Promise<void> {
    for (const { ref, workerId, epoch, status, reason, untold } of this.local.all())
      if (untold && epoch !== undefined && status !== 'draining')
        await this.changeHealth(ref, workerId, status === 'ready', reason ?? '');
  }

  /** News for this process may have been missed. */
  private async auditAll(): Promise<void> {
    const { session } = this;
    if (session === undefined || this.current !== 'active') return;
    try {
      await this.audit(session, Infinity);
    } catch (error) {
      this.logger.debug(`the own records could not be compared: ${messageOf(error)}`);
    }
  }

  /** Takes over what the registry says of a worker of this process, when it is newer. */
  private adopt(registration: LocalRegistration, record: WorkerRecord): void {
    registration.untold = false;
    if (record.epoch !== registration.epoch || record.seq < registration.seq) return;
    registration.seq = record.seq;
    if (record.status === registration.status || record.status === 'draining') return;
    this.applyHealth(registration, record.status === 'ready', record.reason ?? '');
  }

  /** What made a process look frozen that was not: heartbeats wait for the event loop. */
  private lateness(): string {
    const { leaseMs } = this.settings;
    const lateMs = Math.round(this.loop.worstLagMs(2 * leaseMs));
    return lateMs < leaseMs / 2
      ? ''
      : `: its event loop was ${lateMs} ms late, and leaseMs is ${leaseMs}`;
  }

  /** What was delivered to a lost session after the supervisor had handed its calls over. */
  private async releaseAll(sessionId: string): Promise<void> {
    const { maxDeliveries } = this.settings;
    await Promise.all(
      this.local
        .functions()
        .map((ref) =>
          this.backend.calls
            .release(ref, sessionId, { kind: 'lost', maxDeliveries })
            .catch((error: unknown) =>
              this.logger.debug(
                `the calls of ${sessionId} could not be released: ${messageOf(error)}`,
              ),
            ),
        ),
    );
  }

  /** What other processes tell this one directly. */
  private obey(message: unknown): void {
    if (!isRecord(message)) return;
    if (message['type'] === 'cancel' && typeof message['callId'] === 'string') {
      this.work?.cancel(message['callId']);
      return;
    }
    if (message['type'] === 'regrouped' && typeof message['functionId'] === 'string') {
      this.work?.reclaim(message['functionId']);
      return;
    }
    const registration = this.local
      .all()
      .find(
        ({ ref, workerId }) =>
          ref.functionName === message['functionName'] &&
          ref.workflowId === message['workflowId'] &&
          workerId === message['workerId'],
      );
    if (registration === undefined) return;
    const removed = message['type'] === 'unregistered' && message['epoch'] === registration.epoch;
    // What it changed itself comes back to it, and is no news.
    const changed = message['type'] === 'health' && Number(message['seq']) > registration.seq;
    if (removed || changed) void this.checkRecord(registration, removed);
  }

  /**
   * Another process says that it changed a worker of this one. Who may not change the registry may still publish, for
   * cancellations: what it has there counts, not what is said.
   */
  private async checkRecord(registration: LocalRegistration, removed: boolean): Promise<void> {
    const { ref, workerId, epoch } = registration;
    try {
      const record = await this.backend.workers.find(ref, workerId);
      if (this.local.find(ref, workerId) !== registration || registration.epoch !== epoch) return;
      if (epoch === undefined || registration.untold) return;
      if (record?.epoch === epoch) this.adopt(registration, record);
      else if (removed) this.handleRemoval(registration);
    } catch (error) {
      this.logger.debug(`the own record could not be compared: ${messageOf(error)}`);
    }
  }

  /** Another process has unregistered a worker of this one: it takes no calls any more. */
  private handleRemoval({ ref, workerId }: LocalRegistration): void {
    this.lifecycle.warn(`${workerId} of ${label(ref)} was unregistered by another process`);
    this.unregisterWorker(ref, workerId, 'unregistered').catch((error: unknown) =>
      this.logger.warn(`${label(ref)} could not be ended: ${messageOf(error)}`),
    );
  }

  private applyHealth(registration: LocalRegistration, healthy: boolean, reason: string): void {
    if (registration.status === 'draining') return;
    registration.status = healthy ? 'ready' : 'unhealthy';
    registration.reason = healthy ? undefined : reason;
    this.follow(registration.ref);
  }

  /** Reads the function exactly while one of its workers here may take calls. */
  private follow(ref: FunctionRef): void {
    if (this.local.takesCalls(ref)) this.work?.resume(ref);
    else this.work?.pause(ref);
  }

  private controlChannel(sessionId: string): string {
    return this.keys.unprefixed(this.keys.control(sessionId));
  }

  private transition(to: CoordinatorState): void {
    const from = this.current;
    if (from === to || from === 'stopped' || (from === 'draining' && to !== 'stopped')) return;
    this.current = to;
    this.logger.debug(`${from} -> ${to}`);
    this.events.emit('state', { from, to });
  }

  private assertOpen(): void {
    if (this.current === 'draining' || this.current === 'stopped')
      throw new ClosedError('WorkerCoordinator');
  }
}

function newsOf({ workerId, epoch, seq, status, reason, timestamp }: WorkerRecord): WorkerNews {
  return { workerId, epoch, seq, status, reason, timestamp };
}

function ownerOf(
  registration: LocalRegistration | undefined,
  session: ProcessSession | undefined,
): WorkerOwner {
  if (registration?.epoch === undefined) return {};
  const { epoch } = registration;
  return session === undefined ? { epoch } : { epoch, sessionId: session.sessionId };
}

function label(ref: FunctionRef): string {
  return `${ref.functionName} (workflow ${ref.workflowId})`;
}
