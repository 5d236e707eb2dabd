import type { Clock, Timer } from '../common/clock.js';

const INTERVAL_MS = 250;

/** Measures how late this process's timers run: what a blocked event loop does to heartbeats. */
export class EventLoopProbe {
  private timer: Timer | undefined;
  private expectedAt = 0;
  private lastLag = 0;

  constructor(private readonly clock: Clock) {}

  start(): void {
    this.expectedAt = this.clock.now() + INTERVAL_MS;
    this.timer ??= this.clock.every(INTERVAL_MS, () => {
      const now = this.clock.now();
      this.lastLag = Math.max(0, now - this.expectedAt);
      this.expectedAt = now + INTERVAL_MS;
    });
  }

  /** How late the last turn was, or how late the next one is already, in milliseconds. */
  get lagMs(): number {
    if (this.timer === undefined) return 0;
    return Math.max(this.lastLag, this.clock.now() - this.expectedAt, 0);
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }
}
