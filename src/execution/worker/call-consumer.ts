import { Logger } from '@nestjs/common';
import type { Backend } from '../../backend/backend.js';
import { LEAVE_WAIT_MS, reachable } from '../../backend/reachable.js';
import type { CallReader, RawCall } from '../../backend/call-streams.js';
import { pause, within, type Clock } from '../../common/clock.js';
import { Complaint } from '../../common/complaint.js';
import {
  BackendUnavailableError,
  CallCancelledError,
  ClosedError,
  DrainingError,
  DuplicateHandlerError,
  isFunctionsError,
  isRefused,
  OwnershipLostError,
} from '../../common/errors.js';
import type { Settings } from '../../common/settings.js';
import { messageOf } from '../../common/text.js';
import type { DrainReport, SessionFate, WorkSource } from '../../lifecycle/work-source.js';
import { partsOf } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { CallProbes } from '../call-probes.js';
import { CallReturner } from './call-returner.js';
import { CallRunner } from './call-runner.js';
import { HeldCalls } from './held-calls.js';
import type { HostedFunction } from './hosted-function.js';
import { Lanes, type Lane } from './lanes.js';
import { PlaceWatch, type OwnCall } from './place-watch.js';
import { ReadLoop } from './read-loop.js';
import { Roster } from './roster.js';
import type { RunningCall } from './running-call.js';
import { Settler } from './settler.js';

const RETRY_MS = 50;
const LOOP_END_GRACE_MS = 1_500;

/** The calls of one function that this process holds. */
export interface FunctionLoad {
  readonly ref: FunctionRef;
  readonly running: number;
  readonly queued: number;
}

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
 * Runs the calls of the functions of this process: what the {@link ReadLoop} reads is started, waits for a place,
 * or is handed back.
 *
 * Interleavings with a lost connection: what Redis delivered into it is pending for this consumer. After every
 * new connection the pending ones are read, and those that are not held here are accepted. "Held" is looked
 * at before the question and after the answer: a call that settles in between is in the answer and no longer
 * held.
 *
 * Interleavings with pause, end and drain: a read that was under way may still bring calls. They are handed
 * back at once, not started.
 *
 * Interleavings of a drain with a Redis that stands still, or a read connection that does not come back: what was
 * delivered into it, and nobody here has seen, cannot be looked for. It is said to be left: else the session would give
 * its lease back, and nobody would ever look after the call again.
 *
 * Interleavings with a group that somebody destroys: who finds it gone makes it again, at the end of the stream, and
 * claims what runs here; the others are told to do the same. What nobody claimed after a while was waiting, or is of
 * a worker that died: the supervisor puts it back under a new entry id, whoever made the group. A call that settles before it is claimed is still its
 * owner's: the entry is there.
 *
 * Interleavings with the loss of the session: condemned, its calls are others', and what runs is aborted;
 * forgotten with everything else in Redis, they are nobody's, and what runs goes on: it answers the call that
 * its caller writes again. Until that is found out, reading goes on under the old session's name: what it brings
 * goes to the next session, for nobody hands over what a forgotten one has. When that is found out in a drain there
 * is no next session: what runs finishes, or is handed back, under the old one's name, and what it was given and
 * nobody here has seen is handed back last.
 */
export class CallConsumer implements WorkSource {
  private readonly logger = new Logger('COORDINATOR');
  private readonly lanes: Lanes;
  private readonly reads: ReadLoop;
  private readonly settler: Settler;
  private readonly runner: CallRunner;
  private readonly running = new Roster<RunningCall>();
  private readonly held = new HeldCalls();
  private readonly returner: CallReturner;
  private readonly places: PlaceWatch;
  private troubled: () => void = () => undefined;
  private sessionId = '';
  /** The present session, or the last one between two. */
  private consumerName = '';
  /** The session that Redis forgot, until the next one has what it was given after that. */
  private forgotten = '';
  private stopping = false;
  private offsetMs = 0;
  private hasBroken = false;
  private generationOf: (workflowId: string) => number = () => 0;
  private readonly readTrouble = new Complaint((text) =>
    this.logger.error(`reading calls failed: ${text}`),
  );
  private readonly trouble = new Complaint((text) => this.logger.warn(text));

  constructor(
    private readonly backend: Backend,
    private readonly settings: Settings,
    private readonly clock: Clock,
    probes: CallProbes,
    /** Calls that this process made, and that are not settled. */
    ownCalls: () => Iterable<OwnCall>,
  ) {
    this.lanes = new Lanes(settings.concurrency);
    this.places = new PlaceWatch(this.lanes, this.running, settings.concurrency, ownCalls, (text) =>
      this.logger.warn(text),
    );
    const intake = {
      accept: (calls: readonly RawCall[]) => this.accept(calls),
      recover: (reader: CallReader) => this.recover(reader),
      trouble: (error: unknown) => this.handleTrouble(error),
      overdue: () => this.logger.warn('the read of calls is overdue: making a new connection'),
    };
    const offsetMs = (): number => this.offsetMs;
    this.reads = new ReadLoop(this.lanes, clock, settings.leaseMs, intake, offsetMs);
    this.returner = new CallReturner(
      backend,
      clock,
      this.held,
      () => this.owner,
      () => this.stopping,
    );
    this.settler = new Settler(
      backend,
      clock,
      () => this.consumerName,
      (text) => this.logger.warn(text),
    );
    const observer = {
      ended: (call: RunningCall) => this.giveBackPlace(call),
      settled: (call: RunningCall) => this.held.delete(call.raw),
    };
    const generationOf = (workflowId: string): number => this.generationOf(workflowId);
    this.runner = new CallRunner(
      settings,
      clock,
      this.settler,
      offsetMs,
      observer,
      probes,
      generationOf,
      this.running,
    );
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

  /** How many calls of each function run here, and wait here for a place. */
  load(): FunctionLoad[] {
    return this.lanes
      .all()
      .map(({ ref, running, queue }) => ({ ref, running, queued: queue.length }));
  }

  /** When the handlers that run here began, per function id, as who measures said. */
  starts(): Map<string, number[]> {
    const starts = new Map<string, number[]>();
    for (const { lane, startedAt } of this.running) {
      if (startedAt === undefined) continue;
      const known = starts.get(lane.ref.id);
      if (known === undefined) starts.set(lane.ref.id, [startedAt]);
      else known.push(startedAt);
    }
    return starts;
  }

  report(): ConsumerReport {
    return {
      hosted: this.lanes.size,
      inFlight: this.lanes.inFlight,
      sinceTurnMs: this.reads.sinceTurnMs,
      turnLimitMs: this.reads.turnLimitMs,
      malformed: this.runner.malformed,
    };
  }

  get leftNothing(): boolean {
    return this.returner.leftNothing;
  }

  onTrouble(listener: () => void): void {
    this.troubled = listener;
  }

  useGenerations(generationOf: (workflowId: string) => number): void {
    this.generationOf = generationOf;
  }

  pulse(offsetMs: number): void {
    this.offsetMs = offsetMs;
    this.reads.pulse();
    this.places.look();
    if (this.hasBroken) void this.findBroken().catch(() => undefined);
  }

  open(sessionId: string, offsetMs: number): void {
    this.sessionId = sessionId;
    this.consumerName = sessionId;
    this.offsetMs = offsetMs;
    this.reads.pulse();
    if (this.lanes.size > 0) this.ensureReader();
  }

  /** The read connection is opened when the first function is hosted. */
  private ensureReader(): void {
    if (this.reads.current !== undefined || this.stopping || this.sessionId === '') return;
    this.reads.open(this.backend.calls.openReader(this.sessionId));
  }

  async begin(refs: readonly FunctionRef[]): Promise<readonly FunctionRef[]> {
    if (refs.length === 0) return [];
    await this.makeGroups(refs);
    const lanes = refs.flatMap((ref) => this.lanes.get(ref) ?? []);
    if (lanes.length === 0 || this.stopping) return [];
    this.ensureReader();
    const moved = this.lanes.begin(lanes);
    if (this.forgotten !== '') await this.inherit(lanes);
    await this.reads.nextTurn();
    return moved;
  }

  /** Functions that cannot be read, because their key holds something else than a stream. */
  broken(): FunctionRef[] {
    return this.lanes
      .all()
      .filter((lane) => lane.broken)
      .map((lane) => lane.ref);
  }

  poolOf(ref: FunctionRef): string {
    return this.lanes.get(ref)?.poolId ?? '';
  }

  pause(ref: FunctionRef): void {
    const lane = this.lanes.get(ref);
    if (lane === undefined || lane.paused) return;
    this.lanes.pause(lane);
    void this.returner.handBack(ref, this.lanes.clearQueue(lane));
    this.reads.nudge();
  }

  resume(ref: FunctionRef): void {
    const lane = this.lanes.get(ref);
    if (lane === undefined || !lane.paused) return;
    this.lanes.resume(lane);
    this.reads.nudge();
  }

  async end(ref: FunctionRef, limitMs: number): Promise<DrainReport> {
    const lane = this.lanes.get(ref);
    if (lane === undefined || !lane.begun) return { finished: 0, handedBack: 0 };
    this.lanes.stop(lane);
    // While there is no connection nothing is read, and the loop plans anew when there is one.
    if (!this.reads.isConnecting) await this.reads.nextTurn();
    return this.finish([lane], limitMs);
  }

  async drain(limitMs: number): Promise<DrainReport> {
    this.stopping = true;
    this.reads.stop();
    const reader = this.reads.current;
    // What runs when Redis was emptied goes on without one.
    if (reader === undefined && this.forgotten === '') return { finished: 0, handedBack: 0 };
    const lanes = this.lanes.all();
    for (const lane of lanes) this.lanes.stop(lane);
    this.reads.nudge();
    if (reader !== undefined) await this.returnUnread(reader, lanes);
    const report = await this.finish(lanes, limitMs);
    await this.leaveForgotten(lanes);
    return report;
  }

  async abandon(fate: SessionFate): Promise<void> {
    const reader = this.reads.leave();
    if (fate === 'forgotten' && this.sessionId !== '') this.forgotten = this.sessionId;
    this.sessionId = '';
    if (fate === 'condemned') {
      for (const call of this.running) call.lose(new OwnershipLostError(call.entry.callId));
      this.running.clear();
    }
    this.held.clear();
    for (const call of this.running) this.held.add(call.raw);
    this.lanes.reset(fate === 'forgotten');
    this.settler.forget();
    await reader?.close();
  }

  cancel(callId: string): void {
    for (const call of this.running) {
      if (call.entry.callId !== callId) continue;
      call.context.abort(
        new CallCancelledError(call.lane.ref.functionName, call.lane.ref.workflowId),
      );
      this.logger.debug(`call ${callId} was cancelled by its caller`);
    }
    const waiting = this.lanes.unqueue((call) => partsOf(call.fields).callId === callId);
    if (waiting === undefined) return;
    this.discard(waiting, callId);
    this.logger.debug(`call ${callId} was cancelled by its caller before it started`);
    this.reads.nudge();
  }

  /** Removes a call that waits for a place here, and that nobody waits for any more. */
  private discard(call: RawCall, callId: string): void {
    const { ref, entryId } = call;
    const kind = 'discard';
    this.settler.add({ ref, entryId, callId, replyTo: '', kind, reply: '' }, () =>
      this.held.delete(call),
    );
  }

  async close(): Promise<void> {
    this.stopping = true;
    this.reads.stop();
    this.settler.close();
    await this.reads.close();
  }

  private accept(calls: readonly RawCall[]): void {
    this.readTrouble.settle();
    let unwanted: RawCall[] | undefined;
    for (const call of calls) {
      // Delivered again although it is held here: its group was destroyed and made anew. It runs once.
      if (this.held.has(call)) continue;
      this.held.add(call);
      const lane = this.lanes.get(call.ref);
      if (lane === undefined || !this.lanes.isOpen(lane)) {
        unwanted ??= [];
        unwanted.push(call);
      } else if (lane.queue.length > 0 || !this.lanes.hasPlace(lane)) {
        this.lanes.enqueue(lane, call);
      } else {
        this.begun(lane, call);
      }
    }
    if (unwanted !== undefined) void this.returner.handBackAll(unwanted);
  }

  private begun(lane: Lane, raw: RawCall): void {
    this.lanes.start(lane);
    const call = this.runner.start(lane, raw);
    this.running.add(call);
    call.run();
  }

  private giveBackPlace(call: RunningCall): void {
    if (!this.running.delete(call)) return;
    this.lanes.end(call.lane);
    const next = this.lanes.dequeue();
    if (next === undefined) this.reads.nudge();
    else this.begun(next.lane, next.call);
  }

  /** Calls that were delivered to this session and that nobody here holds. */
  private async unseen(reader: CallReader, lanes: readonly Lane[]): Promise<RawCall[]> {
    if (lanes.length === 0) return [];
    const before = this.held.copy();
    const pending = await reader.pending(lanes.map((lane) => lane.ref));
    return pending.filter((call) => !before.has(call) && !this.held.has(call));
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

  /** Once the loop has ended: what Redis delivered, and nobody here has seen. */
  private async returnUnread(reader: CallReader, lanes: readonly Lane[]): Promise<void> {
    try {
      if (!(await this.isReachable()))
        throw new BackendUnavailableError('reading calls', this.backend.address);
      await within(
        this.clock,
        this.reads.blockMs + LOOP_END_GRACE_MS,
        this.reads.done,
        () => new ClosedError('The read loop'),
      ).catch(() => reader.reset());
      await this.returner.handBackAll(await this.unseen(reader, lanes));
    } catch (error) {
      // What Redis refuses was refused to the loop as well, and nothing was delivered.
      if (isRefused(error)) this.logger.debug(`could not look for calls: ${messageOf(error)}`);
      else this.returner.noteLeft('calls that may have been delivered', error);
    }
  }

  private isReachable(): Promise<boolean> {
    return reachable(this.backend, this.clock, LEAVE_WAIT_MS);
  }

  private async finish(lanes: readonly Lane[], limitMs: number): Promise<DrainReport> {
    const waiting = lanes.flatMap((lane) => this.lanes.clearQueue(lane));
    const returned = this.returner.handBackAll(waiting);
    const until = this.clock.elapsed() + limitMs;
    // Those that start later belong to whoever began the function anew meanwhile.
    const mine = [...this.running].filter((call) => lanes.includes(call.lane));
    await within(
      this.clock,
      limitMs,
      Promise.all(mine.map((call) => call.done)),
      () => new ClosedError('drain'),
    ).catch(() => undefined);
    await returned;
    const late = mine.filter((call) => this.running.has(call));
    for (const call of late) {
      call.lose(new DrainingError(call.entry.callId, this.settings.drainTimeoutMs));
      this.running.delete(call);
      this.lanes.end(call.lane);
    }
    // All at once: where Redis stands still each would wait for it, one after the other.
    await Promise.all(
      lanes.map(({ ref }) => {
        const mine = late.filter((call) => call.lane.ref === ref);
        return this.returner.handBack(
          ref,
          mine.map(({ raw }) => raw),
          true,
        );
      }),
    );
    if (late.length > 0)
      this.logger.warn(
        `${late.length} call(s) did not finish within ${limitMs} ms and were handed back`,
      );
    await within(
      this.clock,
      this.backend.isConnected() ? Math.max(until - this.clock.elapsed(), LEAVE_WAIT_MS) : 0,
      this.settler.whenIdle(),
      () => new ClosedError('settle'),
    ).catch(() => undefined);
    await this.returner.leave(lanes.map(({ ref }) => ref));
    return { finished: mine.length - late.length, handedBack: waiting.length + late.length };
  }

  /** Under whose name calls are held here: between a session that Redis forgot and the next one, the former's. */
  private get owner(): string {
    return this.sessionId === '' ? this.forgotten : this.sessionId;
  }

  private async makeGroups(refs: readonly FunctionRef[]): Promise<void> {
    const regrouped = await this.backend.calls.ensureGroups(refs, this.sessionId);
    for (const ref of regrouped) await this.claim(ref);
  }

  reclaim(functionId: string): void {
    const lane = this.lanes.all().find(({ ref }) => ref.id === functionId);
    if (lane !== undefined) void this.claim(lane.ref);
  }

  private async claim(ref: FunctionRef): Promise<void> {
    const entryIds = this.held.of(ref);
    if (entryIds.length === 0 || this.sessionId === '') return;
    await this.backend.calls
      .claim(ref, this.sessionId, entryIds)
      .catch((error: unknown) =>
        this.logger.warn(`could not claim what runs of ${ref.functionName}: ${messageOf(error)}`),
      );
  }

  /** What was delivered to the session that Redis forgot, before that was noticed. */
  private async inherit(lanes: readonly Lane[]): Promise<void> {
    const { forgotten, sessionId } = this;
    const found = await Promise.all(
      lanes.map(({ ref }) => this.backend.calls.inherit(ref, forgotten, sessionId)),
    );
    if (this.sessionId === sessionId) this.forgotten = '';
    this.accept(found.flat());
  }

  /** In a drain no session comes that would inherit: it goes back. */
  private async leaveForgotten(lanes: readonly Lane[]): Promise<void> {
    if (this.forgotten === '' || !(await this.isReachable())) return;
    const refs = lanes.map(({ ref }) => ref);
    if (await this.returner.returnOf(this.forgotten, refs)) this.forgotten = '';
  }

  private async handleTrouble(error: unknown): Promise<void> {
    if (isRefused(error, 'NOGROUP')) return this.makeGroupsAgain();
    if (isRefused(error, 'WRONGTYPE')) await this.findBroken();
    if (!isFunctionsError(error, 'BACKEND_UNAVAILABLE')) this.readTrouble.tell(messageOf(error));
    await pause(this.clock, RETRY_MS);
  }

  /** The group or its stream was deleted, or Redis was emptied: the heartbeat finds out which. */
  private async makeGroupsAgain(): Promise<void> {
    this.trouble.tell('a consumer group is gone: making it again');
    this.troubled();
    const begun = this.lanes.all().filter((lane) => lane.begun);
    try {
      await this.makeGroups(begun.map((lane) => lane.ref));
      this.trouble.settle();
    } catch (error) {
      if (isRefused(error)) this.readTrouble.tell(messageOf(error));
      await pause(this.clock, RETRY_MS);
    }
  }

  /** One key that is no stream would keep all functions from being read: its function is left out until it is one. */
  private async findBroken(): Promise<void> {
    const begun = this.lanes.all().filter((lane) => lane.begun);
    const broken = await this.backend.calls.broken(begun.map((lane) => lane.ref));
    const changed = this.lanes.noteBroken(new Set(broken.map((ref) => ref.id)));
    this.hasBroken = broken.length > 0;
    if (!changed) return;
    for (const { functionName, workflowId } of broken)
      this.logger.error(
        `the calls of ${functionName} (workflow ${workflowId}) cannot be read: its key holds no stream. Delete that key.`,
      );
    await this.makeGroups(begun.filter((lane) => !lane.broken).map((lane) => lane.ref));
    this.reads.nudge();
  }
}
