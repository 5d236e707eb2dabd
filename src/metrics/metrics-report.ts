import type { CallPressure, CallStreams } from '../backend/call-streams.js';
import type { FunctionLoad } from '../execution/worker/call-consumer.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import {
  METRICS_VERSION,
  type BacklogMetrics,
  type CallerMetrics,
  type LatencyRecord,
  type MetricsNotification,
  type WorkerMetrics,
} from '../protocol/metrics.js';
import type { FunctionMeter } from './function-meter.js';
import type { Latencies } from './histograms.js';
import type { ProcessMeter } from './process-meter.js';

/** What a report needs to know of its process. */
export interface ReportingProcess {
  readonly workerId: string;
  readonly processId: string;
  load(): FunctionLoad[];
  /** When the handlers that run began, per function id, on the clock that nobody sets. */
  starts(): Map<string, number[]>;
  eventLoopLagMs(): number;
  /** Redis's clock. */
  redisNow(): number;
}

/** A function of this process, and what is known of it now. */
export interface Measured {
  readonly meter: FunctionMeter;
  /** Absent when the process does not host it. */
  readonly load: FunctionLoad | undefined;
}

/** Puts into packets what this process has measured. */
export class MetricsReport {
  constructor(
    private readonly process: ReportingProcess,
    private readonly calls: Pick<CallStreams, 'pressure'>,
  ) {}

  /** The functions that there is something to say about: hosted ones, and those that were called. */
  subjects(meter: ProcessMeter): Measured[] {
    const loads = new Map(this.process.load().map((load) => [load.ref.id, load]));
    const subjects: Measured[] = [];
    for (const load of loads.values()) {
      const measured = meter.hosted(load.ref);
      if (measured !== undefined) subjects.push({ meter: measured, load });
    }
    for (const measured of meter.all())
      if (!loads.has(measured.ref.id)) subjects.push({ meter: measured, load: undefined });
    return subjects;
  }

  /** Reports of these functions, with the backlogs of those that are hosted here. */
  async write(
    meter: ProcessMeter,
    subjects: readonly Measured[],
  ): Promise<{ ref: FunctionRef; report: MetricsNotification }[]> {
    const backlogs = await this.backlogs(subjects);
    const oldestWaits = meter.oldestWaits();
    const head = this.head(meter.epoch);
    return subjects.map(({ meter: fn, load }) => {
      const { functionName, workflowId } = fn.ref;
      const caller = hasCalls(fn) ? callerOf(fn, oldestWaits.get(fn) ?? 0) : undefined;
      const backlog = backlogs.get(fn.ref.id);
      const worker = load === undefined ? undefined : workerOf(fn, load);
      fn.reports += 1;
      const report: MetricsNotification = {
        ...head,
        seq: fn.reports,
        functionName,
        workflowId,
        ...(caller === undefined ? {} : { caller }),
        ...(worker === undefined
          ? {}
          : {
              worker: backlog === undefined ? worker : { ...worker, backlog },
            }),
      };
      return { ref: fn.ref, report };
    });
  }

  private head(
    epoch: number,
  ): Omit<MetricsNotification, 'seq' | 'functionName' | 'workflowId' | 'caller' | 'worker'> {
    const { workerId, processId } = this.process;
    return {
      type: 'metrics',
      version: METRICS_VERSION,
      workerId,
      processId,
      epoch,
      timestamp: Math.round(this.process.redisNow()),
      eventLoopLagMs: Math.round(this.process.eventLoopLagMs()),
    };
  }

  /** Of those that are hosted here, by id. What Redis does not say is left out: the rest is worth telling. */
  async backlogs(subjects: readonly Measured[]): Promise<Map<string, BacklogMetrics>> {
    const refs = subjects.filter(({ load }) => load !== undefined).map(({ meter }) => meter.ref);
    if (refs.length === 0) return new Map();
    const pressures = await this.calls.pressure(refs).catch((): CallPressure[] => []);
    const now = this.process.redisNow();
    return new Map(
      refs.flatMap(({ id }, index) => {
        const pressure = pressures[index];
        return pressure === undefined ? [] : [[id, backlogOf(pressure, now)] as const];
      }),
    );
  }
}

function hasCalls({ calls, waiting, pending }: FunctionMeter): boolean {
  return calls + waiting + pending > 0;
}

function callerOf(fn: FunctionMeter, oldestWaitMs: number): CallerMetrics {
  return {
    calls: fn.calls,
    errors: fn.callErrors.toRecord(),
    waiting: fn.waiting,
    oldestWaitMs: Math.round(oldestWaitMs),
    pending: fn.pending,
    wait: recordOf(fn.wait),
    roundTrip: recordOf(fn.roundTrip),
  };
}

function workerOf(fn: FunctionMeter, { running, queued }: FunctionLoad): WorkerMetrics {
  return {
    runs: fn.runs,
    errors: fn.runErrors.toRecord(),
    retries: fn.retries,
    handOvers: fn.handOvers,
    running,
    queued,
    queue: recordOf(fn.queue),
    run: recordOf(fn.run),
  };
}

/** A function's calls in Redis. @param now Redis's clock */
export function backlogOf({ calls, waiting, since }: CallPressure, now: number): BacklogMetrics {
  const oldestMs = since === undefined ? 0 : Math.max(0, Math.round(now - since));
  return { calls, waiting, oldestMs };
}

function recordOf(latencies: Latencies): LatencyRecord {
  const { count, p50Ms, p99Ms, maxMs } = latencies.summary();
  return { count, sumMs: latencies.sumMs, p50Ms, p99Ms, maxMs, hdr: latencies.encode() };
}
