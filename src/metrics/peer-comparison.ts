/** What is known of a worker's runs of a function in its last half second. */
export interface WorkerPace {
  readonly runs: number;
  readonly medianMs: number;
}

/** Fewer runs in half a second say nothing of their median. */
export const MIN_RUNS = 5;
/** A worker is slow whose median is so many times that of its peers, */
export const SLOW_FACTOR = 3;
/** and that much longer: below it there is no telling from noise. */
export const MIN_EXCESS_MS = 20;

/** How a worker compares with its peers. */
export interface Comparison {
  readonly isSlow: boolean;
  readonly medianMs: number;
  /** The median of the medians of its peers. */
  readonly peersMedianMs: number;
  readonly peers: number;
}

/** Compares a worker with the others; `undefined` when there is nothing to compare. */
export function compareWithPeers(
  worker: WorkerPace,
  others: readonly WorkerPace[],
): Comparison | undefined {
  const peers = others.filter(({ runs }) => runs >= MIN_RUNS);
  if (worker.runs < MIN_RUNS || peers.length === 0) return undefined;
  const peersMedianMs = medianOf(peers.map(({ medianMs }) => medianMs));
  const { medianMs } = worker;
  const isSlow =
    medianMs >= SLOW_FACTOR * peersMedianMs && medianMs - peersMedianMs >= MIN_EXCESS_MS;
  return { isSlow, medianMs, peersMedianMs, peers: peers.length };
}

/** The lower one of two in the middle; 0 of nothing. */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}
