import type { CallReader, Offer, RawCall, Taken } from '../../backend/call-streams.js';
import { tickSent } from '../../common/batch.js';
import { pause, type Clock, type Timer } from '../../common/clock.js';
import { createDeferred, type Deferred } from '../../common/deferred.js';
import type { Lanes, PoolPlan, ReadPlan, StreamPlan } from './lanes.js';

/** How long a read waits in Redis before it asks again, at the most: also how often an idle process turns. */
export const MAX_BLOCK_MS = 2_000;
/** A read waits, and is started after a pulse, for no longer than this part of the lease. */
const LEASE_PART = 0.45;
/** A read that takes this much longer than asked sits on a dead connection. */
const READ_GRACE_MS = 1_500;
const TURN_GRACE_MS = 2_000;
const RECOVER_MARGIN_MS = 500;
const WATCH_INTERVAL_MS = 500;
const WAKE_RETRY_MS = 2;
/** A process that cannot take every function of its pool looks again after this, and less often when in vain. */
const FIRST_LOOK_MS = 20;
const LAST_LOOK_MS = 500;
/** While nothing comes, every so many waits for the bell one offers to take calls. */
const IDLE_OFFER_EVERY = 8;

/** Who gets what the loop reads. */
export interface CallIntake {
  accept(calls: readonly RawCall[]): void;
  /** The connection is new: what Redis delivered into the old one is pending, and was never seen here. */
  recover(reader: CallReader): Promise<void>;
  /** Reading failed. */
  trouble(error: unknown): Promise<void>;
  /** A read did not return in time, and its connection is made anew. */
  overdue(): void;
}

/**
 * Reads calls: one loop, one blocking read at a time, for all functions of a process.
 *
 * Everything that changes what should be read (a place becomes free, a function begins, pauses, ends) either
 * finds the loop between two reads, or wakes the read that waits. A wake that comes before the read has
 * reached Redis finds nobody to wake, so it is repeated until that read has returned.
 *
 * With few functions it reads their streams. With many it takes what is due in its pools, which never waits,
 * and waits for their bell only when it has taken all: a call that is added between the two has left a token,
 * which the wait finds.
 *
 * What handlers answer in the tick in which their calls came goes to Redis before the next read, which would be
 * served first otherwise and keep their callers waiting.
 *
 * Interleavings with a lost connection: an entry that Redis delivered into a dead socket is pending for this
 * consumer and was never seen here. After every new connection the pending ones are looked for. The server
 * may notice the end of the old connection after the new one is made, and deliver into the old one once
 * more; so they are looked for again when every old read must have ended.
 *
 * Interleavings with the end of the lease: a read is started at most 0.45 leases after a pulse and waits at
 * most 0.45 leases, so when the lease runs out, and the session's calls are handed over, no read of it is
 * left that could be served afterwards, be the process frozen, cut off, or unable to beat.
 */
export class ReadLoop {
  /** How long a read waits. */
  readonly blockMs: number;
  private readonly turns = new Set<Deferred<void>>();
  private reader: CallReader | undefined;
  private loop: Promise<void> = Promise.resolve();
  private reading: { readonly plan: ReadPlan; readonly since: number } | undefined;
  private changed: Deferred<void> | undefined;
  /** The read that is being woken: once is enough. */
  private waking: object | undefined;
  private stopping = false;
  private connecting = false;
  private turnedAt = 0;
  private pulsedAt = 0;
  /** Reads nothing until the next pulse. */
  private fenced = false;
  private lookMs = FIRST_LOOK_MS;
  /** Its last wait brought calls, and left the bell alone: nothing is due. */
  private given = false;
  /** Waits for a bell that were in vain, since there was something to look at. */
  private vain = 0;
  /** Counts changes: one that comes while it looks at the pools is looked at before it waits. */
  private changes = 0;
  private watchdog: Timer | undefined;
  private overdue: object | undefined;

  constructor(
    private readonly lanes: Lanes,
    private readonly clock: Clock,
    private readonly leaseMs: number,
    private readonly intake: CallIntake,
    /** Redis's clock minus this host's. */
    private readonly redisOffsetMs: () => number,
  ) {
    this.blockMs = Math.min(MAX_BLOCK_MS, Math.floor(leaseMs * LEASE_PART));
  }

  /** Milliseconds after which a turn is overdue. */
  get turnLimitMs(): number {
    return this.blockMs + READ_GRACE_MS + TURN_GRACE_MS;
  }

  /** Milliseconds since the loop last turned; 0 while it has nothing to read for want of places. */
  get sinceTurnMs(): number {
    const waitsForPlace = this.changed !== undefined || this.reader === undefined;
    return waitsForPlace ? 0 : Math.max(0, this.clock.now() - this.turnedAt);
  }

  /** Whether it waits for a connection: then nothing is read, and the next plan is made when there is one. */
  get isConnecting(): boolean {
    return this.connecting;
  }

  /** The reader, while it reads. */
  get current(): CallReader | undefined {
    return this.reader;
  }

  /** The lease was kept just now. */
  pulse(): void {
    this.pulsedAt = this.clock.now();
    if (!this.fenced) return;
    this.fenced = false;
    this.nudge();
  }

  /** Reads through this reader from now on. */
  open(reader: CallReader): void {
    this.reader = reader;
    this.turnedAt = this.clock.now();
    this.loop = this.run(reader);
    this.watchdog ??= this.clock.every(WATCH_INTERVAL_MS, () => this.watch());
  }

  /** Lets go of the reader; what its last read still brings is nobody's. */
  leave(): CallReader | undefined {
    const { reader } = this;
    this.reader = undefined;
    this.nudge();
    return reader;
  }

  /** Reads nothing more; what is under way may still bring calls. */
  stop(): void {
    this.stopping = true;
    this.endTurns();
    this.nudge();
  }

  /** Resolves when the loop has ended. */
  get done(): Promise<void> {
    return this.loop;
  }

  async close(): Promise<void> {
    this.stop();
    this.watchdog?.cancel();
    await this.leave()?.close();
    await this.loop;
  }

  /** Resolves when the loop has planned with what is decided now, or nothing is being read at all. */
  nextTurn(): Promise<void> {
    if (this.reader === undefined || this.stopping) return Promise.resolve();
    const turn = createDeferred();
    this.turns.add(turn);
    this.nudge();
    return turn.promise;
  }

  /** What should be read has changed: lets the loop go on, or wakes the read that waits. */
  nudge(): void {
    this.changes += 1;
    const changed = this.changed;
    this.changed = undefined;
    changed?.resolve();
    const reading = this.reading;
    if (reading === undefined || !reading.plan.blocks) return;
    const unwanted = this.stopping || this.reader === undefined || this.turns.size > 0;
    if (unwanted || this.lanes.isOutdated(reading.plan)) void this.wake(reading);
  }

  private async run(reader: CallReader): Promise<void> {
    let connection = 0;
    let recoverAgainAt = Infinity;
    while (!this.stopping && this.reader === reader) {
      try {
        await this.connected(reader);
        const connections = reader.connections();
        if (connections !== connection) {
          await this.intake.recover(reader);
          connection = connections;
          recoverAgainAt = this.clock.now() + this.blockMs + RECOVER_MARGIN_MS;
        } else if (this.clock.now() > recoverAgainAt) {
          await this.intake.recover(reader);
          recoverAgainAt = Infinity;
        }
        // Told to stop meanwhile, when there was no read to wake: the next one would not be woken either.
        if (this.stopping || this.reader !== reader) break;
        await this.turn(reader);
        this.turnedAt = this.clock.now();
      } catch (error) {
        if (this.stopping || this.reader !== reader) break;
        await this.intake.trouble(error);
      }
    }
    if (this.reader === reader || this.reader === undefined) this.endTurns();
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
    this.fenced = this.clock.now() - this.pulsedAt > this.leaseMs * LEASE_PART;
    const plan = this.fenced ? undefined : this.lanes.plan();
    if (plan === undefined) {
      const { changes } = this;
      const given = await reader.withdraw();
      if (given.length > 0 && this.reader === reader) this.intake.accept(given);
      else if (this.changes === changes) await this.change();
    } else if (plan.kind === 'streams') await this.readStreams(reader, plan);
    else await this.readPools(reader, plan);
  }

  private async readStreams(reader: CallReader, plan: StreamPlan): Promise<void> {
    const read = reader.read(plan.refs, plan.count, plan.blocks ? this.blockMs : 0);
    const calls = await this.waiting(plan, read);
    this.lanes.observe(plan, calls.length);
    if (this.reader === reader) this.intake.accept(calls);
    if (calls.length > 0) await tickSent();
  }

  private async readPools(reader: CallReader, plan: PoolPlan): Promise<void> {
    const { changes } = this;
    if (!this.given || !plan.blocks) {
      this.given = false;
      const look = this.vain > 0 ? this.lookAgain(reader, plan) : reader.take(plan.read);
      const { calls, more } = await this.waiting({ ...plan, blocks: false }, look);
      if (this.reader !== reader) return;
      if (calls.length > 0) {
        this.lookMs = FIRST_LOOK_MS;
        this.intake.accept(calls);
        await tickSent();
        if (more || !plan.blocks || this.lanes.isFull) return;
      } else if (this.changes !== changes) return;
      if (this.stopping || this.reader !== reader) return;
    }
    if (plan.blocks) return this.waitForBell(reader, plan);
    this.vain = 0;
    const { lookMs } = this;
    this.lookMs = Math.min(LAST_LOOK_MS, lookMs * 2);
    await this.change(lookMs);
  }

  private async waitForBell(reader: CallReader, plan: PoolPlan): Promise<void> {
    const wait = reader.waitForBell(plan.read.pools, this.blockMs, this.offer());
    const { rang, calls } = await this.waiting(plan, wait);
    this.given = calls.length > 0;
    this.vain = rang || this.given ? 0 : this.vain + 1;
    if (!this.given || this.reader !== reader) return;
    this.intake.accept(calls);
    await tickSent();
  }

  /** An offer is a command: while nothing comes, few waits make one, and the bell tells of a call. */
  private offer(): Offer | undefined {
    const { places } = this.lanes;
    if (places === 0 || (this.vain >= 2 && this.vain % IDLE_OFFER_EVERY !== 0)) return undefined;
    return { places, until: this.clock.now() + this.redisOffsetMs() + this.blockMs };
  }

  /**
   * Nothing rang, so nothing should be due. A token that a process got, and then stood still, is lost all the same:
   * after every other wait it is asked whether something is due.
   */
  private async lookAgain(reader: CallReader, { read }: PoolPlan): Promise<Taken> {
    const asks = this.vain % 2 === 0 && (await reader.isDue(read.pools));
    return asks ? reader.take(read) : { calls: [], more: false };
  }

  /** Waits for Redis; from here on who changes what should be read knows that a read is in place. */
  private async waiting<T>(plan: ReadPlan, read: Promise<T>): Promise<T> {
    const reading = (this.reading = { plan, since: this.clock.now() });
    this.endTurns();
    try {
      return await read;
    } finally {
      // The loop of a lost session may end after the next one has begun to read.
      if (this.reading === reading) this.reading = undefined;
    }
  }

  /** Waits until what should be read changes, or for `limitMs`. */
  private async change(limitMs?: number): Promise<void> {
    const changed = (this.changed = createDeferred());
    this.endTurns();
    const timer =
      limitMs === undefined ? undefined : this.clock.after(limitMs, () => changed.resolve());
    await changed.promise;
    timer?.cancel();
    if (this.changed === changed) this.changed = undefined;
  }

  /** Those who wait for the loop to have seen a change see it now: the read in place is planned with it. */
  private endTurns(): void {
    if (this.turns.size === 0) return;
    for (const turn of this.turns) turn.resolve();
    this.turns.clear();
  }

  private async wake(reading: object): Promise<void> {
    if (this.waking === reading) return;
    this.waking = reading;
    const { reader } = this;
    while (reader !== undefined && this.reading === reading) {
      const woken = await reader.wake().catch(() => false);
      if (woken) return;
      await pause(this.clock, WAKE_RETRY_MS);
    }
  }

  /** A read that never returns sits on a connection whose other end is gone. */
  private watch(): void {
    const { reading, reader } = this;
    if (reading === undefined || reader === undefined) return;
    if (this.clock.now() - reading.since < this.blockMs + READ_GRACE_MS) return;
    if (this.overdue !== reading) this.intake.overdue();
    this.overdue = reading;
    reader.reset();
  }
}
