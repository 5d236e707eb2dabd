import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import type { Clock, Timer } from '../common/clock.js';
import type { Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import { CallProbes } from '../execution/call-probes.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import { ListenerChannel } from './listener-channel.js';
import { ALL, BOTTLENECKS, HOLD_MS, Listeners, MAX_NAMED, type Announcement } from './listeners.js';
import { Measurement } from './measurement.js';
import { MetricsPublisher } from './metrics-publisher.js';
import { MetricsReport, type ReportingProcess } from './metrics-report.js';
import type { ProcessMeter } from './process-meter.js';
import { StockListeners } from './stock-listeners.js';

/** How often metrics are published while somebody listens. */
export const PUBLISH_INTERVAL_MS = 1_000;
/** Whatever others announce, nobody publishes out of turn sooner than this after the last time. */
const MIN_GAP_MS = 250;
/** Measuring goes on for so long when nobody listens any more: who comes back finds the counts that he left. */
const LINGER_MS = 10_000;

/** Looks for bottlenecks, or reports to who does; in time with the publishing. */
export interface VitalsDuty {
  /** Whether this process is the one that looks for bottlenecks now. */
  isDetecting(areBottlenecksHeard: boolean): boolean;
  tick(meter: ProcessMeter, areVitalsHeard: boolean): void;
  /** Nobody listens any more, or looks for bottlenecks. */
  rest(): void;
  close(): Promise<void>;
}

/**
 * Measures and publishes while somebody listens, and has neither a timer nor a probe otherwise.
 *
 * Interleavings:
 * - A tick takes longer than a second (Redis is slow): the next one is left out. Somebody begins to listen meanwhile:
 *   another one follows at once, for this one may have said who listens already.
 * - Closed while a tick is under way: what it still does fails or finds nothing, and no timer is left.
 * - Somebody begins to listen while measuring lingers, or while others listen to something else: the counts go on
 *   under the same epoch, and the seconds begin anew, or a short look would be over before anything is said.
 */
@Injectable()
export class MetricsEngine {
  readonly listeners = new Listeners();
  readonly measurement: Measurement;
  readonly report: MetricsReport;
  readonly process: ReportingProcess;
  private readonly logger = new Logger('METRICS');
  private readonly channel: ListenerChannel;
  private readonly publisher: MetricsPublisher;
  private readonly stock: StockListeners;
  private readonly wishes = new Set<{ readonly subject: string }>();
  private vitals: VitalsDuty | undefined;
  private timer: Timer | undefined;
  private soon: Timer | undefined;
  private ticking: Promise<void> | undefined;
  private neededAt = 0;
  private tickedAt = -Infinity;
  private always = false;
  private closed = false;

  constructor(
    @Inject(BACKEND) backend: Backend,
    @Inject(KEYS) keys: Keys,
    @Inject(SETTINGS) settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) notifications: NotificationManager,
    @Inject(CallProbes) probes: CallProbes,
    @Inject(CallConsumer) consumer: CallConsumer,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
  ) {
    const { listeners } = this;
    this.process = {
      workerId: settings.workerId,
      processId: coordinator.processId,
      load: () => consumer.load(),
      starts: () => consumer.starts(),
      eventLoopLagMs: () => coordinator.eventLoopLagMs,
      redisNow: () => clock.now() + (coordinator.redisOffsetMs ?? 0),
    };
    this.measurement = new Measurement(probes, clock, () => this.process.redisNow());
    this.report = new MetricsReport(this.process, backend.calls);
    this.publisher = new MetricsPublisher(notifications, keys, clock, listeners, this.report);
    this.channel = new ListenerChannel(
      notifications,
      keys.unprefixed(keys.listeners()),
      (announcement) => this.hear(announcement),
    );
    this.stock = new StockListeners(
      backend.bus,
      keys,
      clock,
      listeners,
      () => consumer.load().map(({ ref }) => ref),
      settings.leaseMs + HOLD_MS,
      () => this.wake(),
    );
  }

  /** Hears of listeners from here on; the module calls it. */
  start(vitals: VitalsDuty): void {
    this.vitals = vitals;
    this.channel.start();
    if (this.coordinator instanceof WorkerCoordinator) this.coordinator.askAlso(this.stock);
  }

  /** Measures whether or not somebody listens, from here on. */
  async measureAlways(): Promise<ProcessMeter | undefined> {
    this.always = true;
    return this.closed ? undefined : this.measurement.start();
  }

  /** Somebody here listens, until disposed of: every process is told. @param subject as {@link Announcement} has it */
  listen(subject: string): Dispose {
    const wish = { subject };
    this.wishes.add(wish);
    // Known here at once, so that this process, too, reports at once.
    this.listeners.announced({ subjects: [subject], vitals: false }, this.clock.elapsed());
    this.restart();
    return () => {
      this.wishes.delete(wish);
    };
  }

  async close(): Promise<void> {
    this.closed = true;
    this.cancelTimers();
    this.wishes.clear();
    await this.ticking;
    await this.vitals?.close();
    await this.channel.close();
    this.measurement.stop();
    this.listeners.clear();
  }

  private hear(announcement: Announcement): void {
    const now = this.clock.elapsed();
    const isNew = this.listeners.isNews(announcement, now);
    this.listeners.announced(announcement, now);
    if (isNew) this.restartSoon();
    else this.wake();
  }

  /** Many may begin to listen at once: they are served at once. */
  private restartSoon(): void {
    const waitMs = this.tickedAt + MIN_GAP_MS - this.clock.elapsed();
    if (waitMs <= 0 || this.closed) return this.restart();
    this.soon ??= this.clock.after(waitMs, () => this.restart());
  }

  private wake(): void {
    if (this.timer === undefined) this.restart();
  }

  /** Ticks now, and each second from now on while there is a need. */
  private restart(): void {
    if (this.closed) return;
    this.cancelTimers();
    this.timer = this.clock.every(PUBLISH_INTERVAL_MS, () => this.tick());
    if (this.ticking === undefined) this.tick();
    else void this.ticking.then(() => this.tick());
  }

  private cancelTimers(): void {
    this.timer?.cancel();
    this.soon?.cancel();
    this.timer = this.soon = undefined;
  }

  /** Nobody has listened for a while. */
  private rest(): void {
    this.cancelTimers();
    this.vitals?.rest();
    if (!this.always) this.measurement.stop();
  }

  private tick(): void {
    if (this.closed) return;
    this.ticking ??= this.tickOnce()
      .catch((error: unknown) => this.logger.debug(`no metrics this time: ${messageOf(error)}`))
      .finally(() => (this.ticking = undefined));
  }

  private async tickOnce(): Promise<void> {
    const now = this.clock.elapsed();
    this.tickedAt = now;
    const isAnyHeard = this.listeners.isAnyHeard(now);
    const areVitalsHeard = this.listeners.areVitalsHeard(now);
    const isDetecting = this.vitals?.isDetecting(this.listeners.areBottlenecksHeard(now)) ?? false;
    await this.announce(now, isDetecting);
    if (isAnyHeard || areVitalsHeard || this.wishes.size > 0) this.neededAt = now;
    else if (now - this.neededAt > LINGER_MS) return this.rest();
    else return this.vitals?.rest();
    const meter = await this.measurement.start();
    if (meter === undefined || this.closed) return;
    await this.publisher.publish(meter);
    this.vitals?.tick(meter, areVitalsHeard);
  }

  /** Says who listens here, and who was found listening: by those who host something, as it is they who ask. */
  private async announce(now: number, vitals: boolean): Promise<void> {
    const subjects = new Set(this.process.load().length > 0 ? this.listeners.untold(now) : []);
    for (const { subject } of this.wishes) subjects.add(subject);
    if (subjects.size === 0 && !vitals) return;
    const areTooMany = subjects.size > MAX_NAMED;
    await this.channel.say({
      type: 'listening',
      from: this.process.processId,
      subjects: areTooMany
        ? [ALL, BOTTLENECKS].filter((subject) => subject === ALL || subjects.has(subject))
        : [...subjects],
      vitals,
    });
  }
}
