import { clearTimeout, setImmediate, setTimeout } from 'node:timers';
import type { Clock, Timer } from '../common/clock.js';
import { InvalidArgumentError } from '../common/errors.js';
import { show } from '../common/text.js';

/**
 * - `running`: time passes as on the wall, and faster when it is advanced
 * - `frozen`: time stands still unless it is advanced, so that a test sees the same at each run
 */
export type ClockMode = 'running' | 'frozen';

interface Task {
  /** By {@link TestClock.elapsed}. */
  dueAt: number;
  readonly everyMs: number | undefined;
  readonly run: () => void;
}

/** What follows from a step has happened when nothing was under way in so many turns of the event loop. */
const QUIET_TURNS = 3;
/** Some never come to rest: who calls in a loop. */
const MAX_TURNS = 1_000;

// As they were when this file was loaded: a test that replaces the timers of its globals does not mean these.
const wallNow = Date.now.bind(Date);
const wallElapsed = performance.now.bind(performance);

/**
 * The clock of a {@link TestFleet}: everything in it that waits (deadlines, leases, pauses between attempts, the look
 * for the dead) waits on this clock. Timers of the code under test are not on it.
 *
 * Invariants: a task runs at the time for which it was set, in the order of those times; no task runs inside another.
 *
 * @example
 * ```ts
 * const called = registry.call('report', {}, { timeoutMs: 60_000 });
 * await fleet.clock.advance(60_000);
 * await expect(called).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
 * ```
 */
export class TestClock implements Clock {
  private readonly tasks = new Set<Task>();
  private readonly origin = wallNow();
  /** Time that has passed, up to {@link runningSince}. */
  private passedMs = 0;
  private runningSince: number | undefined;
  private shiftedMs = 0;
  private alarm: NodeJS.Timeout | undefined;
  private alarmAt = Infinity;
  /** One advance after the other. */
  private turning: Promise<void> = Promise.resolve();
  private closed = false;

  /** @param isBusy whether something is under way that took no time, such as an answer of the memory backend */
  constructor(
    mode: ClockMode = 'running',
    private readonly isBusy: () => boolean = () => false,
  ) {
    if (mode === 'running') this.resume();
  }

  get mode(): ClockMode {
    return this.runningSince === undefined ? 'frozen' : 'running';
  }

  /** Timers that wait. */
  get pending(): number {
    return this.tasks.size;
  }

  now(): number {
    return this.origin + Math.floor(this.elapsed()) + this.shiftedMs;
  }

  elapsed(): number {
    const running = this.runningSince;
    return this.passedMs + (running === undefined ? 0 : wallElapsed() - running);
  }

  after(ms: number, run: () => void): Timer {
    return this.add({ dueAt: this.elapsed() + ms, everyMs: undefined, run });
  }

  every(ms: number, run: () => void): Timer {
    return this.add({ dueAt: this.elapsed() + ms, everyMs: ms, run });
  }

  /**
   * Lets time pass. Resolves when everything that became due has run, each at its time, with what followed from it in
   * the fleet: answers came, calls started, notifications were heard. A handler that awaits something else than the
   * fleet may still be at it.
   *
   * @param ms at least 0
   * @throws InvalidArgumentError
   */
  advance(ms: number): Promise<void> {
    const span = assertSpan(ms);
    const turned = this.turning.then(() => this.advanceNow(span));
    this.turning = turned.catch(() => undefined);
    return turned;
  }

  /** As {@link advance}, at once: what is due runs, what follows from it does not before the event loop turns. */
  tick(ms: number): void {
    const end = this.elapsed() + assertSpan(ms);
    try {
      for (let next = this.nextUntil(end); next !== undefined; next = this.nextUntil(end))
        this.runAtItsTime(next);
      this.moveTo(end);
    } finally {
      this.arm();
    }
  }

  /** Time passes while nothing can run, as behind a blocked event loop: what was due then runs after it. */
  stall(ms: number): void {
    this.passedMs += assertSpan(ms);
    this.tick(0);
  }

  /** Somebody sets the host's clock, forwards or back: `now()` is another, and no time passes. */
  shift(ms: number): void {
    this.shiftedMs += ms;
  }

  /** Time stands still from here on. */
  freeze(): void {
    this.passedMs = this.elapsed();
    this.runningSince = undefined;
    this.disarm();
  }

  /** Time passes by itself from here on. */
  resume(): void {
    this.runningSince ??= wallElapsed();
    this.arm();
  }

  /** Resolves when nothing is under way in the fleet any more; no time is advanced. */
  async settle(): Promise<void> {
    let quiet = 0;
    for (let turns = 0; quiet < QUIET_TURNS && turns < MAX_TURNS; turns += 1) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      quiet = this.isBusy() ? 0 : quiet + 1;
    }
  }

  /** @internal Ends it: no timer is left, and none is set any more. */
  close(): void {
    this.closed = true;
    this.freeze();
    this.tasks.clear();
  }

  private async advanceNow(ms: number): Promise<void> {
    // What was begun just now begins before time passes.
    await this.settle();
    const end = this.elapsed() + ms;
    try {
      for (let next = this.nextUntil(end); next !== undefined; next = this.nextUntil(end)) {
        this.runAtItsTime(next);
        await this.settle();
      }
      this.moveTo(end);
    } finally {
      // The host's timer was set for a time that has come earlier.
      this.arm();
    }
  }

  private nextUntil(end: number): Task | undefined {
    const next = this.first();
    return next === undefined || next.dueAt > end ? undefined : next;
  }

  private first(): Task | undefined {
    let first: Task | undefined;
    for (const task of this.tasks)
      if (first === undefined || task.dueAt < first.dueAt) first = task;
    return first;
  }

  private runAtItsTime(task: Task): void {
    this.moveTo(task.dueAt);
    this.tasks.delete(task);
    if (task.everyMs !== undefined) {
      // As a host's timer: one that is late does not catch up.
      task.dueAt = Math.max(task.dueAt, this.elapsed()) + task.everyMs;
      this.tasks.add(task);
    }
    task.run();
  }

  private moveTo(elapsed: number): void {
    this.passedMs += Math.max(0, elapsed - this.elapsed());
  }

  private add(task: Task): Timer {
    if (this.closed) return { cancel: () => undefined };
    this.tasks.add(task);
    if (task.dueAt < this.alarmAt) this.arm();
    return {
      cancel: () => {
        this.tasks.delete(task);
        if (this.tasks.size === 0) this.disarm();
      },
    };
  }

  /** One timer of the host, for the task that is due first. */
  private arm(): void {
    this.disarm();
    const first = this.first();
    if (first === undefined || this.runningSince === undefined) return;
    this.alarmAt = first.dueAt;
    this.alarm = setTimeout(() => this.tick(0), Math.max(0, first.dueAt - this.elapsed()));
    this.alarm.unref();
  }

  private disarm(): void {
    clearTimeout(this.alarm);
    this.alarm = undefined;
    this.alarmAt = Infinity;
  }
}

function assertSpan(ms: unknown): number {
  if (typeof ms === 'number' && Number.isFinite(ms) && ms >= 0) return ms;
  throw new InvalidArgumentError('ms', show(ms), 'milliseconds, 0 or more');
}
