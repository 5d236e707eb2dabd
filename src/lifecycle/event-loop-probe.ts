import type { Clock, Timer } from '../common/clock.js';

const INTERVAL_MS = 250;
/** A turn that was later than all since is remembered for so long. */
const MEMORY_MS = 60_000;

/** Measures how late this process's timers run: what a blocked event loop does to heartbeats. */
export class EventLoopProbe {
  private timer: Timer | undefined;
  private expectedAt = 0;
  private lastLag = 0;
  private worst = { lagMs: 0, at: 0 };

  constructor(private readonly clock: Clock) {}

  start(): void {
    this.expectedAt = this.clock.now() + INTERVAL_MS;
    this.timer ??= this.clock.every(INTERVAL_MS, () => {
      const now = this.clock.now();
      this.lastLag = Math.max(0, now - this.expectedAt);
      this.expectedAt = now + INTERVAL_MS;
      if (this.lastLag >= this.worst.lagMs || now - this.worst.at > MEMORY_MS)
        this.worst = { lagMs: this.lastLag, at: now };
    });
  }

  /** How late the last turn was, or how late the next one is already, in milliseconds. */
  get lagMs(): number {
    if (this.timer === undefined) return 0;
    return Math.max(this.lastLag, this.clock.now() - this.expectedAt, 0);
  }

  /** The latest that a turn was which ended within the last `withinMs`, as far as it is remembered. */
  worstLagMs(withinMs: number): number {
    const { lagMs, at } = this.worst;
    return Math.max(this.lagMs, this.clock.now() - at <= withinMs ? lagMs : 0);
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }
}
