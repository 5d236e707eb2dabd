import { CIRCUIT_REPORT_MS } from '../backend/limits.js';
import type { Clock } from '../common/clock.js';

const FIRST_GAP_MS = 25;

/**
 * Reports that might open a circuit are sent at once; while they do not, the next one 25 ms later, then twice as late,
 * and at last as late as all others.
 */
export class UrgentPace {
  private nextAt = 0;
  private gapMs = FIRST_GAP_MS;

  constructor(private readonly clock: Clock) {}

  /** Whether one may be sent now, which then counts as sent. */
  take(): boolean {
    const now = this.clock.elapsed();
    if (now < this.nextAt) return false;
    this.nextAt = now + this.gapMs;
    this.gapMs = Math.min(2 * this.gapMs, CIRCUIT_REPORT_MS);
    return true;
  }

  /** The circuit is another one: the next report is the first. */
  reset(): void {
    this.nextAt = 0;
    this.gapMs = FIRST_GAP_MS;
  }
}
