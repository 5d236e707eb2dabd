import { Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BrokenKeyError } from '../backend/broken-key-error.js';
import type { DeathEvidence, HostedWorker, Office } from '../backend/fleet-store.js';
import type { Clock, Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { isRefused } from '../common/errors.js';
import { messageOf } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import { labelOf, type FunctionRef } from '../protocol/function-ref.js';
import {
  LOOK_INTERVAL_MS,
  lookIntervalMs,
  OFFICE_LEASES,
  OfficeCandidate,
  TURN_INTERVALS_MS,
} from './office-candidate.js';

/** A process whose subscription is gone gets this long to come back before it is taken for dead. */
export const ABSENCE_GRACE_MS = 120;
/** After the supervisor's own connection came back, those that were not there get this long to return. */
export const RETURN_GRACE_MS = 2_000;
/** A condemned session is forgotten when every read that it may have left in Redis has ended. */
export const LINGER_MS = 3_000;
/** A look that takes longer says that Redis, or this process, stood still. */
const STALL_MS = 1_000;
/** About how often leases are looked at. */
const LEASE_LOOK_MS = 450;

/**
 * Finds the dead. Every process runs one; leases elect the one that looks, and a deputy that looks after it.
 *
 * A process is dead when its presence (its subscription) is missing in two looks and for ABSENCE_GRACE_MS, and
 * no connection is open on which it reads calls: the kernel of a killed process closes all of them within
 * milliseconds, while one that merely lost its subscriber, or whose event loop is blocked, keeps the others.
 * Or when its lease ran out: a frozen process keeps its sockets. The step that ends a session checks the
 * evidence again, so a return in the last moment wins.
 *
 * Interleavings with a return of Redis, of this process's connection, or of its time to run: whom the first look
 * afterwards does not find may be on the way back and gets RETURN_GRACE_MS, and leases are not looked at meanwhile.
 * Whom it finds, and who is gone later, is judged as always. Each look tells the deputy whether that time is over: one
 * that joined a moment ago need not give it again when it takes over. A look after this process's own connection came
 * back tells that Redis, and the supervisor's connection, were there all the time, or that their quiet time is over, too.
 *
 * Interleaving with a read that a lost session has left in Redis (where this user may not see connections): it can
 * be served a call that was just handed over. So the session is not forgotten before such a read must have
 * ended, and its calls are handed over once more then.
 *
 * Interleavings with a supervisor's own death: every step can be repeated, and the session stays listed
 * until its last step (`bury`), so the next supervisor finds it again. Who that is decides the OfficeCandidate.
 *
 * A process whose Redis user may not do it says so once, gives back what office it holds and asks again on its next
 * connection: one that kept an office and could not do its work would keep it from those who can.
 *
 * Keys that somebody broke: what is wrong is said once, and it goes on when that is right again. Without the keys
 * of calls that are due the dead are found all the same, without the deputy's there is no deputy.
 */
export class Supervisor {
  private readonly logger = new Logger('COORDINATOR');
  private readonly absentSince = new Map<string, number>();
  private readonly burying = new Set<string>();
  private readonly troubles = new Complaint((text) => this.logger.error(text));
  private readonly brokenKeys = new Set<string>();
  private readonly adopting = new Set<string>();
  /** When the calls of condemned sessions were handed over here for the first time. */
  private readonly condemnedAt = new Map<string, number>();
  private sessionId: string | undefined;
  private timer: Timer | undefined;
  private readonly candidate: OfficeCandidate;
  private turning: Promise<void> | undefined;
  private looks = 0;
  private lookMs = LOOK_INTERVAL_MS;
  private quietUntil = 0;
  /** Whom no look of a quiet time has found yet: they may be on their way back. */
  private awaited: ReadonlySet<string> | undefined;
  private dispose: Dispose | undefined;
  /** Its Redis user lacks the rights; so it is until the next connection. */
  private refused = false;
  private refusalLogged = false;

  constructor(
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly maxDeliveries: number,
  ) {
    this.candidate = new OfficeCandidate(backend.fleet, clock);
  }

  /** Whether this process is the one that looks. */
  get isElected(): boolean {
    return this.candidate.office === 'supervisor';
  }

  /** Takes part under this session; again after a new one was joined. */
  start(sessionId: string): void {
    this.sessionId = sessionId;
    this.beQuiet();
    this.dispose ??= this.backend.onConnected(() => this.reconnected());
    this.refused = false;
    this.pace('none');
  }

  /**
   * The supervisor, whose deputy this process is, has looked at so many sessions; `settled`: it gives none time to return.
   * Then all had theirs, and this process, which may have joined just now, need not give it to them once more.
   */
  hear(sessions: number, settled: boolean): void {
    this.candidate.hear(sessions);
    if (settled) this.quietUntil = 0;
  }

  /** Steps down, so that another need not wait for the lease. */
  async stop(): Promise<void> {
    this.timer?.cancel();
    this.timer = undefined;
    this.dispose?.();
    this.dispose = undefined;
    await this.turning;
    await this.resign();
  }

  private reconnected(): void {
    this.beQuiet();
    if (!this.refused) return;
    this.refused = false;
    this.pace('none');
  }

  /** Whether the failure is a right that this process's Redis user lacks; then it stops, and others do the work. */
  private lacksRight(error: unknown): boolean {
    if (!isRefused(error, 'NOPERM')) return false;
    this.timer?.cancel();
    this.refused = true;
    void this.resign();
    if (!this.refusalLogged)
      this.logger.warn(
        'this process takes no part in the supervision: its Redis user may not, and others find the dead and start ' +
          `delayed calls; without any, nobody does. ${error.message} supervise: false says that it is meant so.`,
      );
    this.refusalLogged = true;
    return true;
  }

  private async resign(): Promise<void> {
    if (this.candidate.office === 'none' || this.sessionId === undefined) return;
    this.candidate.enter('none');
    if (!this.backend.isConnected()) return;
    await this.backend.fleet.resign(this.sessionId).catch(() => undefined);
  }

  /** Who looks does it often; the others only ask now and then whether an office is free. */
  private pace(office: Office): void {
    this.candidate.enter(office);
    this.turnEvery(TURN_INTERVALS_MS[office]);
    this.lookMs = LOOK_INTERVAL_MS;
    if (office === 'none') this.turn();
  }

  private turnEvery(intervalMs: number): void {
    this.timer?.cancel();
    this.timer = this.clock.every(intervalMs, () => this.turn());
  }

  /** A larger fleet is looked at less often. */
  private fitTo(sessions: number): void {
    const lookMs = lookIntervalMs(sessions);
    if (lookMs === this.lookMs || this.timer === undefined) return;
    this.lookMs = lookMs;
    this.turnEvery(lookMs);
  }

  /** Whether this look is one at leases, too. */
  private get isWhole(): boolean {
    return this.looks % Math.max(1, Math.round(LEASE_LOOK_MS / this.lookMs)) === 0;
  }

  /** Whether whom it does not find may be on the way back. */
  private get isQuiet(): boolean {
    return this.clock.now() < this.quietUntil;
  }

  private beQuiet(): void {
    this.quietUntil = this.clock.now() + RETURN_GRACE_MS;
    this.awaited = undefined;
    this.absentSince.clear();
  }

  /** One turn at a time. */
  private turn(): void {
    const sessionId = this.sessionId;
    if (sessionId === undefined || this.refused || !this.backend.isConnected()) return;
    this.turning ??= this.turnOnce(sessionId).finally(() => (this.turning = undefined));
  }

  private async turnOnce(sessionId: string): Promise<void> {
    const startedAt = this.clock.now();
    try {
      if (this.isElected) await this.look(sessionId);
      else await this.stand(sessionId);
    } catch (error) {
      if (this.lacksRight(error)) return;
      const text = `the supervisor could not look: ${messageOf(error)}`;
      if (error instanceof BrokenKeyError) this.troubles.tell(text, 'look');
      else this.logger.debug(text);
      this.beQuiet();
    } finally {
      // Redis stood still, or this process did: leases ran out meanwhile, and their holders live.
      if (this.clock.now() - startedAt > STALL_MS) this.beQuiet();
    }
  }

  private async stand(sessionId: string): Promise<void> {
    const office = await this.candidate.stand(sessionId);
    if (office === undefined) return;
    this.noteRight('look');
    if (office === this.candidate.office) return;
    if (this.timer === undefined || sessionId !== this.sessionId) return;
    this.absentSince.clear();
    this.pace(office);
    this.logger.debug(`${sessionId} is ${office} of the fleet`);
  }

  private async look(sessionId: string): Promise<void> {
    this.looks += 1;
    const askedAt = this.clock.now();
    const { isWhole } = this;
    const { supervisorMs } = OFFICE_LEASES;
    const view = await this.backend.fleet.look(sessionId, supervisorMs, isWhole, !this.isQuiet);
    if (view === undefined) {
      this.condemnedAt.clear();
      this.logger.debug(`${sessionId} supervises no longer`);
      if (this.timer !== undefined) this.pace('none');
      return;
    }
    this.noteRight('look');
    this.noteBroken(view.broken, isWhole);
    for (const ref of view.due) void this.promote(ref);
    for (const ref of view.unclaimed) void this.adopt(ref);
    this.fitTo(view.sessions);
    const now = this.clock.now();
    if (now - askedAt > STALL_MS) return;
    const { isQuiet } = this;
    const awaited = view.absent.filter((id) => this.awaited?.has(id) ?? true);
    this.awaited = new Set(awaited);
    this.judgeAbsence(isQuiet ? view.absent.filter((id) => !awaited.includes(id)) : view.absent);
    if (!isQuiet) for (const suspect of view.lapsed) void this.end(suspect, 'lease');
  }

  private judgeAbsence(absent: readonly string[]): void {
    const now = this.clock.now();
    for (const suspect of this.absentSince.keys())
      if (!absent.includes(suspect)) this.absentSince.delete(suspect);
    for (const suspect of absent) {
      const since = this.absentSince.get(suspect);
      if (since === undefined) this.absentSince.set(suspect, now);
      else if (now - since >= ABSENCE_GRACE_MS) void this.end(suspect, 'presence');
    }
  }

  /** Calls that should be put back by now, and cannot be found. */
  private noteBroken(broken: readonly BrokenKeyError[], isWhole: boolean): void {
    for (const { key, message } of broken) {
      this.brokenKeys.add(key);
      this.troubles.tell(`calls that are due are not put back: ${message}`, key);
    }
    if (!isWhole || this.brokenKeys.size === 0) return;
    for (const key of this.brokenKeys) {
      if (broken.some((error) => error.key === key)) continue;
      this.brokenKeys.delete(key);
      this.noteRight(key);
    }
  }

  private noteRight(subject: string): void {
    if (this.troubles.settle(subject))
      this.logger.log('a key is right again: the supervision goes on');
  }

  /** Delayed calls whose time has come. */
  private async promote(ref: FunctionRef): Promise<void> {
    try {
      const count = await this.backend.calls.promote(ref);
      this.logger.debug(`${count} delayed call(s) of ${ref.functionName} are due`);
    } catch (error) {
      if (this.lacksRight(error)) return;
      this.logger.warn(`delayed calls of ${ref.functionName} still wait: ${messageOf(error)}`);
    }
  }

  /**
   * Calls that a destroyed group had, and nobody claimed in time. Where it was destroyed is noted in Redis until all
   * are put back, so neither the death of who made the group anew nor this one's loses them.
   */
  private async adopt(ref: FunctionRef): Promise<void> {
    if (this.adopting.has(ref.id)) return;
    this.adopting.add(ref.id);
    try {
      const count = await this.backend.calls.adopt(ref);
      if (count > 0)
        this.logger.warn(`${count} call(s) of ${labelOf(ref)} had lost their group: put back`);
    } catch (error) {
      if (this.lacksRight(error)) return;
      this.logger.warn(`calls of ${labelOf(ref)} still lack a group: ${messageOf(error)}`);
    } finally {
      this.adopting.delete(ref.id);
    }
  }

  private async end(suspect: string, evidence: DeathEvidence): Promise<void> {
    if (this.burying.has(suspect)) return;
    const condemnedAt = this.condemnedAt.get(suspect);
    if (condemnedAt !== undefined && this.clock.now() - condemnedAt < LINGER_MS) return;
    this.burying.add(suspect);
    try {
      if (condemnedAt === undefined && evidence === 'presence' && (await this.lives(suspect)))
        return;
      const workers = await this.backend.fleet.condemn(suspect, evidence);
      if (workers === undefined) return;
      await this.handOver(
        suspect,
        workers,
        evidence === 'presence' ? 'process_died' : 'lease_expired',
      );
      if (condemnedAt === undefined) this.condemnedAt.set(suspect, this.clock.now());
      else {
        await this.backend.fleet.bury(suspect);
        this.troubles.settle(suspect);
        this.condemnedAt.delete(suspect);
      }
    } catch (error) {
      if (this.lacksRight(error)) return;
      const text = `the calls of ${suspect} are not all handed over yet: ${messageOf(error)}`;
      if (error instanceof BrokenKeyError) this.troubles.tell(text, suspect);
      else this.logger.warn(text);
    } finally {
      this.burying.delete(suspect);
      this.absentSince.delete(suspect);
    }
  }

  /** Whether a session without presence reads calls all the same: then its lease decides. */
  private async lives(suspect: string): Promise<boolean> {
    if ((await this.backend.fleet.isReading(suspect)) !== true) return false;
    this.logger.debug(`${suspect} has no presence, and reads calls: its lease decides`);
    return true;
  }

  private async handOver(
    suspect: string,
    workers: readonly HostedWorker[],
    reason: string,
  ): Promise<void> {
    if (!this.condemnedAt.has(suspect)) {
      const dead = `process ${suspect} is dead (${reason})`;
      if (workers.length === 0) this.logger.debug(`${dead}; it hosted nothing`);
      else this.logger.warn(`${dead}: handing over the calls of ${workers.length} worker(s)`);
    }
    const refs = new Map(workers.map(({ ref }) => [ref.id, ref]));
    await Promise.all(
      workers.map(({ ref, workerId }) =>
        this.backend.workers.unregister(ref, workerId, { sessionId: suspect }, reason),
      ),
    );
    await Promise.all([...refs.values()].map((ref) => this.release(ref, suspect)));
  }

  private async release(ref: FunctionRef, suspect: string): Promise<void> {
    const { maxDeliveries } = this;
    const released = await this.backend.calls.release(ref, suspect, {
      kind: 'lost',
      maxDeliveries,
    });
    if (released.requeued + released.answered + released.deadLettered === 0) return;
    this.logger.warn(
      `${ref.functionName} (workflow ${ref.workflowId}) of ${suspect}: ${released.requeued} call(s) handed over, ` +
        `${released.answered} answered as lost, ${released.deadLettered} dead-lettered`,
    );
  }
}
