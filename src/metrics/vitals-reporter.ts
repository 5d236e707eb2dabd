import type { Clock, Timer } from '../common/clock.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import { MAX_VITALS, type FunctionVitals, type Vitals } from '../protocol/vitals.js';
import type { Measured, MetricsReport, ReportingProcess } from './metrics-report.js';
import { medianOf } from './peer-comparison.js';
import type { ProcessMeter } from './process-meter.js';

/** How often a process tells how it does while somebody looks for bottlenecks. */
export const VITALS_INTERVAL_MS = 500;

/** Tells who looks for bottlenecks how this process does. */
export class VitalsReporter {
  private timer: Timer | undefined;
  private meter: ProcessMeter | undefined;

  constructor(
    private readonly notifications: NotificationManager,
    private readonly clock: Clock,
    private readonly process: ReportingProcess,
    private readonly report: MetricsReport,
    /** Without the prefix. */
    private readonly channel: string,
    /** Nobody looks for bottlenecks any more. */
    private readonly onUnheard: () => void,
  ) {}

  /** Tells from now on, until it is stopped. */
  start(meter: ProcessMeter): void {
    if (this.meter === meter && this.timer !== undefined) return;
    this.stop();
    this.meter = meter;
    this.timer = this.clock.every(VITALS_INTERVAL_MS, () => this.tell(meter));
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.meter?.dropRecent();
    this.meter = undefined;
  }

  /** A lost word is followed by the next one; one that names nothing says that all is well. */
  private tell(meter: ProcessMeter): void {
    const oldestWaits = meter.oldestWaits();
    const now = this.clock.elapsed();
    const starts = this.process.starts();
    const functions = this.report
      .subjects(meter)
      .flatMap((fn) => {
        const ages = (starts.get(fn.meter.ref.id) ?? []).map((startedAt) => now - startedAt);
        return vitalsOf(fn, oldestWaits.get(fn.meter) ?? 0, medianOf(ages));
      })
      .slice(0, MAX_VITALS);
    const { processId, workerId } = this.process;
    const eventLoopLagMs = this.process.eventLoopLagMs();
    const head = { type: 'vitals', version: 1, processId, workerId, eventLoopLagMs } as const;
    const vitals: Vitals = { ...head, functions };
    void this.say(vitals);
  }

  private async say(vitals: Vitals): Promise<void> {
    try {
      if ((await this.notifications.publish(this.channel, vitals)) > 0) return;
      this.stop();
      this.onUnheard();
    } catch {
      // The next one says it.
    }
  }
}

/** Of a function that nothing happens to there is nothing to tell. */
function vitalsOf(
  { meter, load }: Measured,
  oldestWaitMs: number,
  runningMs: number,
): FunctionVitals[] {
  const { waiting, ref } = meter;
  const { runs, medianMs } = meter.takeRecent();
  const running = load?.running ?? 0;
  const worker = runs + running > 0 ? { runs, medianMs, running, runningMs } : undefined;
  const caller = waiting > 0 ? { waiting, oldestWaitMs } : undefined;
  if (worker === undefined && caller === undefined && load === undefined) return [];
  return [
    {
      id: ref.id,
      ...(worker === undefined ? {} : { worker }),
      ...(caller === undefined ? {} : { caller }),
    },
  ];
}
