import type { RawCall } from '../../backend/call-streams.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { HostedFunction } from './hosted-function.js';

/** One function inside a process: whether it is read, and how much of it runs. */
export interface Lane {
  readonly hosted: HostedFunction;
  readonly ref: FunctionRef;
  /** Its group exists and it takes part in reads. */
  begun: boolean;
  /** Takes no new calls for now. */
  paused: boolean;
  running: number;
  /** Delivered and not started: what a read brought beyond the free places. */
  readonly queue: RawCall[];
}

/** What to read next. */
export interface ReadPlan {
  readonly lanes: readonly Lane[];
  readonly refs: readonly FunctionRef[];
  readonly count: number;
  /** Whether it may wait for calls to come. */
  readonly blocks: boolean;
}

/**
 * Decides which functions are read and how many calls are asked for, so that a process holds no more calls
 * than its `concurrency`, plus this prefetch: when fewer places are free than functions are hosted, a
 * waiting read can be served by several functions at once, at most one call each. Such calls wait here for
 * a place, and are handed back when the process drains.
 */
export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  private running = 0;
  private queued = 0;
  private rotation = 0;
  private emptyTurns = 0;

  constructor(private readonly concurrency: number) {}

  add(hosted: HostedFunction): void {
    this.lanes.set(hosted.ref.id, {
      hosted,
      ref: hosted.ref,
      begun: false,
      paused: false,
      running: 0,
      queue: [],
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

  /** Whether a call of the lane can start now. */
  hasPlace(lane: Lane): boolean {
    return this.running < this.concurrency && lane.running < lane.hosted.concurrency;
  }

  start(lane: Lane): void {
    lane.running += 1;
    this.running += 1;
  }

  end(lane: Lane): void {
    lane.running -= 1;
    this.running -= 1;
  }

  enqueue(lane: Lane, call: RawCall): void {
    lane.queue.push(call);
    this.queued += 1;
  }

  /** A delivered call that can start now. */
  dequeue(): { lane: Lane; call: RawCall } | undefined {
    if (this.queued === 0) return undefined;
    for (const lane of this.lanes.values()) {
      if (lane.queue.length === 0 || !this.hasPlace(lane)) continue;
      this.queued -= 1;
      return { lane, call: lane.queue.shift() as RawCall };
    }
    return undefined;
  }

  /** Takes one waiting call out. */
  unqueue(fits: (call: RawCall) => boolean): RawCall | undefined {
    for (const { queue } of this.lanes.values()) {
      const index = queue.findIndex(fits);
      if (index < 0) continue;
      this.queued -= 1;
      return queue.splice(index, 1)[0];
    }
    return undefined;
  }

  /** Takes all waiting calls of a lane out. */
  clearQueue(lane: Lane): RawCall[] {
    this.queued -= lane.queue.length;
    return lane.queue.splice(0);
  }

  /** Forgets what ran and waited: the session is lost. */
  reset(): void {
    for (const lane of this.lanes.values()) {
      lane.begun = false;
      lane.running = 0;
      lane.queue.length = 0;
    }
    this.running = 0;
    this.queued = 0;
  }

  /** Lanes that take calls, full or not. */
  isOpen(lane: Lane): boolean {
    return lane.begun && !lane.paused;
  }

  /** Whether a read that waits with this plan misses a lane that could take calls, or has one that must not. */
  isOutdated(plan: ReadPlan): boolean {
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
    const lanes: Lane[] = [];
    let smallest = free;
    for (const lane of this.lanes.values()) {
      if (!this.isReadable(lane)) continue;
      lanes.push(lane);
      smallest = Math.min(smallest, lane.hosted.concurrency - lane.running);
    }
    if (lanes.length === 0) return undefined;
    if (lanes.length <= free) {
      return readPlan(
        lanes,
        Math.max(1, Math.min(smallest, Math.floor(free / lanes.length))),
        true,
      );
    }
    // Fewer places than functions: look at as many functions as there are places, in turn, without waiting;
    // wait on all of them only after a whole round found nothing.
    if (this.emptyTurns * free >= lanes.length) return readPlan(lanes, 1, true);
    const from = this.rotation % lanes.length;
    this.rotation += free;
    const window = [...lanes, ...lanes].slice(from, from + free);
    return readPlan(window, 1, false);
  }

  /** Notes what a read brought. */
  observe(plan: ReadPlan, found: number): void {
    this.emptyTurns = found > 0 || plan.blocks ? 0 : this.emptyTurns + 1;
  }

  private isReadable(lane: Lane): boolean {
    return (
      lane.begun &&
      !lane.paused &&
      lane.queue.length === 0 &&
      lane.running < lane.hosted.concurrency
    );
  }
}

function readPlan(lanes: readonly Lane[], count: number, blocks: boolean): ReadPlan {
  return { lanes, refs: lanes.map((lane) => lane.ref), count, blocks };
}
