import type { Clock, Timer } from '../../src/common/clock.js';

interface Task {
  dueAt: number;
  readonly everyMs: number | undefined;
  readonly run: () => void;
}

/** A clock that a test turns. */
export class ManualClock implements Clock {
  private readonly tasks = new Set<Task>();
  private setBy = 0;

  constructor(private time = 1_700_000_000_000) {}

  now(): number {
    return this.time + this.setBy;
  }

  elapsed(): number {
    return this.time;
  }

  /** Somebody sets the host's clock; no time passes. */
  set(ms: number): void {
    this.setBy += ms;
  }

  after(ms: number, run: () => void): Timer {
    return this.add({ dueAt: this.time + ms, everyMs: undefined, run });
  }

  every(ms: number, run: () => void): Timer {
    return this.add({ dueAt: this.time + ms, everyMs: ms, run });
  }

  /** Timers that run. */
  get pending(): number {
    return this.tasks.size;
  }

  /** Lets time pass; timers run when they are due, in their order. */
  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const [next] = [...this.tasks].sort((one, other) => one.dueAt - other.dueAt);
      if (next === undefined || next.dueAt > end) break;
      this.time = next.dueAt;
      if (next.everyMs === undefined) this.tasks.delete(next);
      else next.dueAt += next.everyMs;
      next.run();
    }
    this.time = end;
  }

  /** Time passes while nothing can run: what was due then runs after it. */
  stall(ms: number): void {
    this.time += ms;
    this.advance(0);
  }

  private add(task: Task): Timer {
    this.tasks.add(task);
    return { cancel: () => void this.tasks.delete(task) };
  }
}
