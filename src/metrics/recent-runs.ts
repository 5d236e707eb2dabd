import { medianOf } from './peer-comparison.js';

/** Durations that are kept between two looks. */
const KEPT = 512;

/** How long the runs since the last look took. */
export class RecentRuns {
  private durations: number[] = [];
  private count = 0;

  add(ms: number): void {
    this.durations[this.count % KEPT] = ms;
    this.count += 1;
  }

  /** What there was since the last look. */
  take(): { readonly runs: number; readonly medianMs: number } {
    const taken = { runs: this.count, medianMs: medianOf(this.durations) };
    this.durations = [];
    this.count = 0;
    return taken;
  }
}
