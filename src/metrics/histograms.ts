import type { Histogram, JsHistogram } from 'hdr-histogram-js';
import type * as hdr from 'hdr-histogram-js';

/** What {@link Latencies} need of the library; it is loaded when somebody measures. */
export type HistogramLibrary = typeof hdr;

/** Longer ones count as this long: an hour, in microseconds. */
export const LONGEST_MICROS = 3_600_000_000;
/** At most 1 % off; with three digits a histogram takes ten times the memory. */
const DIGITS = 2;
/** As in an `int`: a bucket counts up to two thousand million. */
const BUCKET_BITS = 32;

let library: Promise<HistogramLibrary> | undefined;

/** Loads hdr-histogram-js, once. */
export function loadHistograms(): Promise<HistogramLibrary> {
  // A CommonJS package: what stands for it depends on who loads it.
  library ??= import('hdr-histogram-js').then(
    (loaded) => (loaded as unknown as { default?: HistogramLibrary }).default ?? loaded,
  );
  return library;
}

/** How long something took, over many times. */
export interface LatencySummary {
  readonly count: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

const NOTHING: LatencySummary = Object.freeze({
  count: 0,
  meanMs: 0,
  p50Ms: 0,
  p90Ms: 0,
  p99Ms: 0,
  maxMs: 0,
});

/** Durations as a histogram that can be sent, and merged with those of others. */
export class Latencies {
  /** Exact; the histogram's own mean is as exact as its buckets. */
  sumMs = 0;
  private histogram: Histogram | undefined;
  private encoded: string | undefined;

  constructor(private readonly library: HistogramLibrary) {}

  get count(): number {
    return this.histogram?.totalCount ?? 0;
  }

  /** What is no duration counts as none at all: a clock may be set back. */
  record(ms: number): void {
    const known = ms > 0 ? ms : 0;
    this.sumMs += known;
    this.encoded = undefined;
    this.histogram ??= this.make();
    this.histogram.recordValue(Math.min(LONGEST_MICROS, Math.round(known * 1_000)));
  }

  add(other: Latencies): void {
    if (other.histogram === undefined) return;
    this.sumMs += other.sumMs;
    this.encoded = undefined;
    this.histogram ??= this.make();
    this.histogram.add(other.histogram);
  }

  percentileMs(percentile: number): number {
    return (this.histogram?.getValueAtPercentile(percentile) ?? 0) / 1_000;
  }

  /** How many were at most so long, for each of these, which ascend. */
  countsUpTo(boundsMs: readonly number[]): number[] {
    const histogram = this.histogram as JsHistogram | undefined;
    const counts = boundsMs.map(() => 0);
    if (histogram === undefined || histogram.totalCount === 0) return counts;
    let bound = 0;
    let total = 0;
    const end = histogram.countsArrayIndex(histogram.maxValue);
    for (let index = 0; index <= end && bound < counts.length; index += 1) {
      const count = histogram.getCountAtIndex(index);
      if (count === 0) continue;
      const micros = histogram.valueFromIndex(index);
      while (bound < counts.length && micros > (boundsMs[bound] ?? 0) * 1_000)
        counts[bound++] = total;
      total += count;
    }
    return counts.fill(total, bound);
  }

  summary(): LatencySummary {
    const { histogram, count } = this;
    if (histogram === undefined || count === 0) return NOTHING;
    return {
      count,
      meanMs: this.sumMs / count,
      p50Ms: this.percentileMs(50),
      p90Ms: this.percentileMs(90),
      p99Ms: this.percentileMs(99),
      maxMs: histogram.maxValue / 1_000,
    };
  }

  /** HdrHistogram V2, compressed, base64; `''` when there is nothing. */
  encode(): string {
    if (this.histogram === undefined) return '';
    this.encoded ??= this.library.encodeIntoCompressedBase64(this.histogram);
    return this.encoded;
  }

  /** Reads {@link encode}; `undefined` when it was not made by it. */
  static decode(library: HistogramLibrary, hdr: string, sumMs: number): Latencies | undefined {
    const latencies = new Latencies(library);
    if (hdr === '') return latencies;
    try {
      const foreign = library.decodeFromCompressedBase64(hdr, BUCKET_BITS, false);
      latencies.histogram = latencies.make();
      latencies.histogram.add(foreign);
    } catch {
      return undefined;
    }
    latencies.sumMs = sumMs;
    return latencies;
  }

  private make(): Histogram {
    return this.library.build({
      bitBucketSize: BUCKET_BITS,
      lowestDiscernibleValue: 1,
      highestTrackableValue: LONGEST_MICROS,
      numberOfSignificantValueDigits: DIGITS,
    });
  }
}
