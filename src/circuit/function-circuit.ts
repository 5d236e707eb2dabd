import type { CircuitReading, CircuitStore } from '../backend/circuit-store.js';
import { CIRCUIT_SETTLE_MS } from '../backend/limits.js';
import { within, type Clock } from '../common/clock.js';
import { BackendUnavailableError, CircuitOpenError } from '../common/errors.js';
import type { CircuitPolicySettings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import {
  NO_RECORD,
  parseCircuitRecord,
  type CircuitNotification,
  type CircuitRecord,
  type CircuitState,
} from '../protocol/circuit.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import { isMalformed } from '../protocol/notification.js';
import type { CircuitChange } from './circuit-events.js';
import { Refused, type LocalBreaker } from './local-breaker.js';
import { NO_VERDICT_MS, Probe } from './probe.js';
import { Tally } from './tally.js';
import { UrgentPace } from './urgent-pace.js';

/** What a circuit needs from its surroundings. */
export interface CircuitContext {
  readonly store: CircuitStore;
  readonly clock: Clock;
  /** This process, among those that call the function. */
  readonly caller: string;
  /** How long a probe is this process's without being renewed. */
  readonly leaseMs: number;
  readonly isConnected: () => boolean;
  readonly address: string;
  /** Something was counted: a report is due, at once when it might open the circuit. */
  readonly counted: (circuit: FunctionCircuit, isUrgent: boolean) => void;
  readonly changed: (circuit: FunctionCircuit, change: CircuitChange) => void;
  readonly wentAlone: (circuit: FunctionCircuit, problem: string) => void;
  readonly cameBack: (circuit: FunctionCircuit) => void;
  readonly debug: (ref: FunctionRef, text: () => string) => void;
}

/** How long a call waits for the record, or to be the probe, before it goes by itself. */
const ANSWER_LIMIT_MS = 1_000;

/**
 * The circuit of one function in this process: what is known of the record, the calls that are counted, and the
 * breaker that decides while there is no record to be had. docs/adr/0006-shared-circuits.md lists the interleavings.
 *
 * - `starting`: the record was not read yet; the first calls wait for that
 * - `shared`: the record decides
 * - `alone`: Redis cannot be asked, so the breaker does
 */
export class FunctionCircuit {
  /** Called since the last sweep. */
  used = true;
  /** Somebody holds a handle of it. */
  pinned = false;
  private mode: 'starting' | 'shared' | 'alone' = 'starting';
  private record: CircuitRecord = NO_RECORD;
  /** Counts what was learnt, so that a read that something overtook is known. */
  private learnt = 0;
  /** When {@link CircuitRecord.retryAt} is, on a clock that nobody sets. */
  private dueAt: number | undefined;
  private tally: Tally;
  private breaker: LocalBreaker | undefined;
  private opening: Promise<void> | undefined;
  private readonly urgentPace: UrgentPace;
  /** This process's probe, from the question for it to its conclusion. */
  private probe: Promise<unknown> | undefined;

  constructor(
    readonly ref: FunctionRef,
    readonly policy: CircuitPolicySettings,
    private readonly context: CircuitContext,
    private readonly createBreaker: (
      onChange: (from: CircuitState, to: CircuitState) => void,
    ) => Promise<LocalBreaker>,
  ) {
    this.tally = this.createTally(0);
    this.urgentPace = new UrgentPace(context.clock);
  }

  /** As far as this process knows. */
  get state(): CircuitState {
    return this.mode === 'alone' && this.breaker !== undefined
      ? this.breaker.state
      : this.record.state;
  }

  get isShared(): boolean {
    return this.mode === 'shared';
  }

  get isStarting(): boolean {
    return this.mode === 'starting';
  }

  get isAlone(): boolean {
    return this.mode === 'alone';
  }

  /** Why it is not closed. */
  get reason(): string | undefined {
    return this.record.reason;
  }

  /** When it is tried again, on this host's clock; nothing when it is closed, or held by hand. */
  get retryAt(): number | undefined {
    const { clock } = this.context;
    const dueAt = this.nextTryAt();
    return dueAt === undefined ? undefined : Math.round(clock.now() + dueAt - clock.elapsed());
  }

  /** The same from now. */
  get leftMs(): number | undefined {
    const dueAt = this.nextTryAt();
    return dueAt === undefined
      ? undefined
      : Math.max(0, Math.ceil(dueAt - this.context.clock.elapsed()));
  }

  /** The same on a clock that nobody sets. */
  private nextTryAt(): number | undefined {
    const isHeld = this.record.state === 'open' && this.dueAt === undefined;
    return this.mode === 'alone' && !isHeld ? this.breaker?.dueAt : this.dueAt;
  }

  /** A call of the function: made, and counted, or refused with a CircuitOpenError. */
  guard<T>(call: () => Promise<T>): Promise<T> {
    this.used = true;
    const isPassing = this.mode === 'shared' && this.record.state === 'closed';
    return isPassing ? this.pass(call) : this.decide(call);
  }

  private pass<T>(call: () => Promise<T>): Promise<T> {
    const { succeed, fail } = this.tally;
    const result = call();
    // Beside what the caller gets: its answer comes no later.
    result.then(succeed, fail);
    return result;
  }

  private async decide<T>(call: () => Promise<T>): Promise<T> {
    if (this.mode === 'starting') await this.open();
    if (this.mode === 'alone') return this.runAlone(call);
    if (this.record.state === 'closed') return this.pass(call);
    if (!this.isDue() || this.probe !== undefined) throw this.refusal();
    const probe = this.tryProbe(call);
    this.probe = probe;
    try {
      return await probe;
    } finally {
      this.probe = undefined;
    }
  }

  private isDue(): boolean {
    return this.dueAt !== undefined && this.dueAt <= this.context.clock.elapsed();
  }

  private async tryProbe<T>(call: () => Promise<T>): Promise<T> {
    const { store, clock, caller, leaseMs } = this.context;
    const answer = await this.ask(
      () => store.probe(this.ref, caller, leaseMs, this.known()),
      ({ granted }) => granted && this.giveUpProbe(),
    );
    // Redis went away; or it was closed by another one's probe, or by hand.
    if (this.mode === 'alone') return this.runAlone(call);
    if (answer?.granted !== true) {
      if (this.record.state === 'closed') return this.pass(call);
      throw this.refusal();
    }
    const { generation } = this.record;
    this.context.debug(this.ref, () => `probes under generation ${generation}`);
    const probe = new Probe(clock, leaseMs, this.policy, (verdict, ms) =>
      this.ask(() => store.conclude(this.ref, generation, verdict, ms)),
    );
    return probe.run(call);
  }

  /** It was granted to nobody who still waits for it: another caller need not wait for the end of its lease. */
  private giveUpProbe(): void {
    const { generation } = this.record;
    void this.ask(() => this.context.store.conclude(this.ref, generation, 'none', NO_VERDICT_MS));
  }

  private async runAlone<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await (this.breaker as LocalBreaker).run(call);
    } catch (error) {
      throw error instanceof Refused ? this.refusal() : error;
    }
  }

  private refusal(): CircuitOpenError {
    const { functionName, workflowId } = this.ref;
    const { leftMs: afterMs, retryAt: at } = this;
    const state = this.state === 'half-open' ? 'half-open' : 'open';
    return new CircuitOpenError(
      functionName,
      workflowId,
      state,
      this.reason ?? 'failure-rate',
      at === undefined || afterMs === undefined ? undefined : { at, afterMs },
    );
  }

  /** Loads the breaker and reads the record, once; a Redis that does not answer is not waited for. */
  open(): Promise<void> {
    return (this.opening ??= this.openOnce());
  }

  private async openOnce(): Promise<void> {
    this.breaker = await this.createBreaker((from, to) => this.tell(from, to));
    await this.read();
  }

  /** Resolves when no probe of this process is out, or being concluded. */
  async settled(): Promise<void> {
    await this.probe?.catch(() => undefined);
  }

  /** Reads the record, and learns it; what fails leaves this process to itself. */
  async read(): Promise<void> {
    await this.ask(() => this.context.store.read(this.ref, this.known()));
  }

  /** Reports what was counted. */
  async report(): Promise<void> {
    const { tally } = this;
    if (tally.isEmpty) return;
    const { generation } = tally;
    const { calls, failures } = tally.take();
    const { store, caller } = this.context;
    const terms = { ...this.policy, settleMs: CIRCUIT_SETTLE_MS };
    await this.ask(() => store.report(this.ref, { caller, generation, calls, failures, terms }));
  }

  /** What another process told. While this one is alone it reads instead: news do not say that Redis can be asked. */
  hear(news: CircuitNotification): void {
    if (this.mode !== 'shared') {
      if (this.mode === 'alone') void this.read();
      return;
    }
    if (news.generation > this.record.generation) this.adopt(news, news.timestamp);
  }

  /** Carries an order out, and learns what came of it. */
  async order(run: (store: CircuitStore) => Promise<CircuitReading>): Promise<void> {
    await this.open();
    const before = this.learnt;
    this.learn(await run(this.context.store), before);
  }

  /** The record, where it is one that a store that was emptied should have again. */
  private known(): CircuitRecord | undefined {
    return this.record.state === 'closed' ? undefined : this.record;
  }

  /**
   * Asks the store, and learns from its answer, however late it comes; `undefined` when there is none in time: calls wait
   * for it, and from then on this process decides by itself.
   *
   * @param late an answer that nobody waits for any more
   */
  private async ask<A extends CircuitReading>(
    question: () => Promise<A>,
    late?: (answer: A) => unknown,
  ): Promise<A | undefined> {
    const { clock, address } = this.context;
    const asked = this.askOnce(question);
    try {
      return await within(
        clock,
        ANSWER_LIMIT_MS,
        asked,
        () => new BackendUnavailableError('Reading the circuit', address),
      );
    } catch (error) {
      this.goAlone(error);
      void asked.then((answer) => answer !== undefined && late?.(answer));
      return undefined;
    }
  }

  private async askOnce<A extends CircuitReading>(
    question: () => Promise<A>,
  ): Promise<A | undefined> {
    const before = this.learnt;
    try {
      if (!this.context.isConnected())
        throw new BackendUnavailableError('Reading the circuit', this.context.address);
      const answer = await question();
      this.learn(answer, before);
      return answer;
    } catch (error) {
      this.goAlone(error);
      return undefined;
    }
  }

  /** @param before what {@link learnt} was when the question was asked */
  private learn({ record: text, timestamp }: CircuitReading, before: number): void {
    const parsed = parseCircuitRecord(text);
    if (isMalformed(parsed))
      this.context.debug(this.ref, () => `the record is not used: ${parsed.malformed}`);
    // A later version's state: calls pass, and what is counted for generation 0 is dropped.
    const record = isMalformed(parsed) ? NO_RECORD : parsed;
    if (record.generation < this.record.generation && before !== this.learnt) {
      // Overtaken by something newer; but if the store did lose its record, the next read says so.
      void this.read();
      return;
    }
    this.adopt(record, timestamp);
  }

  private adopt(record: CircuitRecord, timestamp: number): void {
    const from = this.state;
    const wasAlone = this.mode === 'alone';
    const isNew = record.generation !== this.record.generation;
    this.learnt += 1;
    this.record = record;
    const { clock } = this.context;
    this.dueAt =
      record.retryAt === undefined ? undefined : clock.elapsed() + record.retryAt - timestamp;
    if (isNew || this.mode !== 'shared') {
      this.urgentPace.reset();
      this.tally = this.createTally(record.generation);
      this.breaker?.follow(record.state);
    }
    this.mode = 'shared';
    if (wasAlone) this.context.cameBack(this);
    if (from !== record.state) this.tell(from, record.state);
  }

  private goAlone(error: unknown): void {
    if (this.mode === 'alone' || this.breaker === undefined) return;
    const { leftMs } = this;
    // A circuit whose time is up is open still: its next call is its probe.
    const openForMs =
      this.record.state === 'closed' ? 0 : leftMs === undefined ? undefined : Math.max(1, leftMs);
    this.mode = 'alone';
    this.breaker.goAlone(openForMs);
    this.context.wentAlone(this, messageOf(error));
  }

  private tell(from: CircuitState, to: CircuitState): void {
    const { functionName, workflowId } = this.ref;
    const { retryAt } = this;
    const isClosed = to === 'closed';
    this.context.debug(this.ref, () => `${from} -> ${to}`);
    this.context.changed(this, {
      ...{ functionName, workflowId, from, to, shared: this.mode === 'shared' },
      ...(isClosed ? {} : { reason: this.reason ?? 'failure-rate' }),
      ...(isClosed || retryAt === undefined ? {} : { retryAt }),
    });
  }

  private createTally(generation: number): Tally {
    return new Tally(generation, {
      isFailure: this.policy.isFailure,
      counted: (failed) => this.noteCounted(failed),
    });
  }

  private noteCounted(failed: boolean): void {
    const { breaker } = this;
    if (!failed) breaker?.noteSuccess();
    const isUrgent = failed && breaker?.noteFailure() === true;
    this.context.counted(this, isUrgent && this.urgentPace.take());
  }
}
