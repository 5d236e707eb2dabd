import { afterEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { NestFactory } from '@nestjs/core';
import { Counter, register } from 'prom-client';
import request from 'supertest';
import {
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionsMetrics,
  NotificationManager,
  type FunctionsOptions,
} from '../../src/index.js';
import { rootModule } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';

jest.setTimeout(60_000);

let apps: NestApps;
afterEach(async () => {
  await apps.close();
  register.clear();
});

async function start(
  adapter: 'express' | 'fastify',
  options: FunctionsOptions,
  others: unknown[] = [],
): Promise<INestApplication> {
  const work = hosting('work', ({ kind }: { kind?: string }) => {
    if (kind === 'broken') throw new FunctionError('BROKEN', 'it is');
    return 'done';
  });
  const module = rootModule(apps.options(options), { providers: [work, ...others] });
  const settings = { logger: false, abortOnError: false } as const;
  const app = await (adapter === 'express'
    ? NestFactory.create(module, settings)
    : NestFactory.create(module, new FastifyAdapter() as never, settings));
  apps.track(app);
  await app.listen(0);
  return app;
}

/** The lines of an answer that are values: name and labels to value. */
function valuesOf(text: string): Record<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))] as const;
    }),
  );
}

describe.each(['express', 'fastify'] as const)('Prometheus on %s', (adapter) => {
  it('scrapes what was measured since the start, although nobody listens', async () => {
    apps = new NestApps();
    const app = await start(adapter, { metrics: true });
    const functions = app.get(EnhancedFunctionRegistry);
    for (let i = 0; i < 3; i += 1) await functions.call('work');
    await functions.call('work', { kind: 'broken' }).catch(() => undefined);
    const { text, headers } = await request(await app.getUrl())
      .get('/metrics')
      .expect(200);
    expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
    const values = valuesOf(text);
    const labels = 'function="work",workflow="default"';
    expect(values).toMatchObject({
      [`nestjs_functions_calls_total{${labels}}`]: 4,
      [`nestjs_functions_call_errors_total{${labels},code="BROKEN"}`]: 1,
      [`nestjs_functions_calls_pending{${labels}}`]: 0,
      [`nestjs_functions_call_duration_seconds_count{${labels}}`]: 4,
      [`nestjs_functions_call_duration_seconds_bucket{${labels},le="+Inf"}`]: 4,
      [`nestjs_functions_call_duration_seconds_bucket{${labels},le="60"}`]: 4,
      [`nestjs_functions_runs_total{${labels}}`]: 4,
      [`nestjs_functions_run_errors_total{${labels},code="BROKEN"}`]: 1,
      [`nestjs_functions_run_duration_seconds_count{${labels}}`]: 4,
      [`nestjs_functions_backlog_calls{${labels}}`]: 0,
      nestjs_functions_unmeasured_total: 0,
      nestjs_functions_messages_dropped_total: 0,
    });
    const sum = values[`nestjs_functions_call_duration_seconds_sum{${labels}}`] ?? 0;
    expect(sum > 0 && sum < 4).toBe(true);
    const buckets = Object.entries(values)
      .filter(([name]) => name.startsWith('nestjs_functions_call_duration_seconds_bucket'))
      .map(([, count]) => count);
    expect(buckets).toEqual([...buckets].sort((a, b) => a - b));
    expect(text).toContain('# TYPE nestjs_functions_call_duration_seconds histogram');
    expect(text).toContain('# TYPE nestjs_functions_calls_total counter');
  });
});

describe('Prometheus', () => {
  it('serves what the application counts itself, at a path of its own', async () => {
    apps = new NestApps();
    new Counter({ name: 'orders_total', help: 'Orders' }).inc(7);
    const app = await start('express', { metrics: { path: '/internal/metrics' } });
    const { text } = await request(await app.getUrl())
      .get('/internal/metrics')
      .expect(200);
    expect(valuesOf(text)).toMatchObject({ orders_total: 7 });
    await request(await app.getUrl())
      .get('/metrics')
      .expect(404);
  });

  it('says in seconds how old the oldest call is, and how late the timers run', async () => {
    apps = new NestApps();
    const stage = new Stage();
    const app = await start('express', { metrics: true }, [stage.as('held')]);
    const beganAt = performance.now();
    const call = app.get(EnhancedFunctionRegistry).call('held');
    await stage.started();
    const value = async (name: string): Promise<number> => {
      const { text } = await request(await app.getUrl()).get('/metrics');
      const [, seconds] = new RegExp(`^nestjs_functions_${name}.* (.*)$`, 'm').exec(text) ?? [];
      return Number(seconds);
    };
    const oldest = await eventually('it has been there for a while', async () => {
      const seconds = await value('backlog_oldest_seconds\\{function="held"');
      return seconds > 0.1 && seconds;
    });
    expect(oldest).toBeLessThan((performance.now() - beganAt) / 1_000 + 0.05);
    stage.finishAll();
    await call;
    // Milliseconds are whole.
    await eventually('a timer was late, by less than a second', async () => {
      const until = performance.now() + 200;
      while (performance.now() < until);
      const seconds = await value('event_loop_lag_seconds');
      return seconds > 0 && seconds < 1;
    });
  });

  it('counts what was dropped of what others reported', async () => {
    apps = new NestApps();
    const app = await start('express', { metrics: true });
    const watch = app.get(FunctionsMetrics).watch().subscribe();
    const scrape = async (): Promise<number | undefined> => {
      const { text } = await request(await app.getUrl()).get('/metrics');
      return valuesOf(text)['nestjs_functions_messages_dropped_total'];
    };
    const later = { type: 'metrics', version: 2 };
    await eventually('it listens', async () => {
      const channel = 'function:metrics:work:default';
      return (await app.get(NotificationManager).publish(channel, later)) > 0;
    });
    await eventually('it is counted', async () => (await scrape()) === 1);
    watch.unsubscribe();
  });

  it('is not there unless it is asked for', async () => {
    apps = new NestApps();
    const app = await start('express', {});
    await request(await app.getUrl())
      .get('/metrics')
      .expect(404);
  });
});
