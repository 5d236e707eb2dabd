/** A function's calls in Redis at one moment. */
export interface BacklogSample {
  /** Of a clock that nobody sets, in milliseconds. */
  readonly at: number;
  readonly calls: number;
  readonly waiting: number;
  readonly oldestMs: number;
}

/** How often backlogs are looked at. */
export const SAMPLE_INTERVAL_MS = 250;
/** Two halves of a trend, which have to grow both: one alone is what a pause of a worker makes. */
const HALF = 3;
/** A trend is that of so many steps: a second and a half. */
const STEPS = 2 * HALF;
/** A step that took longer says that this process, or Redis, stood still: what piled up meanwhile is no trend. */
const LONGEST_STEP_MS = 3 * SAMPLE_INTERVAL_MS;
/** Fewer calls that no worker has taken are no bottleneck. */
export const MIN_WAITING = 20;
/** Nor are calls that hardly wait. */
export const MIN_AGE_MS = 250;
/** It has to grow by so many calls a second, and by this part of what is served. */
export const MIN_GROWTH_PER_SECOND = 10;
export const MIN_GROWTH_SHARE = 0.1;

/** The last samples of a function's backlog, and whether it grows faster than it is served. */
export class BacklogTrend {
  private samples: BacklogSample[] = [];

  add(sample: BacklogSample): void {
    const last = this.samples.at(-1);
    if (last !== undefined && sample.at - last.at > LONGEST_STEP_MS) this.samples = [];
    this.samples.push(sample);
    if (this.samples.length > STEPS + 1) this.samples.shift();
  }

  get last(): BacklogSample | undefined {
    return this.samples.at(-1);
  }

  /** Calls per second by which it grew; 0 as long as there is no trend. */
  get growthPerSecond(): number {
    return this.growth(0, STEPS);
  }

  isGrowing(servedPerSecond: number): boolean {
    const { last } = this;
    if (last === undefined || this.samples.length <= STEPS) return false;
    if (last.waiting < MIN_WAITING || last.oldestMs < MIN_AGE_MS) return false;
    const least = Math.max(MIN_GROWTH_PER_SECOND, MIN_GROWTH_SHARE * servedPerSecond);
    return this.growth(0, HALF) >= least && this.growth(HALF, STEPS) >= least;
  }

  /** Calls per second, from one sample to another: service comes in bursts, so single steps say little. */
  private growth(from: number, to: number): number {
    const first = this.samples[from];
    const last = this.samples[to];
    if (first === undefined || last === undefined) return 0;
    return ((last.calls - first.calls) * 1_000) / (last.at - first.at);
  }
}
