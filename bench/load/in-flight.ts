/** What got through with many calls in flight. */
export interface ThroughputReport {
  readonly perSecond: number;
  /** All calls that were made, the lead-in's included: what commands are divided by. */
  readonly calls: number;
}

/** Keeps `lanes` calls in flight for `durationMs`, after a lead-in that is not counted in the speed. */
export async function inFlight(
  call: () => Promise<unknown>,
  lanes: number,
  durationMs: number,
  leadInMs: number,
): Promise<ThroughputReport> {
  const from = performance.now() + leadInMs;
  const end = from + durationMs;
  let calls = 0;
  let counted = 0;
  const lane = async (): Promise<void> => {
    for (let now = performance.now(); now < end;) {
      await call();
      calls += 1;
      now = performance.now();
      if (now >= from && now < end) counted += 1;
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return { perSecond: counted / (durationMs / 1_000), calls };
}
