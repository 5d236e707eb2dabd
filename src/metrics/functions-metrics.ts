import { Inject, Injectable } from '@nestjs/common';
import { Observable, type Subscriber } from 'rxjs';
import { CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import { pause, type Clock, type Timer } from '../common/clock.js';
import { ClosedError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { parseBottleneck, type BottleneckNotification } from '../protocol/bottleneck.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { Keys, TelemetryType } from '../protocol/keys.js';
import { isMalformed, type Malformed } from '../protocol/notification.js';
import type { FleetMetrics } from './fleet-metrics.js';
import { FleetView } from './fleet-view.js';
import { loadHistograms } from './histograms.js';
import { MetricsEngine, PUBLISH_INTERVAL_MS } from './metrics-engine.js';
import {
  resolveFilter,
  resolveMeasureMs,
  SNAPSHOT_FIELDS,
  type MetricsFilter,
  type SnapshotOptions,
} from './metrics-filter.js';
import { TelemetryListening, type Hear } from './telemetry-listening.js';

/** What is done for one subscriber. */
interface Observation {
  readonly hear: Hear;
  /** It listens from here on. */
  readonly begin?: () => Timer;
}

/**
 * What all processes measure, in one view. Processes measure and publish while somebody listens, and nothing is paid
 * for otherwise; so counts and latencies are since somebody began to listen (or since the start, where the option
 * `metrics` is on).
 *
 * @example
 * ```ts
 * const { functions } = await metrics.snapshot({ functionName: 'resize', workflowId: 'media' });
 *
 * @Sse('metrics')
 * stream() { return this.metrics.watch().pipe(map((data) => ({ data }))); }
 * ```
 */
@Injectable()
export class FunctionsMetrics {
  private readonly open = new Set<() => void>();
  private readonly watches = new Set<() => void>();
  private readonly telemetry: TelemetryListening;
  private streamsEnded = false;
  private closed = false;

  constructor(
    @Inject(MetricsEngine) private readonly engine: MetricsEngine,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {
    this.telemetry = new TelemetryListening(engine, notifications, keys);
  }

  /**
   * The fleet's metrics after listening for `measureMs` (2 200).
   *
   * @throws InvalidArgumentError, InvalidNameError, ClosedError
   * @throws BackendUnavailableError, BackendRefusedError it could not listen
   */
  async snapshot(options: SnapshotOptions = {}): Promise<FleetMetrics> {
    const ref = resolveFilter('options', options, this.settings, SNAPSHOT_FIELDS);
    const measureMs = resolveMeasureMs(options);
    const view = new FleetView(this.clock);
    const ending = new AbortController();
    const cancel = (): void => ending.abort();
    // Before it listens: the application may end meanwhile.
    this.open.add(cancel);
    try {
      const stop = await this.listen('metrics', ref, this.hearer(view));
      await pause(this.clock, measureMs, ending.signal).finally(stop);
      if (this.closed) throw new ClosedError('FunctionsMetrics');
      return await this.merge(view);
    } finally {
      this.open.delete(cancel);
    }
  }

  /**
   * The fleet's metrics once a second from when it listens, for as long as there is a subscriber; each has a
   * subscription of its own. Errors as {@link snapshot}; it completes when the application ends.
   *
   * @throws InvalidArgumentError, InvalidNameError at once
   */
  watch(filter: MetricsFilter = {}): Observable<FleetMetrics> {
    const ref = resolveFilter('filter', filter, this.settings);
    return this.observe<FleetMetrics>('metrics', ref, (subscriber) => {
      const view = new FleetView(this.clock);
      const tell = (): void => {
        this.merge(view).then(
          (metrics) => subscriber.next(metrics),
          (error: unknown) => subscriber.error(error),
        );
      };
      return {
        hear: this.hearer(view),
        begin: () => this.clock.every(PUBLISH_INTERVAL_MS, tell),
      };
    });
  }

  /**
   * Bottlenecks as they begin, last and end, for as long as there is a subscriber. The supervisor finds them, so one
   * process at least has to take part in the supervision. Errors as {@link snapshot}.
   *
   * @throws InvalidArgumentError, InvalidNameError at once
   */
  bottlenecks(filter: MetricsFilter = {}): Observable<BottleneckNotification> {
    const ref = resolveFilter('filter', filter, this.settings);
    return this.observe<BottleneckNotification>('bottleneck', ref, (subscriber) => ({
      hear: (about, data) => {
        const news = parseBottleneck(about, data);
        if (!isMalformed(news)) return subscriber.next(news);
        this.noteDropped('bottleneck', about, news);
      },
    }));
  }

  /** @internal Ends every watch, and each that somebody still begins; the module calls it. */
  endStreams(): void {
    this.streamsEnded = true;
    for (const end of [...this.watches]) end();
  }

  /** Ends everything; the module calls it. */
  close(): void {
    this.closed = true;
    this.endStreams();
    for (const end of [...this.open]) end();
  }

  private hearer(view: FleetView): Hear {
    return (about, data) => {
      const problem = view.hear(about, data);
      if (problem !== undefined) this.noteDropped('metrics', about, problem);
    };
  }

  private noteDropped(type: TelemetryType, about: FunctionRef, { malformed }: Malformed): void {
    const channel = this.keys.unprefixed(this.keys.telemetry(type, about));
    this.notifications.noteDropped(channel, malformed);
  }

  /** Listens for as long as there is a subscriber. */
  private observe<T>(
    type: TelemetryType,
    ref: FunctionRef | undefined,
    observation: (subscriber: Subscriber<T>) => Observation,
  ): Observable<T> {
    return new Observable<T>((subscriber) => {
      const { hear, begin } = observation(subscriber);
      if (this.streamsEnded) return subscriber.complete();
      const complete = (): void => subscriber.complete();
      this.watches.add(complete);
      subscriber.add(() => this.watches.delete(complete));
      this.listen(type, ref, hear).then(
        (stop) => {
          // At once when the subscriber left meanwhile.
          subscriber.add(() => void stop());
          if (subscriber.closed) return;
          const timer = begin?.();
          subscriber.add(() => timer?.cancel());
        },
        (error: unknown) => subscriber.error(error),
      );
    });
  }

  private async merge(view: FleetView): Promise<FleetMetrics> {
    return view.merge(await loadHistograms(), Math.round(this.engine.process.redisNow()));
  }

  private async listen(
    type: TelemetryType,
    ref: FunctionRef | undefined,
    hear: Hear,
  ): Promise<() => Promise<void>> {
    if (this.closed) throw new ClosedError('FunctionsMetrics');
    return this.telemetry.begin(type, ref, hear);
  }
}
