import type { FleetStore, Office } from '../backend/fleet-store.js';
import type { Clock } from '../common/clock.js';

/** How often the supervisor looks. */
export const LOOK_INTERVAL_MS = 30;
/** Sessions at which a look takes Redis 1 ms: from here on looks become rarer. By test/lifecycle/look-price.ts. */
const SESSIONS_PER_LOOK = 1_000;
/** Looks keep the supervisor's lease. */
const MAX_LOOK_INTERVAL_MS = 480;

/**
 * How often so many sessions are looked at: the time of a look grows with them, and its part of Redis's time stays below
 * a twentieth up to 10,000 of them. Doubled step by step, so that it does not change with every session.
 */
export function lookIntervalMs(sessions: number): number {
  let intervalMs = LOOK_INTERVAL_MS;
  for (let n = SESSIONS_PER_LOOK; n < sessions && intervalMs < MAX_LOOK_INTERVAL_MS; n *= 2)
    intervalMs *= 2;
  return intervalMs;
}
/**
 * The supervisor's lease is kept with every look: it is followed quickly when it freezes. Its deputy's lasts longer,
 * for it is kept less often, and the supervisor itself sees when its deputy dies.
 */
export const OFFICE_LEASES = { supervisorMs: 1_000, deputyMs: 5_000 };
/** How often the deputy looks whether it heard of the supervisor. */
const DEPUTY_INTERVAL_MS = 50;
/** Looks that the deputy does not hear of, until it asks after the supervisor. */
const SILENT_LOOKS = 2.5;
/** How often the others ask whether an office is free, and the deputy keeps its own. */
const STANDBY_INTERVAL_MS = 2_000;
/** Every so often who only asks is thorough: an office that somebody wrote by hand is held, and never ends. */
const THOROUGH_EVERY = 15;

/** How often who holds which office has its turn. */
export const TURN_INTERVALS_MS: Readonly<Record<Office, number>> = {
  supervisor: LOOK_INTERVAL_MS,
  deputy: DEPUTY_INTERVAL_MS,
  none: STANDBY_INTERVAL_MS,
};

/**
 * Stands for the offices of the fleet: which one this process holds, and when it is worth asking. An election costs
 * Redis eight commands, so it is held only when an office may be free.
 *
 * Interleavings with a supervisor's death: each look tells the deputy that there was one; a deputy that hears of none
 * asks, until it hears again or has the office: it gets that of a holder without presence at once, a frozen one's when
 * its lease ran out. One that comes back finds in its next look, which checks and acts in one script, that it holds
 * the office no longer. When both are killed at once, another takes over within the supervisor's lease and
 * STANDBY_INTERVAL_MS.
 *
 * That there was a look is a hint: whoever may cancel calls may say so. So the deputy also asks whether the
 * supervisor's office is held, when it keeps its own.
 *
 * Interleavings with a deputy's death: the look that nobody hears frees its office. One that merely lost its
 * subscriber for a moment hears of nothing, asks, and has it again.
 */
export class OfficeCandidate {
  private held: Office = 'none';
  private asked = 0;
  /** When this deputy heard of a look last, and when it kept its office. */
  private heardAt = 0;
  private keptAt = 0;
  private lookMs = LOOK_INTERVAL_MS;

  constructor(
    private readonly fleet: FleetStore,
    private readonly clock: Clock,
  ) {}

  get office(): Office {
    return this.held;
  }

  /** Its turn is another one from now on. */
  enter(office: Office): void {
    this.held = office;
    this.asked = 0;
    this.hear(0);
  }

  /** The supervisor, whose deputy this process is, has looked at so many sessions. */
  hear(sessions: number): void {
    this.heardAt = this.clock.now();
    this.lookMs = lookIntervalMs(sessions);
  }

  /** The office that the session holds now; `undefined` when nothing let expect another one than before. */
  async stand(sessionId: string): Promise<Office | undefined> {
    if (!(await this.isElectionDue(sessionId))) return undefined;
    const office = await this.fleet.elect(sessionId, OFFICE_LEASES);
    if (office === 'deputy') this.keptAt = this.clock.now();
    return office;
  }

  private async isElectionDue(sessionId: string): Promise<boolean> {
    if (this.held === 'none') {
      const isThorough = this.asked % THOROUGH_EVERY === 0;
      this.asked += 1;
      return isThorough || !(await this.fleet.areHeld());
    }
    const now = this.clock.now();
    if (now - this.heardAt > SILENT_LOOKS * this.lookMs) return true;
    if (now - this.keptAt < STANDBY_INTERVAL_MS) return false;
    this.keptAt = now;
    const keeps = await this.fleet.keepDeputy(sessionId, OFFICE_LEASES.deputyMs);
    return !keeps || !(await this.fleet.areHeld());
  }
}
