import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import request from 'supertest';
import {
  FunctionsMetrics,
  FunctionsModule,
  NotificationManager,
  type FleetMetrics,
} from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { caught } from '../harness/caught.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';
import { TestProcess } from '../harness/processes.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

jest.setTimeout(30_000);

const start = (options: object): TestProcess =>
  TestProcess.start('without-peers.ts', { OPTIONS: JSON.stringify(options) });

describe('an application without the packages that metrics and traces need', () => {
  it('works, and loads none of them, when it asks for neither', async () => {
    const app = start({});
    await expect(app.message('sum')).resolves.toEqual({ type: 'sum', sum: 3 });
    await expect(app.exit()).resolves.toMatchObject({ code: 0 });
  });

  it.each([
    [
      { metrics: true },
      'metrics = asked for without the package prom-client: true, or a path, when prom-client is installed (npm i prom-client)',
    ],
    [{ tracing: true }, 'npm i @opentelemetry/api'],
  ])('is told what to install when it asks for %j', async (options, cure) => {
    const app = start(options);
    const { code, message } = await app.message<{ type: 'failed'; code: string; message: string }>(
      'failed',
    );
    expect(code).toBe('INVALID_OPTIONS');
    expect(message).toContain(cure);
  });
});

describe('the options of the module', () => {
  it.each([
    [{ metrics: { path: 'a b' } }, 'metrics.path'],
    [{ metrics: { path: 7 } }, 'metrics.path'],
    [{ metrics: { route: '/m' } }, 'metrics.route'],
  ])('are refused where metrics are asked for in vain: %j', (options, path) => {
    expect(() => FunctionsModule.forRoot(options as never)).toThrow(path);
    expect(() =>
      FunctionsModule.forRootAsync({ ...options, useFactory: () => ({}) } as never),
    ).toThrow(path);
  });

  describe('that come from a factory', () => {
    const apps = new NestApps();
    afterEach(() => apps.close());

    @Module({})
    class Root {}
    const root = (metrics: object): DynamicModule => ({
      module: Root,
      imports: [FunctionsModule.forRootAsync(metrics)],
    });

    it('serve metrics when these stand beside it', async () => {
      const useFactory = (): object => apps.options();
      const app = apps.track(
        await NestFactory.create(root({ metrics: { path: 'm' }, useFactory }), { logger: false }),
      );
      await app.listen(0);
      await request(await app.getUrl())
        .get('/m')
        .expect(200, /nestjs_functions_event_loop_lag_seconds/);
    });

    it('are refused when these are among them', async () => {
      const useFactory = (): object => apps.options({ metrics: true });
      const boot = NestFactory.createApplicationContext(root({ useFactory }), {
        logger: false,
        abortOnError: false,
      });
      await expect(boot).rejects.toMatchObject({
        code: 'INVALID_OPTIONS',
        message: expect.stringContaining('forRootAsync({ metrics: true'),
      });
    });
  });
});

describe('FunctionsMetrics', () => {
  const fleet = new Fleet();
  afterEach(() => fleet.close());

  it('refuses what it cannot listen to, before anything is sent', async () => {
    const metrics = (await fleet.start()).get(FunctionsMetrics);
    const wrong: [unknown, string][] = [
      [7, 'INVALID_ARGUMENT'],
      [{ functionName: 7 }, 'INVALID_NAME'],
      [{ functionName: '' }, 'INVALID_NAME'],
      [{ workflowId: 'w' }, 'INVALID_ARGUMENT'],
      [{ fn: 'work' }, 'INVALID_ARGUMENT'],
    ];
    for (const [filter, code] of wrong) {
      await expect(metrics.snapshot(filter as never)).rejects.toMatchObject({ code });
      const listens: (() => unknown)[] = [
        () => metrics.watch(filter as never),
        () => metrics.bottlenecks(filter as never),
      ];
      for (const listen of listens) expect(caught(listen)).toMatchObject({ code });
    }
    const said: [unknown, string][] = [
      [null, 'options is null; allowed: an object, or none.'],
      [{ fn: 'work' }, 'options.fn is an option that does not exist'],
      [{ workflowId: 'w' }, 'functionName is missing beside workflowId "w"; allowed: '],
    ];
    for (const [options, text] of said)
      await expect(metrics.snapshot(options as never)).rejects.toThrow(text);
    expect(() => metrics.watch(null as never)).toThrow('filter is null');
    for (const measureMs of [-1, 0.5, 60_001, '1', NaN])
      await expect(metrics.snapshot({ measureMs } as never)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
  });

  it('ends a look that has not begun to listen yet, when the application ends', async () => {
    const metrics = (await fleet.start()).get(FunctionsMetrics);
    const looking = metrics.snapshot({ measureMs: 60_000 });
    metrics.close();
    await expect(looking).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('tells a watch nothing, and then why, when it cannot listen', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    try {
      const app = await fleet.start({ options: { connection: proxy.url, worker: false } });
      proxy.refuse();
      await eventually('Redis is missed', () => app.get(NotificationManager).state !== 'connected');
      const views: FleetMetrics[] = [];
      const watched = new Promise<unknown>((resolve) =>
        app
          .get(FunctionsMetrics)
          .watch()
          .subscribe({ next: (metrics) => views.push(metrics), error: resolve }),
      );
      expect(await watched).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
      expect(views).toEqual([]);
      proxy.accept();
      await eventually('Redis is back', () => app.get(NotificationManager).state === 'connected');
    } finally {
      await fleet.close();
      await proxy.close();
    }
  });

  it('completes its watches, and refuses new ones, when the application ends', async () => {
    const app = await fleet.start();
    const metrics = app.get(FunctionsMetrics);
    let ended = 0;
    metrics.watch().subscribe({ complete: () => (ended += 1) });
    metrics.bottlenecks().subscribe({ complete: () => (ended += 1) });
    const looking = metrics.snapshot({ measureMs: 60_000 }).catch((error: unknown) => error);
    await metrics.snapshot({ measureMs: 0 });
    await fleet.stop(app);
    expect(ended).toBe(2);
    expect(await looking).toMatchObject({ code: 'CLOSED' });
    await expect(metrics.snapshot()).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
