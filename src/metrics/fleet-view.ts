import type { Clock } from '../common/clock.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import { isMalformed, type Malformed } from '../protocol/notification.js';
import { parseMetrics, type LatencyRecord, type MetricsNotification } from '../protocol/metrics.js';
import type { FleetMetrics, FunctionMetrics, ProcessMetrics } from './fleet-metrics.js';
import type { HistogramLibrary } from './histograms.js';
import { Latencies } from './histograms.js';
import { mergeFunction, type HeardReport } from './merge-function.js';

/** A process that says nothing for so long is forgotten, and what it counted with it. */
export const FORGET_MS = 5_000;
/** Reports that are held at once: one per function and process. */
export const MAX_REPORTS = 10_000;

/**
 * What processes reported last, merged when somebody asks.
 *
 * Reports of one process may overtake each other, or come from one that measures anew: the higher (epoch, seq) is the
 * newer one. What a lost report said is in the next one.
 */
export class FleetView {
  /** Packets that were no report, one too many, or older than one that came before. */
  dropped = 0;
  /** Reports that did not come, or too late. */
  private lost = 0;
  /** Histograms that were found to be none: each is counted once, however often it is merged. */
  private readonly unreadable = new WeakSet<LatencyRecord>();
  private readonly reports = new Map<string, HeardReport>();

  constructor(private readonly clock: Clock) {}

  /** @returns what is wrong with it when it is no report */
  hear(ref: FunctionRef, data: unknown): Malformed | undefined {
    const report = parseMetrics(ref, data);
    if (isMalformed(report)) {
      this.dropped += 1;
      return report;
    }
    const key = `${ref.id} ${report.processId}`;
    const known = this.reports.get(key);
    const isWelcome =
      known === undefined ? this.reports.size < MAX_REPORTS : isNewer(report, known.latest);
    if (!isWelcome) {
      this.dropped += 1;
      return undefined;
    }
    const previous = known?.latest.epoch === report.epoch ? known.latest : undefined;
    if (previous !== undefined) this.lost += report.seq - previous.seq - 1;
    this.reports.set(key, { ref, latest: report, previous, heardAt: this.clock.elapsed() });
    return undefined;
  }

  /** Everything that was heard, merged. */
  merge(library: HistogramLibrary, timestamp: number): FleetMetrics {
    this.forget();
    const byFunction = new Map<string, HeardReport[]>();
    const processes = new Map<string, ProcessMetrics>();
    for (const report of this.reports.values()) {
      const { processId, workerId, eventLoopLagMs } = report.latest;
      processes.set(processId, { processId, workerId, eventLoopLagMs });
      const others = byFunction.get(report.ref.id);
      if (others === undefined) byFunction.set(report.ref.id, [report]);
      else others.push(report);
    }
    const read = (record: LatencyRecord): Latencies => this.read(library, record);
    const functions = [...byFunction.values()].map((reports) =>
      mergeFunction(reports, () => new Latencies(library), read),
    );
    return {
      timestamp,
      functions: functions.sort(byName),
      processes: [...processes.values()].sort((a, b) => (a.processId < b.processId ? -1 : 1)),
      dropped: this.dropped,
      lost: this.lost,
    };
  }

  private read(library: HistogramLibrary, record: LatencyRecord): Latencies {
    const latencies = Latencies.decode(library, record.hdr, record.sumMs);
    if (latencies !== undefined) return latencies;
    if (!this.unreadable.has(record)) this.dropped += 1;
    this.unreadable.add(record);
    return new Latencies(library);
  }

  private forget(): void {
    const limit = this.clock.elapsed() - FORGET_MS;
    for (const [key, { heardAt }] of this.reports) if (heardAt < limit) this.reports.delete(key);
  }
}

function isNewer(report: MetricsNotification, known: MetricsNotification): boolean {
  return report.epoch > known.epoch || (report.epoch === known.epoch && report.seq > known.seq);
}

function byName(one: FunctionMetrics, other: FunctionMetrics): number {
  const [a, b] = [one, other].map(
    ({ workflowId, functionName }) => `${workflowId}\0${functionName}`,
  );
  return (a as string) < (b as string) ? -1 : 1;
}
