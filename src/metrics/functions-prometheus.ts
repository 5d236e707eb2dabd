import type * as prometheus from 'prom-client';
import { explainMissing } from '../common/optional-package.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import { Latencies } from './histograms.js';
import type { MetricsEngine } from './metrics-engine.js';
import {
  BUCKETS,
  FAMILIES,
  type Family,
  type Sample,
  type Scraped,
} from './prometheus-families.js';

type Library = typeof prometheus;

/** A value as prom-client writes it. */
interface WrittenValue extends Sample {
  readonly metricName?: string;
}

/**
 * What this process measures, for Prometheus. Everything is read at the moment of a scrape: nothing is counted twice.
 * What the application itself has in prom-client's default registry is served along.
 */
export class FunctionsPrometheus {
  private readonly registry: prometheus.Registry;
  private scraping: Promise<string> | undefined;
  private scraped: readonly Scraped[] = [];

  private constructor(
    private readonly library: Library,
    private readonly engine: MetricsEngine,
    notifications: NotificationManager,
  ) {
    this.registry = new library.Registry();
    for (const family of FAMILIES)
      this.add(family.name, family.help, family.type, () => this.valuesOf(family));
    this.add(
      'nestjs_functions_event_loop_lag_seconds',
      "How late this process's timers run",
      'gauge',
      () => [{ value: engine.process.eventLoopLagMs() / 1_000 }],
    );
    this.add(
      'nestjs_functions_unmeasured_total',
      'Calls and runs of functions that are too many to be measured',
      'counter',
      () => [{ value: engine.measurement.meter?.unmeasured ?? 0 }],
    );
    this.add(
      'nestjs_functions_messages_dropped_total',
      'Messages on the channels that were dropped: foreign, or of another version',
      'counter',
      () => [{ value: notifications.stats().dropped }],
    );
  }

  /** @throws InvalidOptionsError when there is no prom-client */
  static async create(
    engine: MetricsEngine,
    notifications: NotificationManager,
  ): Promise<FunctionsPrometheus> {
    const loaded = await import('prom-client').catch(
      explainMissing('prom-client', {
        path: 'metrics',
        value: 'asked for without the package prom-client',
        allowed: 'true, or a path, when prom-client is installed (npm i prom-client)',
      }),
    );
    await engine.measureAlways();
    return new FunctionsPrometheus(
      (loaded as unknown as { default?: Library }).default ?? loaded,
      engine,
      notifications,
    );
  }

  /** In the text format; scrapes that overlap get the same. */
  text(): Promise<string> {
    this.scraping ??= this.scrape().finally(() => (this.scraping = undefined));
    return this.scraping;
  }

  private async scrape(): Promise<string> {
    this.scraped = await this.look();
    const all = this.library.Registry.merge([this.registry, this.library.register]);
    return all.metrics();
  }

  private async look(): Promise<Scraped[]> {
    const { meter } = this.engine.measurement;
    if (meter === undefined) return [];
    const subjects = this.engine.report.subjects(meter);
    const backlogs = await this.engine.report.backlogs(subjects);
    return subjects.map((subject) => ({ ...subject, backlog: backlogs.get(subject.meter.ref.id) }));
  }

  private valuesOf({ name, read }: Family): WrittenValue[] {
    return this.scraped.flatMap((fn) => {
      const labels = { function: fn.meter.ref.functionName, workflow: fn.meter.ref.workflowId };
      const found = read(fn);
      const values = found instanceof Latencies ? bucketsOf(name, found) : found;
      return values.map((value) => ({ ...value, labels: { ...labels, ...value.labels } }));
    });
  }

  private add(
    name: string,
    help: string,
    type: Family['type'],
    values: () => readonly WrittenValue[],
  ): void {
    // All that prom-client asks of a metric; its own classes want every value counted by them.
    const metric = {
      name,
      help,
      type,
      aggregator: 'sum',
      get: () => ({ name, help, type, aggregator: 'sum', values: values() }),
    };
    this.registry.registerMetric(metric as never);
  }
}

function bucketsOf(name: string, latencies: Latencies): WrittenValue[] {
  const { count, sumMs } = latencies;
  const counts = latencies.countsUpTo(BUCKETS.map((seconds) => seconds * 1_000));
  return [
    ...BUCKETS.map((bound, index) => ({
      metricName: `${name}_bucket`,
      value: counts[index] ?? 0,
      labels: { le: String(bound) },
    })),
    { metricName: `${name}_bucket`, value: count, labels: { le: '+Inf' } },
    { metricName: `${name}_sum`, value: sumMs / 1_000 },
    { metricName: `${name}_count`, value: count },
  ];
}
