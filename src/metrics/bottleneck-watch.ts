import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS } from '../backend/tokens.js';
import type { Clock, Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { messageOf } from '../common/text.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import type { Subscription } from '../notifications/channel-message.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { BOTTLENECK_VERSION, type BottleneckNotification } from '../protocol/bottleneck.js';
import type { Keys } from '../protocol/keys.js';
import { parseVitals } from '../protocol/vitals.js';
import { SAMPLE_INTERVAL_MS } from './backlog-trend.js';
import { BottleneckDetector } from './bottleneck-detector.js';
import { findingKey, type BottleneckFinding } from './bottleneck-finding.js';
import { MetricsEngine, type VitalsDuty } from './metrics-engine.js';
import { backlogOf } from './metrics-report.js';
import type { ProcessMeter } from './process-meter.js';
import { VitalsReporter } from './vitals-reporter.js';

/** Bottlenecks whose beginning is remembered. */
const MAX_REMEMBERED = 1_000;

/**
 * Looks for bottlenecks while somebody listens and this process is the supervisor, and tells whoever is it how this
 * process does.
 *
 * Interleaving: another process becomes the supervisor: this one stops without a word, and the other begins to look.
 * Two that look at once for a moment tell the same, each in its own name.
 */
@Injectable()
export class BottleneckWatch implements VitalsDuty {
  private readonly logger = new Logger('METRICS');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private readonly reporter: VitalsReporter;
  private readonly since = new Map<string, number>();
  private detector: BottleneckDetector | undefined;
  private subscription: Promise<Subscription | undefined> | undefined;
  private sampling: Timer | undefined;
  private asking = false;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
    @Inject(MetricsEngine) private readonly engine: MetricsEngine,
  ) {
    const channel = keys.unprefixed(keys.vitals());
    const { process, report } = engine;
    this.reporter = new VitalsReporter(notifications, clock, process, report, channel, () =>
      engine.listeners.missedVitals(),
    );
  }

  isDetecting(areBottlenecksHeard: boolean): boolean {
    const isDetecting = areBottlenecksHeard && this.coordinator.isSupervisor;
    if (isDetecting) this.begin();
    else void this.end();
    return isDetecting;
  }

  tick(meter: ProcessMeter, areVitalsHeard: boolean): void {
    if (areVitalsHeard) this.reporter.start(meter);
    else this.reporter.stop();
  }

  rest(): void {
    this.reporter.stop();
    void this.end();
  }

  async close(): Promise<void> {
    this.reporter.stop();
    await this.end();
  }

  private begin(): void {
    if (this.detector !== undefined) return;
    const detector = new BottleneckDetector((finding) => this.tell(finding));
    this.detector = detector;
    this.subscription = this.listen(detector);
    this.sampling = this.clock.every(SAMPLE_INTERVAL_MS, () => void this.sample(detector));
  }

  private async end(): Promise<void> {
    const { subscription } = this;
    this.detector = undefined;
    this.subscription = undefined;
    this.sampling?.cancel();
    this.since.clear();
    await (await subscription)?.unsubscribe();
  }

  private async listen(detector: BottleneckDetector): Promise<Subscription | undefined> {
    try {
      return await this.notifications.subscribe(
        this.keys.unprefixed(this.keys.vitals()),
        ({ channel, data }) => {
          const vitals = parseVitals(data);
          const isHeard = vitals !== undefined && detector.hear(vitals, this.clock.elapsed());
          if (!isHeard) this.notifications.noteDropped(channel, 'no vitals, or too many');
        },
      );
    } catch (error) {
      this.trouble.tell(`bottlenecks are not found: ${messageOf(error)}`);
      // The next tick begins anew.
      if (this.detector === detector) void this.end();
      return undefined;
    }
  }

  /** One question at a time: a Redis that answers late has no trend. */
  private async sample(detector: BottleneckDetector): Promise<void> {
    if (this.asking || !this.backend.isConnected()) return;
    this.asking = true;
    try {
      detector.forget(this.clock.elapsed());
      const refs = detector.refs();
      const pressures = refs.length === 0 ? [] : await this.backend.calls.pressure(refs);
      const at = this.clock.elapsed();
      const now = this.engine.process.redisNow();
      for (const [index, ref] of refs.entries()) {
        const pressure = pressures[index];
        if (pressure !== undefined) detector.sample(ref, { at, ...backlogOf(pressure, now) });
      }
      this.trouble.settle();
    } catch (error) {
      this.trouble.tell(`backlogs are not looked at: ${messageOf(error)}`);
    } finally {
      this.asking = false;
    }
  }

  private tell({ ref, ...finding }: BottleneckFinding): void {
    const timestamp = Math.round(this.engine.process.redisNow());
    const key = findingKey({ ref, ...finding });
    const since = finding.state === 'began' ? timestamp : (this.since.get(key) ?? timestamp);
    this.since.delete(key);
    if (finding.state !== 'ended') this.since.set(key, since);
    // Those of processes that died were never ended.
    for (const [oldest] of this.since) {
      if (this.since.size <= MAX_REMEMBERED) break;
      this.since.delete(oldest);
    }
    const { functionName, workflowId } = ref;
    const notification = {
      type: 'bottleneck',
      version: BOTTLENECK_VERSION,
      functionName,
      workflowId,
      ...finding,
      since,
      timestamp,
      detectedBy: this.engine.process.processId,
    } as BottleneckNotification;
    this.notifications
      .publish(this.keys.unprefixed(this.keys.telemetry('bottleneck', ref)), notification)
      .catch((error: unknown) =>
        this.trouble.tell(`a bottleneck is not told: ${messageOf(error)}`),
      );
  }
}
