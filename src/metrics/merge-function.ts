import type { FunctionRef } from '../protocol/function-ref.js';
import type {
  BacklogMetrics,
  CallerMetrics,
  ErrorCounts,
  LatencyRecord,
  MetricsNotification,
  WorkerMetrics,
} from '../protocol/metrics.js';
import type { FunctionMetrics, ProcessFunctionMetrics } from './fleet-metrics.js';
import type { Latencies, LatencySummary } from './histograms.js';

/** What one process reported of one function last, and before that. */
export interface HeardReport {
  readonly ref: FunctionRef;
  readonly latest: MetricsNotification;
  /** The one before, of the same epoch. */
  readonly previous: MetricsNotification | undefined;
  /** When it was heard, on this process's own clock. */
  readonly heardAt: number;
}

type Read = (record: LatencyRecord) => Latencies;

/** The reports of one function, as one. There is at least one. */
export function mergeFunction(
  reports: readonly HeardReport[],
  empty: () => Latencies,
  read: Read,
): FunctionMetrics {
  const callers = reports.flatMap(({ latest }) => latest.caller ?? []);
  const workers = reports.flatMap(({ latest }) => latest.worker ?? []);
  const readIf = (record: LatencyRecord | undefined): Latencies =>
    record === undefined ? empty() : read(record);
  const merged = (parts: readonly Latencies[]): LatencySummary => {
    const all = empty();
    for (const part of parts) all.add(part);
    return all.summary();
  };
  // Those of single processes are told, too: each is unpacked once.
  const processes = reports.map((report) => ({
    report,
    roundTrip: readIf(report.latest.caller?.roundTrip),
    run: readIf(report.latest.worker?.run),
  }));
  const { functionName = '', workflowId = '' } = reports[0]?.ref ?? {};
  return {
    functionName,
    workflowId,
    calls: sum(callers, ({ calls }) => calls),
    callErrors: sumErrors(callers),
    runs: sum(workers, ({ runs }) => runs),
    runErrors: sumErrors(workers),
    retries: sum(workers, ({ retries }) => retries),
    handOvers: sum(workers, ({ handOvers }) => handOvers),
    callsPerSecond: sum(reports, callRate),
    runsPerSecond: sum(reports, runRate),
    waiting: sum(callers, ({ waiting }) => waiting),
    oldestWaitMs: Math.max(0, ...callers.map(({ oldestWaitMs }) => oldestWaitMs)),
    pending: sum(callers, ({ pending }) => pending),
    running: sum(workers, ({ running }) => running),
    queued: sum(workers, ({ queued }) => queued),
    backlog: lastBacklog(reports),
    wait: merged(callers.map(({ wait }) => read(wait))),
    roundTrip: merged(processes.map(({ roundTrip }) => roundTrip)),
    queue: merged(workers.map(({ queue }) => read(queue))),
    run: merged(processes.map(({ run }) => run)),
    processes: processes.map(({ report, roundTrip, run }) =>
      processOf(report, roundTrip.summary(), run.summary()),
    ),
  };
}

function processOf(
  report: HeardReport,
  roundTrip: LatencySummary,
  run: LatencySummary,
): ProcessFunctionMetrics {
  const { processId, workerId, timestamp, epoch, caller, worker } = report.latest;
  return {
    processId,
    workerId,
    timestamp,
    since: epoch,
    calls: caller?.calls ?? 0,
    runs: worker?.runs ?? 0,
    callsPerSecond: callRate(report),
    runsPerSecond: runRate(report),
    waiting: caller?.waiting ?? 0,
    pending: caller?.pending ?? 0,
    running: worker?.running ?? 0,
    queued: worker?.queued ?? 0,
    roundTrip,
    run,
  };
}

function callRate(report: HeardReport): number {
  return rate(report, ({ caller }) => caller?.calls ?? 0);
}

function runRate(report: HeardReport): number {
  return rate(report, ({ worker }) => worker?.runs ?? 0);
}

/** Per second, between the last two reports; 0 as long as there is one. */
function rate(
  { latest, previous }: HeardReport,
  count: (report: MetricsNotification) => number,
): number {
  const ms = previous === undefined ? 0 : latest.timestamp - previous.timestamp;
  if (previous === undefined || ms <= 0) return 0;
  return Math.max(0, ((count(latest) - count(previous)) * 1_000) / ms);
}

/** All workers ask the same Redis: the last to do so knows best. */
function lastBacklog(reports: readonly HeardReport[]): BacklogMetrics | undefined {
  let last: MetricsNotification | undefined;
  for (const { latest } of reports)
    if (latest.worker?.backlog !== undefined && latest.timestamp >= (last?.timestamp ?? 0))
      last = latest;
  return last?.worker?.backlog;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function sumErrors(parts: readonly (CallerMetrics | WorkerMetrics)[]): ErrorCounts {
  const total = new Map<string, number>();
  for (const { errors } of parts)
    for (const [code, count] of Object.entries(errors))
      total.set(code, (total.get(code) ?? 0) + count);
  return Object.fromEntries(total);
}
