import type { EndedRun } from '../execution/call-probes.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import { countedCode, MAX_ERROR_CODES, OTHER_CODES } from '../protocol/metrics.js';
import { RecentRuns } from './recent-runs.js';
import { Latencies, type HistogramLibrary } from './histograms.js';

/** Errors by code; handlers choose their codes, so there are only so many. */
export class ErrorCounter {
  private readonly counts = new Map<string, number>();

  add(code: string): void {
    const counted = countedCode(code);
    const known = this.counts.has(counted) || this.counts.size < MAX_ERROR_CODES;
    const key = known ? counted : OTHER_CODES;
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
  }

  toRecord(): Record<string, number> {
    return Object.fromEntries(this.counts);
  }
}

/** What this process measured of one function since it began to measure. */
export class FunctionMeter {
  calls = 0;
  readonly callErrors = new ErrorCounter();
  /** Calls that wait for a worker now, and calls that have one. */
  waiting = 0;
  pending = 0;
  readonly wait: Latencies;
  readonly roundTrip: Latencies;

  runs = 0;
  readonly runErrors = new ErrorCounter();
  retries = 0;
  handOvers = 0;
  readonly queue: Latencies;
  readonly run: Latencies;

  /** Runs since the last look, while somebody looks. */
  recent: RecentRuns | undefined;

  /** How often it was reported. */
  reports = 0;

  /** When something was measured last. */
  usedAt = 0;

  constructor(
    readonly ref: FunctionRef,
    library: HistogramLibrary,
  ) {
    this.wait = new Latencies(library);
    this.roundTrip = new Latencies(library);
    this.queue = new Latencies(library);
    this.run = new Latencies(library);
  }

  /** Whether nothing is under way that would have to be counted here. */
  get isIdle(): boolean {
    return this.waiting === 0 && this.pending === 0;
  }

  takeRecent(): ReturnType<RecentRuns['take']> {
    this.recent ??= new RecentRuns();
    return this.recent.take();
  }

  noteRunTime(ms: number): void {
    this.run.record(ms);
    this.recent?.add(ms);
  }

  noteRun({ kind, code, attempt, failures }: EndedRun): void {
    this.runs += 1;
    if (code !== undefined) this.runErrors.add(code);
    if (kind === 'retry') this.retries += 1;
    // Counted once, when the call is over: how often it changed its worker is known from then on.
    else this.handOvers += Math.max(0, attempt - 1 - failures);
  }
}
