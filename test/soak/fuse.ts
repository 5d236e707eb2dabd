/** When the function `fused` fails, on the clock that all processes of the machine share. */
export interface FuseTimes {
  readonly from: number;
  /** It fails for the first `brokenMs` of every `periodMs`, until `to`. */
  readonly periodMs: number;
  readonly brokenMs: number;
  readonly to: number;
}

export function isFuseBroken({ from, periodMs, brokenMs, to }: FuseTimes, t: number): boolean {
  return t >= from && t < to && (t - from) % periodMs < brokenMs;
}

/** The times in which it fails, in their order. */
export function brokenTimes(fuse: FuseTimes): { from: number; to: number }[] {
  const { periodMs, brokenMs, to } = fuse;
  const times = [];
  for (let { from } = fuse; from < to; from += periodMs)
    times.push({ from, to: Math.min(to, from + brokenMs) });
  return times;
}
