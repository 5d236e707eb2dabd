import { percentile } from '../report/statistics.js';

/** Latency of calls that follow one another. */
export interface LatencyReport {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly calls: number;
}

/** Makes one call after the other for `durationMs`, after a lead-in that is not counted. */
export async function oneAtATime(
  call: () => Promise<unknown>,
  durationMs: number,
  leadInMs: number,
): Promise<LatencyReport> {
  const leadInEnd = performance.now() + leadInMs;
  while (performance.now() < leadInEnd) await call();
  const samples: number[] = [];
  const end = performance.now() + durationMs;
  for (let from = performance.now(); from < end;) {
    await call();
    const to = performance.now();
    samples.push(to - from);
    from = to;
  }
  return {
    p50Ms: percentile(samples, 50),
    p99Ms: percentile(samples, 99),
    calls: samples.length,
  };
}
