import { createHash } from 'node:crypto';
import type { PoolRead, RawCall } from '../../backend/call-streams.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { HostedFunction } from './hosted-function.js';
import { Roster, UNLISTED, type Listed } from './roster.js';

/**
 * Up to this many functions are read directly, in one blocking read of their streams. Redis registers a
 * blocked reader with every stream anew for each read: with 100 streams a lone call takes 1.3 times as long,
 * with 1,000 it takes 4.6 times. A process with more hears of calls through the bell of its pool.
 */
export const DIRECT_READ_LIMIT = 32;
/**
 * Calls that one read of streams brings at the most: what they say is sent when all of them have begun, and who waits
 * for it stands idle until then. Measured at 512 calls in flight, calls/s against no limit: 128: 1.10, 256: 1.15.
 */
const CALLS_PER_READ = 256;
/** Due functions that one look at a pool takes calls of. */
const FUNCTIONS_PER_LOOK = 64;

/** One function inside a process: whether it is read, and how much of it runs. {@link Lanes} changes it. */
export interface Lane extends Listed<Lane> {
  readonly hosted: HostedFunction;
  readonly ref: FunctionRef;
  /** Its group exists and it takes part in reads. */
  begun: boolean;
  /** Takes no new calls for now. */
  paused: boolean;
  /** Its key holds something else than a stream: it is not read, or none of the functions would be. */
  broken: boolean;
  running: number;
  /** Delivered and not started: what a read brought beyond the free places. */
  readonly queue: RawCall[];
  /** The pool whose bell tells of its calls; `''` while it is read directly. */
  poolId: string;
}

/** A read of the functions' own streams. */
export interface StreamPlan {
  readonly kind: 'streams';
  readonly lanes: readonly Lane[];
  readonly refs: readonly FunctionRef[];
  readonly count: number;
  /** Whether it may wait for calls to come. */
  readonly blocks: boolean;
}

/** A look at what is due in the pools, and then a wait for their bell. */
export interface PoolPlan {
  readonly kind: 'pools';
  readonly read: PoolRead;
  /**
   * Whether it may wait for the bell: only who can take every function of the pool. Another would spend a
   * token for a call that it cannot take; it looks again after a while.
   */
  readonly blocks: boolean;
}

/** What to read next. */
export type ReadPlan = StreamPlan | PoolPlan;

/**
 * Decides which functions are read and how many calls are asked for, so that a process holds no more calls
 * than its `concurrency`, plus this prefetch: when fewer places are free than functions are hosted, a
 * waiting read can be served by several functions at once, at most one call each. Such calls wait here for
 * a place, and are handed back when the process drains.
 */
export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  private readonly pools = new Map<string, Lane[]>();
  /** Lanes of pools whose places are not all free: only these are looked at, whatever the number of functions. */
  private readonly occupied = new Roster<Lane>();
  private running = 0;
  private queued = 0;
  private rotation = 0;
  private emptyTurns = 0;
  /** Places of the pooled function that has the fewest. */
  private smallestPooled = Infinity;

  constructor(private readonly concurrency: number) {}

  add(hosted: HostedFunction): void {
    this.lanes.set(hosted.ref.id, {
      ...UNLISTED,
      hosted,
      ref: hosted.ref,
      begun: false,
      paused: false,
      broken: false,
      running: 0,
      queue: [],
      poolId: '',
    });
  }

  get(ref: FunctionRef): Lane | undefined {
    return this.lanes.get(ref.id);
  }

  all(): Lane[] {
    return [...this.lanes.values()];
  }

  get size(): number {
    return this.lanes.size;
  }

  get inFlight(): number {
    return this.running + this.queued;
  }

  /**
   * Lets functions take part in reads. When there are too many to be read directly they get a pool, and those
   * that were read directly before get it too.
   *
   * @returns functions that took part before and are read in another way now
   */
  begin(beginning: readonly Lane[]): FunctionRef[] {
    const before = this.all().filter((lane) => lane.begun && !beginning.includes(lane));
    for (const lane of beginning) {
      lane.begun = true;
      this.note(lane);
    }
    if (before.length + beginning.length <= DIRECT_READ_LIMIT && this.pools.size === 0) return [];
    const moved = before.filter((lane) => lane.poolId === '');
    const joining = [...moved, ...beginning].filter((lane) => lane.poolId === '');
    if (joining.length === 0) return [];
    const poolId = poolOf(joining);
    this.pools.set(poolId, joining);
    for (const lane of joining) {
      this.smallestPooled = Math.min(this.smallestPooled, lane.hosted.concurrency);
      lane.poolId = poolId;
      this.note(lane);
    }
    return moved.map((lane) => lane.ref);
  }

  /** Takes no part in reads any more. */
  stop(lane: Lane): void {
    lane.begun = false;
    this.note(lane);
  }

  pause(lane: Lane): void {
    lane.paused = true;
    this.note(lane);
  }

  resume(lane: Lane): void {
    lane.paused = false;
    this.note(lane);
  }

  /** Notes which functions cannot be read; whether that is news. */
  noteBroken(broken: ReadonlySet<string>): boolean {
    let changed = false;
    for (const lane of this.lanes.values()) {
      const now = broken.has(lane.ref.id);
      if (lane.broken !== now) changed = true;
      lane.broken = now;
    }
    return changed;
  }

  /** Whether a call of the lane can start now. */
  hasPlace(lane: Lane): boolean {
    return this.running < this.concurrency && lane.running < lane.hosted.concurrency;
  }

  start(lane: Lane): void {
    lane.running += 1;
    this.running += 1;
    this.note(lane);
  }

  end(lane: Lane): void {
    lane.running -= 1;
    this.running -= 1;
    this.note(lane);
  }

  enqueue(lane: Lane, call: RawCall): void {
    lane.queue.push(call);
    this.queued += 1;
    this.note(lane);
  }

  /** A delivered call that can start now. */
  dequeue(): { lane: Lane; call: RawCall } | undefined {
    if (this.queued === 0) return undefined;
    for (const lane of this.lanes.values()) {
      if (lane.queue.length === 0 || !this.hasPlace(lane)) continue;
      this.queued -= 1;
      const call = lane.queue.shift() as RawCall;
      this.note(lane);
      return { lane, call };
    }
    return undefined;
  }

  /** Takes one waiting call out. */
  unqueue(fits: (call: RawCall) => boolean): RawCall | undefined {
    for (const lane of this.lanes.values()) {
      const index = lane.queue.findIndex(fits);
      if (index < 0) continue;
      this.queued -= 1;
      const [call] = lane.queue.splice(index, 1);
      this.note(lane);
      return call;
    }
    return undefined;
  }

  /** Whether all places of the process are taken. */
  get isFull(): boolean {
    return this.running + this.queued >= this.concurrency;
  }

  /** Takes all waiting calls of a lane out. */
  clearQueue(lane: Lane): RawCall[] {
    this.queued -= lane.queue.length;
    const calls = lane.queue.splice(0);
    this.note(lane);
    return calls;
  }

  /** The session is lost: nothing takes part, nothing waits; what runs goes on if `keepRunning`. */
  reset(keepRunning: boolean): void {
    for (const lane of this.lanes.values()) {
      lane.begun = false;
      lane.poolId = '';
      lane.queue.length = 0;
      if (!keepRunning) lane.running = 0;
    }
    this.pools.clear();
    this.occupied.clear();
    this.queued = 0;
    if (!keepRunning) this.running = 0;
  }

  /** Lanes that take calls, full or not. */
  isOpen(lane: Lane): boolean {
    return lane.begun && !lane.paused;
  }

  /** Whether a read that waits with this plan misses a lane that could take calls, or has one that must not. */
  isOutdated(plan: ReadPlan): boolean {
    if (plan.kind === 'pools')
      return this.pools.size !== plan.read.pools.length || !this.takesAll();
    if (this.pools.size > 0) return true;
    let readable = 0;
    for (const lane of this.lanes.values()) {
      if (!this.isReadable(lane)) continue;
      readable += 1;
      if (!plan.lanes.includes(lane)) return true;
    }
    return readable < plan.lanes.length && plan.lanes.some((lane) => !this.isOpen(lane));
  }

  /** The next read; `undefined` when there is no place or nothing to read. */
  plan(): ReadPlan | undefined {
    const free = this.concurrency - this.running - this.queued;
    if (free <= 0) return undefined;
    return this.pools.size > 0 ? this.poolPlan(free) : this.streamPlan(free);
  }

  /** Notes what a read brought. */
  observe(plan: ReadPlan, found: number): void {
    this.emptyTurns = found > 0 || plan.blocks ? 0 : this.emptyTurns + 1;
  }

  private streamPlan(free: number): StreamPlan | undefined {
    const lanes: Lane[] = [];
    let smallest = free;
    for (const lane of this.lanes.values()) {
      if (!this.isReadable(lane)) continue;
      lanes.push(lane);
      smallest = Math.min(smallest, lane.hosted.concurrency - lane.running);
    }
    if (lanes.length === 0) return undefined;
    if (lanes.length <= free) {
      return streamPlan(
        lanes,
        Math.max(1, Math.min(CALLS_PER_READ, smallest, Math.floor(free / lanes.length))),
        true,
      );
    }
    // Fewer places than functions: look at as many functions as there are places, in turn, without waiting;
    // wait on all of them only after a whole round found nothing.
    if (this.emptyTurns * free >= lanes.length) return streamPlan(lanes, 1, true);
    const from = this.rotation % lanes.length;
    this.rotation += free;
    const window = [...lanes, ...lanes].slice(from, from + free);
    return streamPlan(window, 1, false);
  }

  private poolPlan(free: number): PoolPlan | undefined {
    const rooms: { ref: FunctionRef; room: number }[] = [];
    const enough = Math.min(free, this.smallestPooled);
    let closed = 0;
    for (let lane = this.occupied.first; lane !== undefined; lane = lane.after) {
      const room = this.roomOf(lane);
      if (room === 0) closed += 1;
      // What is left of all places bounds the others anyway.
      if (room < enough) rooms.push({ ref: lane.ref, room });
    }
    if (closed === this.pooled()) return undefined;
    const read: PoolRead = {
      pools: [...this.pools.keys()],
      limit: free,
      functions: FUNCTIONS_PER_LOOK,
      perFunction: this.smallestPooled,
      rooms,
      waits: closed === 0,
    };
    return { kind: 'pools', read, blocks: closed === 0 };
  }

  /** Calls of whatever pooled functions that could start now, none beyond its function's places. */
  get places(): number {
    let places = Math.min(this.concurrency - this.running - this.queued, this.smallestPooled);
    for (let lane = this.occupied.first; lane !== undefined; lane = lane.after)
      places = Math.min(places, this.roomOf(lane));
    return Math.max(0, places);
  }

  private takesAll(): boolean {
    for (let lane = this.occupied.first; lane !== undefined; lane = lane.after)
      if (this.roomOf(lane) === 0) return false;
    return true;
  }

  private pooled(): number {
    let count = 0;
    for (const lanes of this.pools.values()) count += lanes.length;
    return count;
  }

  private note(lane: Lane): void {
    if (lane.poolId === '') return;
    const free = lane.running === 0 && lane.queue.length === 0 && this.isOpen(lane);
    if (free) this.occupied.delete(lane);
    else this.occupied.add(lane);
  }

  private roomOf(lane: Lane): number {
    return this.isReadable(lane) ? lane.hosted.concurrency - lane.running : 0;
  }

  private isReadable(lane: Lane): boolean {
    return (
      lane.begun &&
      !lane.paused &&
      !lane.broken &&
      lane.queue.length === 0 &&
      lane.running < lane.hosted.concurrency
    );
  }
}

function streamPlan(lanes: readonly Lane[], count: number, blocks: boolean): StreamPlan {
  return { kind: 'streams', lanes, refs: lanes.map((lane) => lane.ref), count, blocks };
}

/** Processes that host the same functions make the same pool. */
function poolOf(lanes: readonly Lane[]): string {
  const ids = lanes.map((lane) => lane.ref.id).sort();
  return createHash('sha1').update(ids.join('\n')).digest('hex').slice(0, 20);
}
