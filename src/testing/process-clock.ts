import { setImmediate } from 'node:timers';
import type { Clock, Timer } from '../common/clock.js';
import type { TestClock } from './test-clock.js';

interface Waiting {
  readonly timer: Timer;
  /** `undefined`: it comes again and again. */
  readonly task: (() => void) | undefined;
}

/**
 * A process's view of the fleet's clock: the same time, and timers that end with the process.
 *
 * - `living`: as the fleet's clock
 * - `hurried`: the process is dead, and what is left of it in this one is wound up; waits end at once, and nothing
 *   is done periodically any more
 * - `ended`: nothing waits any more
 */
export class ProcessClock<Process = unknown> implements Clock {
  private readonly waiting = new Set<Waiting>();
  private state: 'living' | 'hurried' | 'ended' = 'living';

  constructor(
    private readonly clock: TestClock,
    readonly process: Process,
  ) {}

  now(): number {
    return this.clock.now();
  }

  elapsed(): number {
    return this.clock.elapsed();
  }

  after(ms: number, task: () => void): Timer {
    if (this.state !== 'living') return this.soon(task);
    const waiting: Waiting = {
      timer: this.clock.after(ms, () => {
        this.waiting.delete(waiting);
        task();
      }),
      task,
    };
    return this.track(waiting);
  }

  every(ms: number, task: () => void): Timer {
    if (this.state !== 'living') return { cancel: () => undefined };
    return this.track({ timer: this.clock.every(ms, task), task: undefined });
  }

  /** From here on nobody waits for time to pass. */
  hurry(): void {
    if (this.state !== 'living') return;
    this.state = 'hurried';
    for (const { task } of this.cancelAll()) if (task !== undefined) this.soon(task);
  }

  end(): void {
    this.state = 'ended';
    this.cancelAll();
  }

  private soon(task: () => void): Timer {
    let wanted = this.state === 'hurried';
    setImmediate(() => {
      if (wanted) task();
    });
    return { cancel: () => void (wanted = false) };
  }

  private track(waiting: Waiting): Timer {
    this.waiting.add(waiting);
    return {
      cancel: () => {
        this.waiting.delete(waiting);
        waiting.timer.cancel();
      },
    };
  }

  private cancelAll(): Waiting[] {
    const all = [...this.waiting];
    this.waiting.clear();
    for (const { timer } of all) timer.cancel();
    return all;
  }
}
