import { Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import type { ProcessSession, Pulse } from '../backend/worker-store.js';
import type { Clock, Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { isRefused } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import type { Subscription } from '../notifications/channel-message.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import type { Membership } from './membership.js';
import { GOOD_SAMPLE_MS, RedisClock } from './redis-clock.js';
import type { SessionFate } from './work-source.js';

/** A beat may fail twice before the lease is in danger. */
const BEATS_PER_LEASE = 4;
/** The reply stream, and what is known of Redis's clock, want a beat also where leases are long. */
const MAX_BEAT_INTERVAL_MS = 15_000;
/** How often the subscription connection is asked for a sign of life, in beats. */
const TURNS_PER_PROBE = 2;
/** An examination is due after so long at the latest: the reply stream lives six times as long. */
const MAX_UNEXAMINED_MS = 10_000;
/** How often Redis's clock is measured before the first call can come, at the most. */
const CLOCK_SAMPLES = 4;

/** Who is told of a session. */
export interface SessionObserver {
  /** Whether no session should be kept now: one is being made, or there shall be none any more. */
  isBetweenSessions(): boolean;
  /** What other processes tell the session directly. */
  message(data: unknown): void;
  /** The lease was kept. */
  kept(): Promise<void>;
  /** It was kept a lease long: what is done now and then is due. `timestamp`: Redis's clock. */
  keptForLease(session: ProcessSession, timestamp: number): Promise<void>;
  /** The session is lost. */
  lost(session: ProcessSession, fate: SessionFate): Promise<void>;
}

/**
 * Takes and keeps a session: its presence (a subscription), its lease, the heartbeat that renews it, and the clock
 * that the heartbeat measures.
 *
 * Most beats only keep the lease, in one command, and learn from it that the session lives: whoever ends a session
 * ends its lease in the same step. A beat is an examination (what the session is to the registry, Redis's clock, the
 * reply stream) once per lease, when the lease is gone, when somebody has a reason to ask, and when the time since
 * the last beat is not what it should be: the event loop was blocked, or this host's clock was set.
 *
 * Interleavings:
 * - The presence is in place before the lease is taken, and given up after it: who is listed without a presence is
 *   taken for dead. The one of the session before goes when the next one is there.
 * - One beat at a time: what the timer, a reconnect and the read loop's trouble ask for at once is one beat. Which
 *   kind it is makes no difference to whether a loss is found: a session that is lost has no lease.
 * - Pub/sub that comes or goes while the process lives: it says so on the command connection, and is not missed.
 *   A killed process cannot say it, which is what makes a missing presence a proof.
 */
export class SessionKeeper {
  private readonly logger = new Logger('COORDINATOR');
  private readonly beatTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly presenceTrouble = new Complaint((text) => this.logger.warn(text));
  private readonly redisClock = new RedisClock();
  private presence: Subscription | undefined;
  private sessions = 0;
  private heart: Timer | undefined;
  private turns = 0;
  private beats = 0;
  /** When the lease was kept last, on this host's clock. */
  private beatAt = 0;
  /** When it was examined last. */
  private examinedAt = 0;
  private beating: Promise<void> | undefined;

  constructor(
    private readonly membership: Membership,
    private readonly backend: Backend,
    private readonly notifications: NotificationManager,
    private readonly keys: Keys,
    private readonly settings: Settings,
    private readonly clock: Clock,
    private readonly observer: SessionObserver,
  ) {}

  /** Redis's clock minus this host's, in milliseconds, as it was measured last. */
  get redisOffsetMs(): number | undefined {
    return this.redisClock.offsetMs;
  }

  /** Milliseconds since the lease was kept last; 0 before there was one. */
  get sinceBeatMs(): number {
    return this.beatAt === 0 ? 0 : Math.max(0, this.clock.now() - this.beatAt);
  }

  /**
   * A new session: presence, lease, clock, and from then on its heartbeat.
   *
   * @returns Redis's clock minus this host's: deadlines are on it, so it has to be known before the first call comes
   */
  async take(): Promise<{ sessionId: string; offsetMs: number }> {
    const sessionId = `${this.membership.processId}.${(this.sessions += 1)}`;
    const before = this.presence;
    this.presence = await this.appear(sessionId);
    await before?.unsubscribe();
    const sentAt = this.clock.now();
    const session = await this.backend.workers.join(
      sessionId,
      this.settings.leaseMs,
      this.presence !== undefined,
    );
    this.membership.session = session;
    this.beatAt = this.examinedAt = this.clock.now();
    const offsetMs = await this.measureClock(session, sentAt, this.beatAt);
    this.heart ??= this.clock.every(this.beatIntervalMs, () => this.turn());
    return { sessionId, offsetMs };
  }

  /** A beat out of turn, for whoever doubts that the session lives. */
  examine(): Promise<void> {
    void this.backend.bus.probe();
    return this.beat(true);
  }

  /** Says whether the presence is in place, and makes it where it is missing. */
  async tellPresence(): Promise<void> {
    const { session } = this.membership;
    if (session === undefined || !this.backend.isConnected()) return;
    const connected = this.notifications.state === 'connected';
    try {
      if (connected) this.presence ??= await this.appear(session.sessionId);
      await this.backend.workers.setPresence(session, connected && this.presence !== undefined);
    } catch (error) {
      this.logger.debug(`the presence could not be told: ${messageOf(error)}`);
    }
  }

  /** Beats no more. */
  async stop(): Promise<void> {
    this.heart?.cancel();
    await this.beating;
  }

  /** Gives the lease back, if there is one and Redis can be reached. */
  async leave(): Promise<void> {
    const { session } = this.membership;
    if (session === undefined || !this.backend.isConnected()) return;
    await this.backend.workers
      .leave(session)
      .catch((error: unknown) =>
        this.logger.debug(`the lease could not be given back: ${messageOf(error)}`),
      );
  }

  /** Last of all: a supervisor that finds no presence should find no session either. */
  async disappear(): Promise<void> {
    await this.presence?.unsubscribe();
  }

  /** The join told Redis's time; a process that is just starting may have heard the answer late. */
  private async measureClock(
    session: ProcessSession,
    joinedAt: number,
    answeredAt: number,
  ): Promise<number> {
    const offsetMs = this.redisClock.note(session.epoch, joinedAt, answeredAt);
    for (let sample = 1; sample < CLOCK_SAMPLES && !this.redisClock.isExact; sample += 1)
      await this.measuredHeartbeat(session);
    return this.redisClock.offsetMs ?? offsetMs;
  }

  /** The presence, in place; without pub/sub there is none, and only the lease proves this process's life. */
  private async appear(sessionId: string): Promise<Subscription | undefined> {
    try {
      return await this.notifications.subscribe(
        this.keys.unprefixed(this.keys.control(sessionId)),
        ({ data }) => this.observer.message(data),
      );
    } catch (error) {
      if (!this.backend.isConnected()) throw error;
      this.presenceTrouble.tell(
        `no presence for want of pub/sub, the lease has to do: ${messageOf(error)}`,
      );
      return undefined;
    }
  }

  /** The subscriber is asked whatever the command connection does: both may be gone without a word. */
  private turn(): void {
    this.turns += 1;
    if (this.turns % TURNS_PER_PROBE === 0) void this.backend.bus.probe();
    void this.beat(false);
  }

  private get beatIntervalMs(): number {
    return Math.min(this.settings.leaseMs / BEATS_PER_LEASE, MAX_BEAT_INTERVAL_MS);
  }

  private beat(doubted: boolean): Promise<void> {
    this.beating ??= this.beatOnce(doubted).finally(() => (this.beating = undefined));
    return this.beating;
  }

  private async beatOnce(doubted: boolean): Promise<void> {
    const { session } = this.membership;
    if (session === undefined || this.observer.isBetweenSessions()) return;
    // It beats at once when Redis is back.
    if (!this.backend.isConnected()) return;
    const isLeaseOver = (this.beats + 1) % BEATS_PER_LEASE === 0;
    try {
      const examines = doubted || isLeaseOver || this.isOutOfTime();
      const pulse =
        !examines && (await this.renew(session))
          ? undefined
          : await this.measuredHeartbeat(session);
      if (pulse !== undefined && pulse.verdict !== 'alive')
        return await this.observer.lost(session, pulse.verdict);
      this.beatAt = this.clock.now();
      this.membership.work?.pulse(this.redisClock.offsetMs ?? 0);
      this.beats += 1;
      await this.observer.kept();
      if (isLeaseOver && pulse !== undefined)
        await this.observer.keptForLease(session, pulse.timestamp);
    } catch (error) {
      this.beatTrouble.tell(`heartbeat failed: ${messageOf(error)}`);
    }
  }

  /** A refusal is left to the examination, which is refused in the same words each time, and complained of once. */
  private async renew(session: ProcessSession): Promise<boolean> {
    try {
      return await this.backend.workers.renew(session, this.settings.leaseMs);
    } catch (error) {
      if (isRefused(error)) return false;
      throw error;
    }
  }

  /** Whether this host's clock, or its event loop, is not where the last beat let expect it; or it is long ago. */
  private isOutOfTime(): boolean {
    const now = this.clock.now();
    const odd = Math.abs(now - this.beatAt - this.beatIntervalMs) > GOOD_SAMPLE_MS;
    return odd || now - this.examinedAt > MAX_UNEXAMINED_MS;
  }

  private async measuredHeartbeat(session: ProcessSession): Promise<Pulse> {
    const sentAt = this.clock.now();
    const pulse = await this.heartbeat(session);
    if (this.beatTrouble.settle()) this.logger.log('heartbeats go on');
    this.examinedAt = this.clock.now();
    this.redisClock.note(pulse.timestamp, sentAt, this.examinedAt);
    return pulse;
  }

  private heartbeat(session: ProcessSession): Promise<Pulse> {
    const { processId } = this.membership;
    return this.backend.workers.heartbeat(session, processId, this.settings.leaseMs);
  }
}
