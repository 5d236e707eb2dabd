import { Logger } from '@nestjs/common';
import { Observable, ReplaySubject, takeUntil } from 'rxjs';
import type { Backend } from '../backend/backend.js';
import { within, type Clock, type Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import type { CircuitPolicySettings, Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import { TypedEvents, type Dispose } from '../common/typed-events.js';
import type { Subscription } from '../notifications/channel-message.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import type { CircuitNotification } from '../protocol/circuit.js';
import { labelOf, type FunctionRef } from '../protocol/function-ref.js';
import type { Keys } from '../protocol/keys.js';
import type { CircuitChange, CircuitEvents } from './circuit-events.js';
import { CIRCUIT_DEFAULTS, withPolicy, type CircuitPolicy } from './circuit-options.js';
import { FunctionCircuit, type CircuitContext } from './function-circuit.js';
import { LocalBreaker, loadCockatiel } from './local-breaker.js';
import { ReportSchedule } from './report-schedule.js';

/** What a contract says of its circuit; absent: what the module says. */
export type CircuitChoice = boolean | CircuitPolicy | undefined;

/** A circuit that is not closed is read at this multiple of the poll interval even when all is well. */
const SAFETY_NET_FACTOR = 10;
/** A closed circuit that nobody used between two sweeps is forgotten. */
const SWEEP_INTERVAL_MS = 300_000;
/** Names may come from outside: above so many circuits the oldest go; one that is called again is read again. */
const MAX_CIRCUITS = 2_000;
/** How long a closing process waits for its last word about a probe. */
const CLOSE_LIMIT_MS = 500;

/**
 * The circuits of the functions that this process calls.
 *
 * @example
 * ```ts
 * constructor(private readonly circuits: FunctionCircuits) {
 *   circuits.on('open', ({ functionName, reason, retryAt }) => alert(functionName, reason, retryAt));
 *   circuits.changes().subscribe(({ functionName, from, to }) => console.log(functionName, from, to));
 * }
 * ```
 */
export class FunctionCircuits {
  private readonly logger = new Logger('CIRCUITS');
  private readonly circuits = new Map<string, FunctionCircuit>();
  private readonly subscriptions = new Map<FunctionCircuit, Promise<Subscription | undefined>>();
  private readonly events = new TypedEvents<CircuitEvents>((event, error) =>
    this.logger.error(`A listener of ${String(event)} failed: ${messageOf(error)}`),
  );
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private readonly reports: ReportSchedule;
  private readonly context: CircuitContext;
  private disposers: Dispose[] | undefined;
  private sweep: Timer | undefined;
  private polling: Timer | undefined;
  private tick = 0;
  private readonly ending = new ReplaySubject<void>(1);
  private closed = false;

  /** @param caller this process, among those that call a function */
  constructor(
    private readonly backend: Backend,
    private readonly keys: Keys,
    private readonly settings: Settings,
    private readonly clock: Clock,
    private readonly notifications: NotificationManager,
    caller: string,
  ) {
    this.reports = new ReportSchedule(clock);
    this.context = {
      store: backend.circuits,
      clock,
      caller,
      leaseMs: settings.leaseMs,
      isConnected: () => !this.closed && backend.isConnected(),
      address: backend.address,
      counted: (circuit, isUrgent) => {
        if (!this.closed) this.reports.note(circuit, isUrgent);
      },
      changed: (circuit, change) => this.tell(circuit, change),
      wentAlone: (circuit, problem) => this.noteAlone(circuit, problem),
      cameBack: (circuit) => this.noteShared(circuit),
      debug: (ref, text) => {
        if (Logger.isLevelEnabled('debug')) this.logger.debug(`${labelOf(ref)}: ${text()}`);
      },
    };
  }

  /** Listens to all circuits of this process; the result removes the listener. */
  on<K extends keyof CircuitEvents>(
    event: K,
    listener: (payload: CircuitEvents[K]) => unknown,
  ): Dispose {
    return this.events.on(event, listener);
  }

  /** Every change of a circuit of this process, from the subscription on; it completes when the application ends. */
  changes(): Observable<CircuitChange> {
    return new Observable<CircuitChange>((subscriber) =>
      this.on('change', (change) => subscriber.next(change)),
    ).pipe(takeUntil(this.ending));
  }

  /** @internal Ends every stream of changes, and each that somebody still begins. */
  endStreams(): void {
    this.ending.next();
    this.ending.complete();
  }

  /** @internal The circuit that calls of a function go through; `undefined`: it has none. */
  of(ref: FunctionRef, choice: CircuitChoice): FunctionCircuit | undefined {
    if (choice === undefined && this.settings.circuit === undefined) {
      // Nothing is configured; but a contract may have brought one for calls by name as well.
      return this.circuits.size === 0 ? undefined : this.circuits.get(ref.id);
    }
    if (choice === false || this.closed) return undefined;
    return this.circuits.get(ref.id) ?? this.create(ref, choice);
  }

  /** @internal Ends timers and subscriptions, after the last word about a probe. */
  async close(): Promise<void> {
    if (this.closed) return;
    const probes = Promise.all([...this.circuits.values()].map((circuit) => circuit.settled()));
    const late = (): Error => new Error('a probe was not concluded');
    await within(this.clock, CLOSE_LIMIT_MS, probes, late).catch((error: unknown) =>
      this.logger.debug(messageOf(error)),
    );
    this.closed = true;
    for (const dispose of this.disposers ?? []) dispose();
    for (const timer of [this.sweep, this.polling]) timer?.cancel();
    this.reports.stop();
    this.circuits.clear();
    this.events.clear();
  }

  private create(ref: FunctionRef, choice: CircuitChoice): FunctionCircuit | undefined {
    const policy = this.policyOf(ref, choice);
    if (policy === undefined) return undefined;
    this.begin();
    const circuit = new FunctionCircuit(ref, policy, this.context, async (onChange) => {
      return new LocalBreaker(await loadCockatiel(), policy, this.clock, onChange);
    });
    this.circuits.set(ref.id, circuit);
    if (this.circuits.size > MAX_CIRCUITS) this.trim();
    void this.follow(circuit);
    return circuit;
  }

  /** The contract's word, then that of the module's list, then the module's. */
  private policyOf(ref: FunctionRef, choice: CircuitChoice): CircuitPolicySettings | undefined {
    const { circuit } = this.settings;
    const isListed = circuit?.functions.has(ref.id) === true;
    const own = isListed ? circuit.functions.get(ref.id) : circuit?.policy;
    if (choice === undefined) return own;
    const base = own ?? circuit?.policy ?? CIRCUIT_DEFAULTS;
    return typeof choice === 'object' ? withPolicy(base, choice) : base;
  }

  /** With the first circuit: what is off costs nothing. */
  private begin(): void {
    if (this.disposers !== undefined) return;
    this.disposers = [this.backend.onConnected(() => this.readAll())];
    // A test may have put a stub in its place: then there is no pub/sub, and polling has to do.
    if (this.notifications instanceof NotificationManager) {
      this.disposers.push(
        this.notifications.on('connected', () => this.readAll()),
        this.notifications.on('disconnected', () => this.ensurePolling()),
      );
    }
    this.sweep = this.clock.every(SWEEP_INTERVAL_MS, () => this.forgetUnused());
  }

  /** Subscribes, and reads once the subscription is acknowledged: no change is missed. */
  private async follow(circuit: FunctionCircuit): Promise<void> {
    try {
      const subscribed = this.subscribe(circuit);
      this.subscriptions.set(circuit, subscribed);
      const subscription = await subscribed;
      await circuit.open();
      if (subscription !== undefined && !this.closed) await circuit.read();
    } catch (error) {
      this.logger.error(`the circuit of ${labelOf(circuit.ref)} failed: ${messageOf(error)}`);
    }
  }

  /** Nothing, where news cannot be heard: then it is read now and then. */
  private async subscribe(circuit: FunctionCircuit): Promise<Subscription | undefined> {
    const channel = this.keys.unprefixed(this.keys.circuitChannel(circuit.ref));
    try {
      return await this.notifications.subscribe<CircuitNotification>(channel, ({ data }) =>
        circuit.hear(data),
      );
    } catch (error) {
      this.logger.debug(`news of ${labelOf(circuit.ref)} are not heard: ${messageOf(error)}`);
      return undefined;
    }
  }

  private readAll(): void {
    for (const circuit of this.circuits.values()) if (!circuit.isStarting) void circuit.read();
  }

  private tell(circuit: FunctionCircuit, change: CircuitChange): void {
    const { ref } = circuit;
    if (change.to === 'closed') this.logger.log(`${labelOf(ref)}: closed`);
    else if (change.to === 'open')
      this.logger.warn(`${labelOf(ref)}: open (${change.reason ?? ''}); calls are refused`);
    this.ensurePolling();
    this.events.emit('change', change);
    this.events.emit(change.to, change);
  }

  private noteAlone({ ref }: FunctionCircuit, problem: string): void {
    if (this.closed) return;
    const { functionName, workflowId } = ref;
    this.trouble.tell(
      `circuits cannot be shared (${problem}); this process decides by itself meanwhile`,
    );
    this.ensurePolling();
    this.events.emit('alone', { functionName, workflowId, problem });
  }

  private noteShared({ ref }: FunctionCircuit): void {
    const { functionName, workflowId } = ref;
    this.events.emit('shared', { functionName, workflowId });
  }

  /** Reads what is not closed, or not shared, now and then; often while pub/sub is away. No timer runs otherwise. */
  private ensurePolling(): void {
    if (this.polling !== undefined || this.closed || !this.isPollNeeded()) return;
    this.polling = this.clock.every(this.settings.pollIntervalMs, () => this.poll());
  }

  private isPollNeeded(): boolean {
    for (const circuit of this.circuits.values()) if (isUnsettled(circuit)) return true;
    return false;
  }

  private poll(): void {
    this.tick += 1;
    if (!this.isPollNeeded()) {
      this.polling?.cancel();
      this.polling = undefined;
      return;
    }
    const isDegraded = this.notifications.state !== 'connected';
    if (!isDegraded && this.tick % SAFETY_NET_FACTOR !== 0) return;
    if (!this.backend.isConnected()) return;
    for (const circuit of this.circuits.values()) if (isUnsettled(circuit)) void circuit.read();
  }

  private forgetUnused(): void {
    for (const circuit of [...this.circuits.values()]) {
      if (circuit.used || circuit.pinned || isUnsettled(circuit)) circuit.used = false;
      else this.forget(circuit);
    }
  }

  private trim(): void {
    for (const circuit of this.circuits.values()) {
      if (this.circuits.size <= MAX_CIRCUITS) return;
      if (!circuit.pinned) this.forget(circuit);
    }
  }

  private forget(circuit: FunctionCircuit): void {
    this.circuits.delete(circuit.ref.id);
    const subscription = this.subscriptions.get(circuit);
    this.subscriptions.delete(circuit);
    void subscription?.then((one) => one?.unsubscribe());
  }
}

function isUnsettled(circuit: FunctionCircuit): boolean {
  return circuit.state !== 'closed' || circuit.isAlone;
}
