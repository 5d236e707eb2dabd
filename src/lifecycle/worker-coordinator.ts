import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { LEAVE_WAIT_MS } from '../backend/reachable.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import type { ProcessSession } from '../backend/worker-store.js';
import type { StoredGeneration } from '../backend/workflow-store.js';
import { holdingProcess, within, type Clock } from '../common/clock.js';
import { createDeferred } from '../common/deferred.js';
import { Complaint } from '../common/complaint.js';
import { BackendUnavailableError, ClosedError, isRefused } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { backendName, messageOf } from '../common/text.js';
import { TypedEvents, type Dispose } from '../common/typed-events.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { encodeName, labelOf, type FunctionRef } from '../protocol/function-ref.js';
import type { Keys } from '../protocol/keys.js';
import type { WorkerRecord } from '../protocol/worker-record.js';
import { ControlMessages } from './control-messages.js';
import type { CoordinatorEvents, CoordinatorState } from './coordinator-events.js';
import { Departure } from './departure.js';
import { EventLoopProbe } from './event-loop-probe.js';
import { FleetJoin } from './fleet-join.js';
import { HealthNews, type ListenerQuestion } from './health-news.js';
import { LoadedGenerations } from './loaded-generations.js';
import type { LocalRegistration, LocalWorker } from './local-workers.js';
import { Membership } from './membership.js';
import { RecordAudit } from './record-audit.js';
import { SessionKeeper } from './session-keeper.js';
import { Supervisor } from './supervisor.js';
import type { DrainReport, SessionFate, WorkSource } from './work-source.js';
import { WorkerOperations } from './worker-operations.js';
import { WorkerRegistrations } from './worker-registrations.js';
import { WorkerRestart, type RestartRequest } from './worker-restart.js';

const BOOT_WAIT_MS = 2_000;
const REGISTER_WAIT_MS = 6_000;

/**
 * The life of this process in the fleet, and the order of its steps. What the steps are is in its parts: the session
 * ({@link SessionKeeper}), the join ({@link FleetJoin}), the workers' registrations ({@link WorkerRegistrations},
 * compared by {@link RecordAudit}), what others tell it ({@link ControlMessages}), restarts on order
 * ({@link WorkerRestart}), the leave ({@link Departure}), and
 * the supervision ({@link Supervisor}); they share a {@link Membership}.
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
 * - Loss while a join is under way: its registrations are refused, and it starts again with another session.
 *
 * Called by: the module's lifecycle hooks, FunctionLifecycleNotifier, EnhancedFunctionRegistry.
 */
@Injectable()
export class WorkerCoordinator {
  /** This process, for its whole life; also the name of its reply stream. */
  readonly processId = `${encodeName(hostname())
    .replace(/[^A-Za-z0-9._%-]/g, '-')
    .slice(0, 80)}-${process.pid}-${randomBytes(4).toString('hex')}`;
  private readonly healthTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly logger = new Logger('COORDINATOR');
  private readonly lifecycle = new Logger('LIFECYCLE');
  private readonly events = new TypedEvents<CoordinatorEvents>((event, error) =>
    this.logger.error(`A listener of ${String(event)} failed: ${messageOf(error)}`),
  );
  private readonly membership = new Membership(this.processId);
  private readonly operations = new WorkerOperations();
  private readonly registrations: WorkerRegistrations;
  private readonly keeper: SessionKeeper;
  private readonly joining: FleetJoin;
  private readonly audit: RecordAudit;
  private readonly health: HealthNews;
  private readonly generations: LoadedGenerations;
  private readonly restarts: WorkerRestart;
  private readonly departure: Departure;
  private readonly supervisor: Supervisor;
  private readonly loop: EventLoopProbe;
  private readonly firstActive = createDeferred();
  private readonly stopping = new AbortController();
  private current: CoordinatorState = 'idle';
  private active = false;
  private startNow: () => Promise<void> = () => this.start();
  private hosts: (ref: FunctionRef) => boolean = () => false;
  private reload: (workflowId: string, generation: StoredGeneration) => Promise<void> = () =>
    Promise.resolve();
  private drained: Promise<DrainReport> | undefined;
  private dispose: Dispose | undefined;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
  ) {
    const { membership, events } = this;
    const { workers: store, bus } = backend;
    const generations = new LoadedGenerations(backend.workflows);
    this.generations = generations;
    const registrations = new WorkerRegistrations(membership, store, settings, events, (id) =>
      generations.of(id),
    );
    this.supervisor = new Supervisor(backend, clock, settings.maxDeliveries);
    const control = new ControlMessages(
      membership,
      store,
      registrations,
      (registration) => this.handleRemoval(registration),
      (sessions, settled) => this.supervisor.hear(sessions, settled),
      (order) => void this.restarts.obey(order),
      (failure) => events.emit('restartFailed', failure),
      (left) => events.emit('restartLeft', left),
    );
    this.restarts = this.createRestart(clock);
    this.registrations = registrations;
    this.audit = new RecordAudit(membership, store, registrations);
    this.health = new HealthNews(bus, notifications, keys, membership.workers);
    this.departure = new Departure(membership, registrations, backend, clock, settings);
    this.keeper = new SessionKeeper(membership, backend, notifications, keys, settings, clock, {
      isBetweenSessions: () => this.joining.underWay !== undefined || this.current === 'stopped',
      message: (data) => control.obey(data),
      kept: () => this.registrations.tellUntold(),
      keptForLease: (session, timestamp) => this.handleLease(session, timestamp),
      lost: (session, fate) => this.handleLoss(session, fate),
    });
    this.joining = new FleetJoin(
      membership,
      this.keeper,
      registrations,
      this.supervisor,
      backend,
      clock,
      this.stopping.signal,
      settings.supervise,
      () => this.handleJoined(),
      generations,
      (sessionId) => this.releaseAll(sessionId),
    );
    this.loop = new EventLoopProbe(clock);
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
    return this.keeper.redisOffsetMs;
  }

  /** Milliseconds since the lease was kept last; 0 before there was one. */
  get sinceBeatMs(): number {
    return this.keeper.sinceBeatMs;
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

  /** Asks this, too, when it asks once per lease who listens to health. */
  askAlso(question: ListenerQuestion): void {
    this.health.askAlso(question);
  }

  /** Workers of this process. */
  workers(): LocalWorker[] {
    return this.membership.workers.describe();
  }

  /** Gives the coordinator what takes calls; before {@link start}. */
  attach(work: WorkSource): void {
    this.membership.work = work;
    work.onTrouble(() => void this.keeper.examine());
    work.useGenerations((workflowId) => this.generations.of(workflowId));
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

  /** Whether this process has workers of the workflow. */
  hostsWorkflow(workflowId: string): boolean {
    return this.membership.workers.all().some(({ ref }) => ref.workflowId === workflowId);
  }

  /** This process's session, as others address it; `''` while it has none. */
  get sessionId(): string {
    return this.membership.session?.sessionId ?? '';
  }

  /** Sets what loads a workflow anew while this process restarts its workers of it. */
  onReload(reload: (workflowId: string, generation: StoredGeneration) => Promise<void>): void {
    this.reload = reload;
  }

  /** The generation of a workflow that this process has loaded; the present one when it is asked for the first time. */
  loadedGeneration(workflowId: string): Promise<StoredGeneration> {
    return this.generations.load(workflowId);
  }

  /** Announces functions that this process hosts under its default workerId; before {@link start}. */
  host(functions: readonly { readonly ref: FunctionRef; readonly definition: string }[]): void {
    for (const { ref, definition } of functions)
      this.membership.workers.remember(ref, this.workerId, definition);
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
        void this.keeper.tellPresence();
        void this.keeper.examine();
      }),
    ];
    // A test may have put a stub in its place: then there is no presence, and the lease has to do.
    if (this.notifications instanceof NotificationManager) {
      disposers.push(
        this.notifications.on('state', () => void this.keeper.tellPresence()),
        this.notifications.on('connected', () => {
          if (this.current === 'active') void this.audit.all();
        }),
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
          `${messageOf(error)} The application starts; its functions register when it answers.`,
        ),
      ),
    );
  }

  /** Ends this process, as a restart does with `restart: 'exit'`; nothing where it is being closed already. */
  exit(): void {
    if (!this.isClosing) process.kill(process.pid, 'SIGTERM');
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
    return this.operations.run(ref, workerId, () => this.register(ref, workerId, definition));
  }

  private async register(
    ref: FunctionRef,
    workerId: string,
    definition: string,
  ): Promise<WorkerRecord> {
    if (this.isClosing) throw new ClosedError('WorkerCoordinator');
    const registration = this.membership.workers.remember(ref, workerId, definition);
    this.registrations.follow(ref);
    if (this.current === 'idle') await this.startNow();
    await this.soon(this.firstActive.promise);
    await this.joining.underWay;
    await this.soon(this.generations.load(ref.workflowId));
    const moved = await this.soon(this.membership.work?.begin([ref]) ?? Promise.resolve([]));
    try {
      await this.registrations.registerAgain(moved);
      return await this.registrations.register(registration);
    } catch (error) {
      // The session may be lost: the heartbeat finds out, and the join that follows registers it.
      void this.keeper.examine();
      throw error;
    }
  }

  private get isClosing(): boolean {
    return this.current === 'draining' || this.current === 'stopped';
  }

  private soon<T>(step: Promise<T>): Promise<T> {
    const late = (): Error => new BackendUnavailableError('register', this.backend.address);
    return within(this.clock, REGISTER_WAIT_MS, step, late);
  }

  /** Removes a worker and tells `offline`. `false` when it was not registered. */
  unregisterWorker(ref: FunctionRef, workerId: string, reason: string): Promise<boolean> {
    return this.operations.run(ref, workerId, () =>
      this.registrations.remove(ref, workerId, reason),
    );
  }

  /**
   * Says that a worker is healthy or not. Its process stops (or resumes) taking calls of the function before
   * the registry and everybody else know.
   *
   * @throws WorkerNotRegisteredError
   */
  changeHealth(
    ref: FunctionRef,
    workerId: string,
    healthy: boolean,
    reason: string,
  ): Promise<WorkerRecord> {
    return this.registrations.changeHealth(ref, workerId, healthy, reason);
  }

  /**
   * Tells that a worker is about to leave, and stops taking calls of the function here.
   *
   * @throws WorkerNotRegisteredError
   */
  announceShutdown(
    ref: FunctionRef,
    workerId: string,
    estimatedDowntimeMs: number,
  ): Promise<WorkerRecord> {
    return this.registrations.announceShutdown(ref, workerId, estimatedDowntimeMs);
  }

  /** A graceful leave of one worker from one function: shutdown told, drained, offline told. */
  async coordinateShutdown(ref: FunctionRef, workerId: string): Promise<DrainReport> {
    return this.operations.run(ref, workerId, () => this.registrations.leave(ref, workerId));
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
    // One that failed was reported to who asked for it first; every other step is done all the same.
    const isDrained = await this.drain().then(
      () => true,
      () => false,
    );
    this.transition('stopped');
    this.firstActive.reject(new ClosedError('WorkerCoordinator'));
    this.loop.stop();
    this.dispose?.();
    await this.keeper.stop();
    await this.supervisor.stop();
    await this.membership.work?.close();
    // Gone without its lease given back, the session is found dead, and its calls and records with it.
    if (isDrained && this.departure.leftNothing) await this.keeper.leave();
    else this.logger.warn('not everything could be handed back: the supervisor will');
    await this.keeper.disappear();
    this.events.clear();
  }

  private async drainOnce(): Promise<DrainReport> {
    const leaving = this.membership.workers.all();
    this.stopping.abort();
    if (this.current === 'idle') return { finished: 0, handedBack: 0 };
    this.transition('draining');
    // The join sees that it should stop between its steps; each of them is bounded, all of them together not.
    await within(
      this.clock,
      LEAVE_WAIT_MS,
      this.joining.underWay ?? Promise.resolve(),
      () => new ClosedError('join'),
    ).catch(() => undefined);
    return this.departure.run(leaving);
  }

  private createRestart(clock: Clock): WorkerRestart {
    const { membership, generations, settings } = this;
    return new WorkerRestart(membership, generations, clock, settings.restart, {
      leave: (ref, workerId) =>
        this.operations.run(ref, workerId, () =>
          this.registrations.leave(ref, workerId, 'restarting'),
        ),
      remove: (ref, workerId) => this.unregisterWorker(ref, workerId, 'restarting'),
      register: (ref, workerId, definition) => this.registerWorker(ref, workerId, definition),
      reload: (workflowId, generation) => this.reload(workflowId, generation),
      exit: () => this.exit(),
      isClosing: () => this.isClosing,
      isOrdered: ({ workflowId, restartId }) =>
        this.backend.workflows.leadsRestart(workflowId, restartId),
      report: (request, why) => this.reportRestart(request, why),
    });
  }

  private async reportRestart({ replyTo, restartId }: RestartRequest, why: string): Promise<void> {
    if (replyTo === '') return;
    const data = { type: 'restart-failed', restartId, processId: this.processId, why };
    const packet = JSON.stringify({ pattern: 'control', data });
    await this.backend.bus.publish(this.keys.control(replyTo), packet);
  }

  private async join(): Promise<void> {
    this.transition('joining');
    await this.joining.run();
  }

  private handleJoined(): void {
    this.transition('active');
    this.active = true;
    this.firstActive.resolve();
  }

  private async handleLease(session: ProcessSession, timestamp: number): Promise<void> {
    await this.tellHealth(timestamp);
    await this.audit.some(session);
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

  private async handleLoss({ sessionId }: ProcessSession, fate: SessionFate): Promise<void> {
    const why =
      fate === 'condemned'
        ? `it was declared dead${this.lateness()}`
        : `${backendName(this.backend.address)} was emptied`;
    this.logger.warn(`the lease of ${sessionId} is gone (${why}): registering anew`);
    this.membership.forgetSession();
    this.events.emit('lost', { sessionId });
    await this.membership.work?.abandon(fate);
    if (fate === 'condemned') await this.releaseAll(sessionId);
    if (this.current !== 'draining') void this.join();
  }

  /** What made a process look frozen that was not: heartbeats wait for the event loop. */
  private lateness(): string {
    const { leaseMs } = this.settings;
    const lateMs = Math.round(this.loop.worstLagMs(2 * leaseMs));
    return lateMs < leaseMs / 2
      ? ''
      : `: its event loop was ${lateMs} ms late, and leaseMs is ${leaseMs}`;
  }

  /** What was delivered to a session that is none any more, whoever else hands its calls over; whether all of it was. */
  private async releaseAll(sessionId: string): Promise<boolean> {
    const { maxDeliveries } = this.settings;
    const released = await Promise.all(
      this.membership.workers.functions().map((ref) =>
        this.backend.calls.release(ref, sessionId, { kind: 'lost', maxDeliveries }).then(
          () => true,
          (error: unknown) => {
            this.logger.debug(
              `the calls of ${sessionId} could not be released: ${messageOf(error)}`,
            );
            return false;
          },
        ),
      ),
    );
    return released.every(Boolean);
  }

  /** Another process has unregistered a worker of this one: it takes no calls any more. */
  private handleRemoval({ ref, workerId }: LocalRegistration): void {
    this.lifecycle.warn(`${workerId} of ${labelOf(ref)} was unregistered by another process`);
    this.unregisterWorker(ref, workerId, 'unregistered').catch((error: unknown) =>
      this.logger.warn(`${labelOf(ref)} could not be ended: ${messageOf(error)}`),
    );
  }

  private transition(to: CoordinatorState): void {
    const from = this.current;
    if (from === to || from === 'stopped' || (from === 'draining' && to !== 'stopped')) return;
    this.current = to;
    this.logger.debug(`${from} -> ${to}`);
    this.events.emit('state', { from, to });
  }
}
