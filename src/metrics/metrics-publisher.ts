import { Logger } from '@nestjs/common';
import type { Clock } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { messageOf } from '../common/text.js';
import { takeInTurn } from '../common/turns.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { Keys } from '../protocol/keys.js';
import type { MetricsNotification } from '../protocol/metrics.js';
import type { Listeners } from './listeners.js';
import type { Measured, MetricsReport } from './metrics-report.js';
import type { ProcessMeter } from './process-meter.js';

/** Functions that are published in one second; those of a process with more take turns. */
export const PUBLISHED_AT_ONCE = 100;

/** Publishes what was measured of functions that somebody listens to. */
export class MetricsPublisher {
  private readonly logger = new Logger('METRICS');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private turn = 0;

  constructor(
    private readonly notifications: NotificationManager,
    private readonly keys: Keys,
    private readonly clock: Clock,
    private readonly listeners: Listeners,
    private readonly report: MetricsReport,
  ) {}

  async publish(meter: ProcessMeter): Promise<void> {
    const now = this.clock.elapsed();
    const heard = this.report
      .subjects(meter)
      .filter(({ meter: fn }) => this.listeners.isHeard(fn.ref.id, now));
    if (heard.length === 0) return;
    try {
      const reports = await this.report.write(meter, this.next(heard));
      await Promise.all(reports.map(({ ref, report }) => this.publishOne(ref, report)));
      this.trouble.settle();
    } catch (error) {
      this.trouble.tell(`metrics are not published: ${messageOf(error)}`);
    }
  }

  private next(heard: readonly Measured[]): Measured[] {
    const next = takeInTurn(heard, this.turn, PUBLISHED_AT_ONCE);
    this.turn += next.length;
    return next;
  }

  /** Who received it goes on to listen; where nobody did, nobody listens. */
  private async publishOne(ref: FunctionRef, report: MetricsNotification): Promise<void> {
    const channel = this.keys.unprefixed(this.keys.telemetry('metrics', ref));
    const receivers = await this.notifications.publish(channel, report);
    if (receivers > 0) this.listeners.found(ref.id, this.clock.elapsed());
    else this.listeners.missed(ref.id);
  }
}
