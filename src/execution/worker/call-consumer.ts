import { Logger } from '@nestjs/common';
import type { Backend } from '../../backend/backend.js';
import { reachable } from '../../backend/reachable.js';
import type { CallReader, RawCall } from '../../backend/call-streams.js';
import { pause, within, type Clock, type Timer } from '../../common/clock.js';
import { createDeferred, type Deferred } from '../../common/deferred.js';
import {
  CallCancelledError,
  ClosedError,
  DrainingError,
  DuplicateHandlerError,
  isFunctionsError,
  OwnershipLostError,
} from '../../common/errors.js';
import type { Settings } from '../../common/settings.js';
import { messageOf } from '../../common/text.js';
import type { DrainReport, WorkSource } from '../../lifecycle/work-source.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import { CallRunner, fieldOf, type RunningCall } from './call-runner.js';
import type { HostedFunction } from './hosted-function.js';
import { Lanes, type Lane, type ReadPlan } from './lanes.js';
import { Settler } from './settler.js';

/** How long a read waits in Redis before it asks again, at the most: also how often an idle process turns. */
export const MAX_BLOCK_MS = 2_000;
/** A read waits, and is started after a pulse, for no longer than this part of the lease. */
const LEASE_PART = 0.45;
/** A read that takes this much longer than asked sits on a dead connection. */
const READ_GRACE_MS = 1_500;
const RECOVER_MARGIN_MS = 500;
const RETRY_MS = 50;
/** A drain waits this long for Redis to come back; what it cannot hand back then is handed over. */
const LEAVE_WAIT_MS = 1_000;
const WAKE_RETRY_MS = 2;

/** How the read loop does, for health. */
export interface ConsumerReport {
  readonly hosted: number;
  readonly inFlight: number;
  /** Milliseconds since the loop last turned; 0 while it has nothing to read for want of places. */
  readonly sinceTurnMs: number;
  /** Milliseconds after which a turn is overdue. */
  readonly turnLimitMs: number;
  readonly malformed: number;
}

/**
 * Takes calls for the functions of this process and runs them.
 *
 * One loop, one blocking read for all functions; everything that changes what should be read (a place
 * becomes free, a function begins, pauses, ends) either finds the loop between two reads, or wakes the read
 * that waits. A wake that comes before the read has reached Redis finds nobody to wake, so it is repeated
 * until that read has returned.
 *
 * Interleavings with a lost connection: an entry that Redis delivered into a dead socket is pending for this
 * consumer and was never seen here. After every new connection the pending ones are read, and those that
 * are not held here are accepted. "Held" is looked at before the question and after the answer: a call that
 * settles in between is in the answer and no longer held.
 *
 * The server may notice the end of the old connection after the new one is made, and deliver into the old one
 * once more; so the pending ones are read again when every old read must have ended.
 *
 * Interleavings with the end of the lease: a read is started at most 0.45 leases after a pulse and waits at
 * most 0.45 leases, so when the lease runs out, and the session's calls are handed over, no read of it is
 * left that could be served afterwards, be the process frozen, cut off, or unable to beat.
 *
 * Interleavings with pause, end and drain: a read that was under way may still bring calls. They are handed
 * back at once, not started.
 */
export class CallConsumer implements WorkSource {
  private readonly logger = new Logger('COORDINATOR');
  private readonly lanes: Lanes;
  private readonly settler: Settler;
  private readonly runner: CallRunner;
  private readonly running = new Map<string, RunningCall>();
  private readonly held = new Set<string>();
  private readonly turns = new Set<Deferred<void>>();
  private troubled: () => void = () => undefined;
  private reader: CallReader | undefined;
  private sessionId = '';
  private loop: Promise<void> = Promise.resolve();
  private reading: { readonly plan: ReadPlan; readonly since: number } | undefined;
  private changed: Deferred<void> | undefined;
  /** The read that is being woken: once is enough. */
  private waking: object | undefined;
  private stopping = false;
  private turnedAt = 0;
  private watchdog: Timer | undefined;
  private overdue: object | undefined;
  private connecting = false;
  private allReturned = true;
  private offsetMs = 0;
  private pulsedAt = 0;
  /** Reads nothing until the next pulse. */
  private fenced = false;
  private readonly blockMs: number;

  constructor(
    private readonly backend: Backend,
    private readonly settings: Settings,
    private readonly clock: Clock,
  ) {
    this.lanes = new Lanes(settings.concurrency);
    this.blockMs = Math.min(MAX_BLOCK_MS, Math.floor(settings.leaseMs * LEASE_PART));
    this.settler = new Settler(backend, clock, (error) =>
      this.logger.error(`outcomes could not be written: ${messageOf(error)}`),
    );
    this.runner = new CallRunner(settings, clock, this.settler, () => this.offsetMs);
  }

  /**
   * Adds a function that this process can run.
   *
   * @throws DuplicateHandlerError
   */
  add(hosted: HostedFunction): void {
    const { functionName, workflowId } = hosted.ref;
    const known = this.lanes.get(hosted.ref);
    if (known !== undefined) {
      throw new DuplicateHandlerError(functionName, workflowId, known.hosted.source, hosted.source);
    }
    this.lanes.add(hosted);
  }

  /** The functions that this process can run. */
  hosted(): HostedFunction[] {
    return this.lanes.all().map((lane) => lane.hosted);
  }

  report(): ConsumerReport {
    const waitsForPlace = this.changed !== undefined || this.reader === undefined;
    return {
      hosted: this.lanes.size,
      inFlight: this.lanes.inFlight,
      sinceTurnMs: waitsForPlace ? 0 : Math.max(0, this.clock.now() - this.turnedAt),
      turnLimitMs: this.blockMs + READ_GRACE_MS + 2_000,
      malformed: this.runner.malformed,
    };
  }

  get leftNothing(): boolean {
    return this.allReturned;
  }

  onTrouble(listener: () => void): void {
    this.troubled = listener;
  }

  pulse(offsetMs: number): void {
    this.offsetMs = offsetMs;
    this.pulsedAt = this.clock.now();
    if (this.fenced) {
      this.fenced = false;
      this.nudge();
    }
  }

  open(sessionId: string): void {
    this.sessionId = sessionId;
    this.pulsedAt = this.clock.now();
    this.fenced = false;
    if (this.lanes.size > 0) this.ensureReader();
  }

  /** The read connection is opened when the first function is hosted. */
  private ensureReader(): void {
    if (this.reader !== undefined || this.stopping || this.sessionId === '') return;
    const reader = this.backend.calls.openReader(this.sessionId);
    this.reader = reader;
    this.turnedAt = this.clock.now();
    this.loop = this.run(reader);
    this.watchdog ??= this.clock.every(500, () => this.watch());
  }

  async begin(refs: readonly FunctionRef[]): Promise<void> {
    if (refs.length === 0) return;
    await this.backend.calls.ensureGroups(refs);
    const lanes = refs.flatMap((ref) => this.lanes.get(ref) ?? []);
    if (lanes.length === 0 || this.stopping) return;
    this.ensureReader();
    for (const lane of lanes) lane.begun = true;
    await this.nextTurn();
  }

  pause(ref: FunctionRef): void {
    const lane = this.lanes.get(ref);
    if (lane === undefined || lane.paused) return;
    lane.paused = true;
    void this.handBack(ref, this.unqueue(lane));
    this.nudge();
  }

  resume(ref: FunctionRef): void {
    const lane = this.lanes.get(ref);
    if (lane === undefined || !lane.paused) return;
    lane.paused = false;
    this.nudge();
  }

  async end(ref: FunctionRef, limitMs: number): Promise<DrainReport> {
    const lane = this.lanes.get(ref);
    if (lane === undefined || !lane.begun) return { finished: 0, handedBack: 0 };
    lane.begun = false;
    // While there is no connection nothing is read, and the loop plans anew when there is one.
    if (!this.connecting) await this.nextTurn();
    return this.finish([lane], limitMs);
  }

  async drain(limitMs: number): Promise<DrainReport> {
    this.stopping = true;
    this.endTurns();
    const reader = this.reader;
    if (reader === undefined) return { finished: 0, handedBack: 0 };
    for (const lane of this.lanes.all()) lane.begun = false;
    this.nudge();
    const lanes = this.lanes.all();
    if (await reachable(this.backend, this.clock, LEAVE_WAIT_MS)) {
      await within(
        this.clock,
        this.blockMs + READ_GRACE_MS,
        this.loop,
        () => new ClosedError('The read loop'),
      ).catch(() => reader.reset());
      await this.returnUnseen(reader, lanes);
    }
    return this.finish(lanes, limitMs);
  }

  async abandon(): Promise<void> {
    const reader = this.reader;
    this.reader = undefined;
    this.sessionId = '';
    for (const call of this.running.values()) call.lose(new OwnershipLostError(call.entry.callId));
    this.running.clear();
    this.held.clear();
    this.lanes.reset();
    this.settler.forget();
    this.nudge();
    await reader?.close();
  }

  cancel(callId: string): void {
    for (const call of this.running.values()) {
      if (call.entry.callId !== callId) continue;
      call.context.abort(
        new CallCancelledError(call.lane.ref.functionName, call.lane.ref.workflowId),
      );
      this.logger.debug(`call ${callId} was cancelled by its caller`);
    }
    const waiting = this.lanes.unqueue((call) => fieldOf(call, 'i') === callId);
    if (waiting === undefined) return;
    this.discard(waiting, callId);
    this.logger.debug(`call ${callId} was cancelled by its caller before it started`);
    this.nudge();
  }

  /** Removes a call that waits for a place here, and that nobody waits for any more. */
  private discard(call: RawCall, callId: string): void {
    const { ref, entryId } = call;
    this.settler.add({ ref, entryId, callId, replyTo: '', kind: 'discard', reply: '' }, () =>
      this.held.delete(heldKey(call)),
    );
  }

  async close(): Promise<void> {
    this.stopping = true;
    this.endTurns();
    this.watchdog?.cancel();
    this.nudge();
    this.settler.close();
    const reader = this.reader;
    this.reader = undefined;
    await reader?.close();
    await this.loop;
  }

  private async run(reader: CallReader): Promise<void> {
    let connection = 0;
    let recoverAgainAt = Infinity;
    while (!this.stopping && this.reader === reader) {
      try {
        await this.connected(reader);
        if (reader.connections() !== connection) {
          connection = reader.connections();
          await this.recover(reader);
          recoverAgainAt = this.clock.now() + this.blockMs + RECOVER_MARGIN_MS;
        } else if (this.clock.now() > recoverAgainAt) {
          recoverAgainAt = Infinity;
          await this.recover(reader);
        }
        await this.turn(reader);
      } catch (error) {
        if (this.stopping || this.reader !== reader) break;
        await this.handleTrouble(error);
      }
    }
    this.reading = undefined;
    this.endTurns();
  }

  private async connected(reader: CallReader): Promise<void> {
    this.connecting = true;
    try {
      await reader.whenConnected();
    } finally {
      this.connecting = false;
    }
  }

  private async turn(reader: CallReader): Promise<void> {
    this.turnedAt = this.clock.now();
    this.fenced = this.turnedAt - this.pulsedAt > this.settings.leaseMs * LEASE_PART;
    const plan = this.fenced ? undefined : this.lanes.plan();
    if (plan === undefined) {
      const changed = (this.changed = createDeferred());
      this.endTurns();
      await changed.promise;
      return;
    }
    const read = reader.read(plan.refs, plan.count, plan.blocks ? this.blockMs : 0);
    this.reading = { plan, since: this.turnedAt };
    this.endTurns();
    try {
      const calls = await read;
      this.lanes.observe(plan, calls.length);
      if (this.reader === reader) this.accept(calls);
    } finally {
      this.reading = undefined;
    }
  }

  /** Those who wait for the loop to have seen a change see it now: the read in place is planned with it. */
  private endTurns(): void {
    for (const turn of this.turns) turn.resolve();
    this.turns.clear();
  }

  /** Resolves when the loop has planned with what is decided now, or nothing is being read at all. */
  private nextTurn(): Promise<void> {
    if (this.reader === undefined || this.stopping) return Promise.resolve();
    const turn = createDeferred();
    this.turns.add(turn);
    this.nudge();
    return turn.promise;
  }

  /** What should be read has changed: lets the loop go on, or wakes the read that waits. */
  private nudge(): void {
    const changed = this.changed;
    this.changed = undefined;
    changed?.resolve();
    const reading = this.reading;
    if (reading === undefined || !reading.plan.blocks) return;
    if (this.stopping || this.turns.size > 0 || this.lanes.isOutdated(reading.plan))
      void this.wake(reading);
  }

  private async wake(reading: object): Promise<void> {
    if (this.waking === reading) return;
    this.waking = reading;
    const reader = this.reader;
    while (reader !== undefined && this.reading === reading) {
      const woken = await reader.wake().catch(() => false);
      if (woken) return;
      await pause(this.clock, WAKE_RETRY_MS);
    }
  }

  private accept(calls: readonly RawCall[]): void {
    const unwanted = new Map<FunctionRef, RawCall[]>();
    for (const call of calls) {
      const key = heldKey(call);
      // Delivered again although it is held here: its group was destroyed and made anew. It runs once.
      if (this.held.has(key)) continue;
      this.held.add(key);
      const lane = this.lanes.get(call.ref);
      if (lane === undefined || !this.lanes.isOpen(lane)) {
        const others = unwanted.get(call.ref);
        if (others === undefined) unwanted.set(call.ref, [call]);
        else others.push(call);
      } else if (lane.queue.length > 0 || !this.lanes.hasPlace(lane)) {
        this.lanes.enqueue(lane, call);
      } else {
        this.begun(lane, call);
      }
    }
    for (const [ref, others] of unwanted) void this.handBack(ref, others);
  }

  private begun(lane: Lane, raw: RawCall): void {
    const key = heldKey(raw);
    this.lanes.start(lane);
    const session = this.sessionId;
    const call = this.runner.start(lane, raw, {
      ended: () => {
        if (session !== this.sessionId || !this.running.delete(key)) return;
        this.lanes.end(lane);
        const next = this.lanes.dequeue();
        if (next === undefined) this.nudge();
        else this.begun(next.lane, next.call);
      },
      settled: () => this.held.delete(key),
    });
    this.running.set(key, call);
    call.run();
  }

  /** Calls that were delivered to this session and that nobody here holds. */
  private async unseen(reader: CallReader, lanes: readonly Lane[]): Promise<RawCall[]> {
    if (lanes.length === 0) return [];
    const before = new Set(this.held);
    const pending = await reader.pending(lanes.map((lane) => lane.ref));
    return pending.filter((call) => !before.has(heldKey(call)) && !this.held.has(heldKey(call)));
  }

  private async recover(reader: CallReader): Promise<void> {
    const unseen = await this.unseen(
      reader,
      this.lanes.all().filter((lane) => lane.begun),
    );
    if (unseen.length === 0) return;
    this.logger.debug(
      `${unseen.length} call(s) were delivered into a lost connection: taking them now`,
    );
    this.accept(unseen);
  }

  private async returnUnseen(reader: CallReader, lanes: readonly Lane[]): Promise<void> {
    try {
      const byRef = new Map<FunctionRef, RawCall[]>();
      for (const call of await this.unseen(reader, lanes))
        byRef.set(call.ref, [...(byRef.get(call.ref) ?? []), call]);
      await Promise.all([...byRef].map(([ref, calls]) => this.handBack(ref, calls)));
    } catch (error) {
      this.logger.debug(`could not look for undelivered calls: ${messageOf(error)}`);
    }
  }

  private async finish(lanes: readonly Lane[], limitMs: number): Promise<DrainReport> {
    const waiting = lanes.map((lane) => ({ lane, calls: this.unqueue(lane) }));
    let handedBack = 0;
    for (const { calls } of waiting) handedBack += calls.length;
    const returned = Promise.all(waiting.map(({ lane, calls }) => this.handBack(lane.ref, calls)));
    const mine = [...this.running.values()].filter((call) => lanes.includes(call.lane));
    await within(
      this.clock,
      limitMs,
      Promise.all(mine.map((call) => call.done)),
      () => new ClosedError('drain'),
    ).catch(() => undefined);
    await returned;
    const late = [...this.running.entries()].filter(([, call]) => lanes.includes(call.lane));
    for (const lane of lanes) {
      const entries = late.filter(([, call]) => call.lane === lane);
      for (const [key, call] of entries) {
        call.lose(new DrainingError(call.entry.callId, this.settings.drainTimeoutMs));
        this.running.delete(key);
        this.lanes.end(lane);
      }
      await this.handBack(
        lane.ref,
        entries.map(([, call]) => call.raw),
        true,
      );
    }
    if (late.length > 0)
      this.logger.warn(
        `${late.length} call(s) did not finish within ${limitMs} ms and were handed back`,
      );
    await within(
      this.clock,
      this.backend.isConnected() ? limitMs + RETRY_MS : 0,
      this.settler.whenIdle(),
      () => new ClosedError('settle'),
    ).catch(() => undefined);
    // With nothing pending any more this removes the consumer from the groups.
    await Promise.all(lanes.map((lane) => this.handBack(lane.ref, [], false, true)));
    return { finished: mine.length - late.length, handedBack: handedBack + late.length };
  }

  private unqueue(lane: Lane): RawCall[] {
    return this.lanes.clearQueue(lane);
  }

  private async handBack(
    ref: FunctionRef,
    calls: readonly RawCall[],
    started = false,
    always = false,
  ): Promise<void> {
    if (calls.length === 0 && (!always || !this.backend.isConnected())) return;
    const session = this.sessionId;
    try {
      if (this.stopping && !this.backend.isConnected()) throw new ClosedError('This process');
      await this.backend.calls.release(ref, session, {
        kind: 'handed-back',
        entries: calls.map(({ entryId }) => ({ entryId, started })),
      });
    } catch (error) {
      const lasts = !this.stopping && session === this.sessionId;
      if (lasts && isFunctionsError(error, 'BACKEND_UNAVAILABLE')) {
        void this.handBackLater(ref, calls, started);
        return;
      }
      // The supervisor hands them over when the session is gone.
      this.allReturned = false;
      this.logger.warn(
        `${calls.length} call(s) of ${ref.functionName} could not be handed back: ${messageOf(error)}`,
      );
    }
    for (const call of calls) this.held.delete(heldKey(call));
  }

  /** Redis was lost on the way. As long as this session lasts, nobody else looks after what is pending for it. */
  private async handBackLater(
    ref: FunctionRef,
    calls: readonly RawCall[],
    started: boolean,
  ): Promise<void> {
    await pause(this.clock, RETRY_MS);
    await this.handBack(ref, calls, started);
  }

  private async handleTrouble(error: unknown): Promise<void> {
    this.reading = undefined;
    if (error instanceof Error && error.message.startsWith('NOGROUP')) {
      // The group or its stream was deleted, or Redis was emptied: the heartbeat finds out which.
      this.logger.warn('a consumer group is gone: making it again');
      this.troubled();
      const begun = this.lanes.all().filter((lane) => lane.begun);
      await this.backend.calls.ensureGroups(begun.map((lane) => lane.ref)).catch(() => undefined);
      return;
    }
    if (!isFunctionsError(error, 'BACKEND_UNAVAILABLE'))
      this.logger.error(`reading calls failed: ${messageOf(error)}`);
    await pause(this.clock, RETRY_MS);
  }

  /** A read that never returns sits on a connection whose other end is gone. */
  private watch(): void {
    const { reading, reader } = this;
    if (reading === undefined || reader === undefined) return;
    if (this.clock.now() - reading.since < this.blockMs + READ_GRACE_MS) return;
    if (this.overdue !== reading)
      this.logger.warn('the read of calls is overdue: making a new connection');
    this.overdue = reading;
    reader.reset();
  }
}

function heldKey(call: RawCall): string {
  return `${call.ref.id} ${call.entryId}`;
}
