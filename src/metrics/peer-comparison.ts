import type { WorkerVitals } from '../protocol/vitals.js';

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
  worker: WorkerVitals,
  others: readonly WorkerVitals[],
): Comparison | undefined {
  const peers = others.filter(({ runs }) => runs >= MIN_RUNS);
  const medianMs = paceOf(worker);
  if (medianMs === undefined || peers.length === 0) return undefined;
  const peersMedianMs = medianOf(peers.map(({ medianMs }) => medianMs));
  const isSlow =
    medianMs >= SLOW_FACTOR * peersMedianMs && medianMs - peersMedianMs >= MIN_EXCESS_MS;
  return { isSlow, medianMs, peersMedianMs, peers: peers.length };
}

/** Where not one run ended, those that go on have taken as long as they did so far. */
function paceOf({ runs, medianMs, running, runningMs }: WorkerVitals): number | undefined {
  if (runs >= MIN_RUNS) return medianMs;
  return runs === 0 && running >= MIN_RUNS ? runningMs : undefined;
}

/** The lower one of two in the middle; 0 of nothing. */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}
