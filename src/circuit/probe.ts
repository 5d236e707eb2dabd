import type { Clock, Timer } from '../common/clock.js';

/** Keeps the lease of a probe while it runs. */
export class Probe {
  private readonly timer: Timer;
  private keeping = false;

  constructor(
    clock: Clock,
    leaseMs: number,
    private readonly keep: () => Promise<unknown>,
  ) {
    this.timer = clock.every(Math.max(1, Math.floor(leaseMs / 3)), () => void this.renew());
  }

  end(): void {
    this.timer.cancel();
  }

  private async renew(): Promise<void> {
    if (this.keeping) return;
    this.keeping = true;
    await this.keep();
    this.keeping = false;
  }
}
