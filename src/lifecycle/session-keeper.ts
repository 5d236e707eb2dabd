import { Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import type { ProcessSession } from '../backend/worker-store.js';
import type { Clock, Timer } from '../common/clock.js';
import type { Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import type { NotificationManager, Subscription } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import type { Membership } from './membership.js';
import { RedisClock } from './redis-clock.js';
import type { SessionFate } from './work-source.js';

/** A beat may fail twice before the lease is in danger. */
export const BEATS_PER_LEASE = 4;
/** How often Redis's clock is measured before the first call can come, at the most. */
const CLOCK_SAMPLES = 4;

/** Who is told of a session. */
export interface SessionObserver {
  /** Whether no session should be kept now: one is being made, or there shall be none any more. */
  isBetweenSessions(): boolean;
  /** What other processes tell the session directly. */
  message(data: unknown): void;
  /** The lease was kept for the `beats`-th time; `timestamp`: Redis's clock. */
  kept(session: ProcessSession, beats: number, timestamp: number): Promise<void>;
  /** The session is lost. */
  lost(session: ProcessSession, fate: SessionFate): Promise<void>;
}

/**
 * Takes and keeps a session: its presence (a subscription), its lease, the heartbeat that renews it, and the clock
 * that the heartbeat measures.
 *
 * Interleavings:
 * - The presence is in place before the lease is taken, and given up after it: who is listed without a presence is
 *   taken for dead. The one of the session before goes when the next one is there.
 * - One beat at a time: a beat that the timer, a reconnect and the read loop's trouble ask for at once is one.
 * - Pub/sub that comes or goes while the process lives: it says so on the command connection, and is not missed.
 *   A killed process cannot say it, which is what makes a missing presence a proof.
 */
export class SessionKeeper {
  private readonly logger = new Logger('COORDINATOR');
  private readonly redisClock = new RedisClock();
  private presence: Subscription | undefined;
  private sessions = 0;
  private heart: Timer | undefined;
  private beats = 0;
  /** When the lease was kept last, on this host's clock. */
  private beatAt = 0;
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
    this.beatAt = this.clock.now();
    const offsetMs = await this.measureClock(session, sentAt, this.beatAt);
    this.heart ??= this.clock.every(
      this.settings.leaseMs / BEATS_PER_LEASE,
      () => void this.beat(),
    );
    return { sessionId, offsetMs };
  }

  /** One beat at a time; called by the timer, after a reconnect, and when reading meets trouble. */
  beat(): Promise<void> {
    this.beating ??= this.beatOnce().finally(() => (this.beating = undefined));
    return this.beating;
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
    let offsetMs = this.redisClock.note(session.epoch, joinedAt, answeredAt);
    for (let sample = 1; sample < CLOCK_SAMPLES && !this.redisClock.isGood; sample += 1) {
      const sentAt = this.clock.now();
      const { timestamp } = await this.heartbeat(session);
      offsetMs = this.redisClock.note(timestamp, sentAt, this.clock.now());
    }
    return offsetMs;
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
      this.logger.warn(`no presence for want of pub/sub, the lease has to do: ${messageOf(error)}`);
      return undefined;
    }
  }

  private async beatOnce(): Promise<void> {
    const { session } = this.membership;
    if (session === undefined || this.observer.isBetweenSessions()) return;
    // It beats at once when Redis is back.
    void this.backend.bus.probe();
    if (!this.backend.isConnected()) return;
    try {
      const sentAt = this.clock.now();
      const pulse = await this.heartbeat(session);
      const offsetMs = this.redisClock.note(pulse.timestamp, sentAt, this.clock.now());
      if (pulse.verdict !== 'alive') return await this.observer.lost(session, pulse.verdict);
      this.beatAt = this.clock.now();
      this.membership.work?.pulse(offsetMs);
      this.beats += 1;
      await this.observer.kept(session, this.beats, pulse.timestamp);
    } catch (error) {
      this.logger.warn(`heartbeat failed: ${messageOf(error)}`);
    }
  }

  private heartbeat(session: ProcessSession) {
    const { processId } = this.membership;
    return this.backend.workers.heartbeat(session, processId, this.settings.leaseMs);
  }
}
