import type { Clock, Timer } from '../../src/common/clock.js';

interface Due {
  at: number;
  readonly task: () => void;
  readonly everyMs: number | undefined;
}

/** A clock that stands still until a test turns it. */
export class TurnedClock implements Clock {
  private readonly due = new Set<Due>();
  private time = 1_000_000;

  now(): number {
    return this.time;
  }

  after(ms: number, task: () => void): Timer {
    return this.add({ at: this.time + ms, task, everyMs: undefined });
  }

  every(ms: number, task: () => void): Timer {
    return this.add({ at: this.time + ms, task, everyMs: ms });
  }

  /** Timers that wait. */
  get timers(): number {
    return this.due.size;
  }

  /** Lets time pass; what falls due runs in its order. */
  turn(ms: number): void {
    const until = this.time + ms;
    for (;;) {
      const [next] = [...this.due].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.time = Math.max(this.time, next.at);
      if (next.everyMs === undefined) this.due.delete(next);
      else next.at += next.everyMs;
      next.task();
    }
    this.time = until;
  }

  private add(due: Due): Timer {
    this.due.add(due);
    return { cancel: () => void this.due.delete(due) };
  }
}
