import { Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import type { DeathEvidence } from '../backend/fleet-store.js';
import type { Clock, Timer } from '../common/clock.js';
import { messageOf } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import type { FunctionRef } from '../protocol/function-ref.js';

/** How often the supervisor looks. */
export const LOOK_INTERVAL_MS = 50;
/** A process whose subscription is gone gets this long to come back before it is taken for dead. */
export const ABSENCE_GRACE_MS = 120;
/** After the supervisor's own connection came back, everybody gets this long to return. */
export const RETURN_GRACE_MS = 2_000;
/** The supervisor's own lease, kept with every look: it is followed quickly when it freezes. */
export const OFFICE_LEASE_MS = 1_000;
/** How often the others ask whether the office is free, or its holder's presence gone. */
export const STANDBY_INTERVAL_MS = 500;
/** A look that takes longer says that Redis, or this process, stood still. */
const STALL_MS = 1_000;
/** Leases are looked at every so many looks. */
const LEASE_LOOK_FACTOR = 10;

/**
 * Finds the dead. Every process runs one; a lease elects the one that looks.
 *
 * A process is dead when its presence (its subscription) is missing in two looks and for ABSENCE_GRACE_MS:
 * a killed process loses it within milliseconds, while a broken connection is made anew after about 20 ms.
 * Or when its lease ran out: a frozen process keeps its sockets. The step that ends a session checks the
 * evidence again, so a return in the last moment wins.
 *
 * Interleavings with a supervisor's own death: every step can be repeated, and the session stays listed
 * until its last step (`bury`), so the next supervisor finds it again. A holder without presence is replaced
 * at once, a frozen one when its office lease ran out; one that comes back finds in its next look, which
 * checks and acts in one script, that it holds the office no longer.
 */
export class Supervisor {
  private readonly logger = new Logger('COORDINATOR');
  private readonly absentSince = new Map<string, number>();
  private readonly burying = new Set<string>();
  private sessionId: string | undefined;
  private timer: Timer | undefined;
  private elected = false;
  private turning: Promise<void> | undefined;
  private looks = 0;
  private quietUntil = 0;
  private dispose: Dispose | undefined;

  constructor(
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly maxDeliveries: number,
  ) {}

  /** Whether this process is the one that looks. */
  get isElected(): boolean {
    return this.elected;
  }

  /** Takes part under this session; again after a new one was joined. */
  start(sessionId: string): void {
    this.sessionId = sessionId;
    this.beQuiet();
    this.dispose ??= this.backend.onConnected(() => this.beQuiet());
    this.pace(false);
  }

  /** Steps down, so that another need not wait for the lease. */
  async stop(): Promise<void> {
    this.timer?.cancel();
    this.timer = undefined;
    this.dispose?.();
    this.dispose = undefined;
    await this.turning;
    if (!this.elected || this.sessionId === undefined) return;
    this.elected = false;
    if (!this.backend.isConnected()) return;
    await this.backend.fleet.resign(this.sessionId).catch(() => undefined);
  }

  /** Who looks does it often; the others only ask now and then whether the office is free. */
  private pace(elected: boolean): void {
    this.elected = elected;
    this.timer?.cancel();
    const interval = elected ? LOOK_INTERVAL_MS : STANDBY_INTERVAL_MS;
    this.timer = this.clock.every(interval, () => this.turn());
    if (!elected) this.turn();
  }

  private beQuiet(): void {
    this.quietUntil = this.clock.now() + RETURN_GRACE_MS;
    this.absentSince.clear();
  }

  /** One turn at a time. */
  private turn(): void {
    const sessionId = this.sessionId;
    if (sessionId === undefined || !this.backend.isConnected()) return;
    this.turning ??= this.turnOnce(sessionId).finally(() => (this.turning = undefined));
  }

  private async turnOnce(sessionId: string): Promise<void> {
    const startedAt = this.clock.now();
    try {
      if (!this.elected) await this.stand(sessionId);
      else await this.look(sessionId);
    } catch (error) {
      this.logger.debug(`the supervisor could not look: ${messageOf(error)}`);
      this.beQuiet();
    } finally {
      // Redis stood still, or this process did: leases ran out meanwhile, and their holders live.
      if (this.clock.now() - startedAt > STALL_MS) this.beQuiet();
    }
  }

  private async stand(sessionId: string): Promise<void> {
    if (!(await this.backend.fleet.elect(sessionId, OFFICE_LEASE_MS))) return;
    this.elected = true;
    this.absentSince.clear();
    if (this.timer !== undefined && sessionId === this.sessionId) this.pace(true);
    this.logger.debug(`${sessionId} supervises the fleet`);
  }

  private async look(sessionId: string): Promise<void> {
    this.looks += 1;
    const askedAt = this.clock.now();
    const view = await this.backend.fleet.look(
      sessionId,
      OFFICE_LEASE_MS,
      this.looks % LEASE_LOOK_FACTOR === 0,
    );
    if (view === undefined) {
      this.logger.debug(`${sessionId} supervises no longer`);
      if (this.timer !== undefined) this.pace(false);
      return;
    }
    for (const ref of view.due) void this.promote(ref);
    const now = this.clock.now();
    if (now < this.quietUntil || now - askedAt > STALL_MS) return;
    for (const suspect of this.absentSince.keys())
      if (!view.absent.includes(suspect)) this.absentSince.delete(suspect);
    for (const suspect of view.absent) {
      const since = this.absentSince.get(suspect);
      if (since === undefined) this.absentSince.set(suspect, now);
      else if (now - since >= ABSENCE_GRACE_MS) void this.end(suspect, 'presence');
    }
    for (const suspect of view.lapsed) void this.end(suspect, 'lease');
  }

  /** Delayed calls whose time has come. */
  private async promote(ref: FunctionRef): Promise<void> {
    try {
      const count = await this.backend.calls.promote(ref);
      this.logger.debug(`${count} delayed call(s) of ${ref.functionName} are due`);
    } catch (error) {
      this.logger.warn(`delayed calls of ${ref.functionName} still wait: ${messageOf(error)}`);
    }
  }

  private async end(suspect: string, evidence: DeathEvidence): Promise<void> {
    if (this.burying.has(suspect)) return;
    this.burying.add(suspect);
    try {
      const workers = await this.backend.fleet.condemn(suspect, evidence);
      if (workers === undefined) return;
      const reason = evidence === 'presence' ? 'process_died' : 'lease_expired';
      if (workers.length === 0)
        this.logger.debug(`process ${suspect} is dead (${reason}); it hosted nothing`);
      else
        this.logger.warn(
          `process ${suspect} is dead (${reason}): handing over the calls of ${workers.length} worker(s)`,
        );
      const refs = new Map(workers.map(({ ref }) => [ref.id, ref]));
      await Promise.all(
        workers.map(({ ref, workerId }) =>
          this.backend.workers.unregister(ref, workerId, { sessionId: suspect }, reason),
        ),
      );
      await Promise.all(
        [...refs.values()].map(async (ref) => {
          const released = await this.backend.calls.release(ref, suspect, {
            kind: 'lost',
            maxDeliveries: this.maxDeliveries,
          });
          if (released.requeued + released.answered + released.deadLettered === 0) return;
          this.logger.warn(
            `${ref.functionName} (workflow ${ref.workflowId}) of ${suspect}: ${released.requeued} call(s) handed over, ` +
              `${released.answered} answered as lost, ${released.deadLettered} dead-lettered`,
          );
        }),
      );
      await this.backend.fleet.bury(suspect);
    } catch (error) {
      this.logger.warn(`the calls of ${suspect} are not all handed over yet: ${messageOf(error)}`);
    } finally {
      this.burying.delete(suspect);
      this.absentSince.delete(suspect);
    }
  }
}
