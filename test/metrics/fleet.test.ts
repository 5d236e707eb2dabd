import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  FunctionsMetrics,
  NotificationManager,
  type FleetMetrics,
  type MetricsNotification,
} from '../../src/index.js';
import { CallProbes } from '../../src/execution/call-probes.js';
import { FunctionsPrometheus } from '../../src/metrics/functions-prometheus.js';
import { MAX_MEASURED } from '../../src/metrics/process-meter.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

jest.setTimeout(90_000);

let fleet: Fleet;
let processes: TestProcess[];
let bare: Redis;

beforeEach(() => {
  fleet = new Fleet();
  processes = [];
  bare = new Redis(redisUrl());
});
afterEach(async () => {
  bare.disconnect();
  await Promise.all(processes.map((one) => one.destroy()));
  await fleet.close();
});

async function start(env: Record<string, string>): Promise<TestProcess> {
  const one = TestProcess.start('metrics-worker.ts', {
    REDIS_URL: redisUrl(),
    KEY_PREFIX: fleet.prefix,
    ...env,
  });
  processes.push(one);
  await one.message('ready');
  return one;
}

/** What a watch said last. */
function watching(app: INestApplicationContext): { last: () => FleetMetrics; end: () => void } {
  let last: FleetMetrics = { timestamp: 0, functions: [], processes: [], dropped: 0, lost: 0 };
  const subscription = app
    .get(FunctionsMetrics)
    .watch()
    .subscribe((metrics) => (last = metrics));
  return { last: () => last, end: () => subscription.unsubscribe() };
}

const workOf = (metrics: FleetMetrics): FleetMetrics['functions'][number] | undefined =>
  metrics.functions.find(({ functionName }) => functionName === 'work');

const isMeasuring = (app: INestApplicationContext): boolean =>
  app.get(CallProbes).caller !== undefined;

/** What a client without this library hears. */
async function stockListener(
  subscribe: (client: Redis) => Promise<unknown>,
): Promise<{ heard: { channel: string; data: MetricsNotification }[]; end: () => Promise<void> }> {
  const client = new Redis(redisUrl());
  const heard: { channel: string; data: MetricsNotification }[] = [];
  const note = (channel: string, payload: string): void => {
    const { data } = JSON.parse(payload) as { data: MetricsNotification };
    heard.push({ channel: channel.slice(fleet.prefix.length), data });
  };
  client.on('message', note);
  client.on('pmessage', (_, channel: string, payload: string) => note(channel, payload));
  await subscribe(client);
  return {
    heard,
    end: async () => {
      client.disconnect();
      await eventually('it is gone', () => client.status === 'end');
    },
  };
}

describe('the view of a fleet', () => {
  it('adds up what every process measured, and loses nothing of it', async () => {
    await Promise.all(['a', 'b', 'c'].map((id) => start({ WORKER_ID: id, WORK_MS: '5' })));
    const callers = await Promise.all([start({ WORKER: 'false' }), start({ WORKER: 'false' })]);
    const observer = await fleet.start({ options: { worker: false } });
    const watch = watching(observer);
    const reporting = (): number => workOf(watch.last())?.processes.length ?? 0;
    await eventually('the workers report', () => reporting() === 3);
    for (const caller of callers) caller.send({ type: 'call', count: 300, inFlight: 20 });
    await Promise.all(callers.map((caller) => caller.message('called')));
    await eventually('all is told', () => workOf(watch.last())?.runs === 600);
    await eventually('callers told it, too', () => workOf(watch.last())?.calls === 600);
    const work = workOf(watch.last());
    expect(work).toMatchObject({ callErrors: {}, runErrors: {}, handOvers: 0, pending: 0 });
    expect(work?.run.count).toBe(600);
    expect(work?.roundTrip.count).toBe(600);
    expect(work?.run.p50Ms).toBeGreaterThan(4);
    const runs = work?.processes.map((one) => one.runs).filter((count) => count > 0) ?? [];
    expect(runs.reduce((sum, count) => sum + count, 0)).toBe(600);
    expect(runs).toHaveLength(3);
    expect(watch.last()).toMatchObject({ dropped: 0, lost: 0 });
    watch.end();
  });

  it('goes on when processes die and others come, and counts the hand-over', async () => {
    const first = await start({ WORKER_ID: 'a', WORK_MS: '60000' });
    const observer = await fleet.start({ options: { worker: false } });
    const watch = watching(observer);
    await eventually('it reports', () => workOf(watch.last()) !== undefined);
    const call = observer.get(EnhancedFunctionRegistry).call('work');
    await eventually('it runs', () => workOf(watch.last())?.running === 1);
    await start({ WORKER_ID: 'b' });
    await eventually('another one reports', () => workOf(watch.last())?.processes.length === 3);
    first.kill('SIGKILL');
    expect(await call).toBe('b');
    await eventually('the hand-over is told', () => workOf(watch.last())?.handOvers === 1);
    await eventually('the dead one is forgotten', () =>
      (workOf(watch.last())?.processes ?? []).every(({ workerId }) => workerId !== 'a'),
    );
    watch.end();
  });

  it('is empty while Redis is away, and goes on with its counts when it is back', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    try {
      const app = await fleet.start({
        options: { connection: proxy.url, metrics: true },
        providers: [hosting('work', () => 1)],
      });
      const watch = watching(app);
      await app.get(EnhancedFunctionRegistry).call('work');
      await eventually('it reports', () => workOf(watch.last())?.runs === 1);
      proxy.refuse();
      await eventually('nobody is heard', () => watch.last().functions.length === 0, 20_000);
      const scraped = await app.get(FunctionsPrometheus).text();
      expect(scraped).toMatch(/^nestjs_functions_runs_total\{.*\} 1$/m);
      expect(scraped).not.toMatch(/^nestjs_functions_backlog_calls\{/m);
      proxy.accept();
      await eventually('it reports again', () => workOf(watch.last())?.runs === 1, 20_000);
      watch.end();
      await fleet.stop(app);
    } finally {
      await proxy.close();
    }
  });

  it('names no function that nobody reports', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const metrics = app.get(FunctionsMetrics);
    const { functions } = await metrics.snapshot({ functionName: 'wrok', measureMs: 500 });
    expect(functions).toEqual([]);
  });

  it('drops and counts what it cannot read, of a newer version too, and goes on', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const watch = watching(app);
    await eventually('it reports', () => workOf(watch.last()) !== undefined);
    const stock = await stockListener((client) =>
      client.subscribe(`${fleet.prefix}function:metrics:work:default`),
    );
    await eventually('a packet is heard', () => stock.heard.length > 0);
    const good = stock.heard[0]?.data as MetricsNotification;
    await stock.end();
    const foreign: unknown[] = [
      { ...good, version: 2, processId: 'newer', shape: 'unknown' },
      { ...good, processId: 'x', functionName: 'other' },
      { ...good, processId: 'x', worker: { ...good.worker, runs: 'many' } },
      { ...good, processId: 'x', worker: { ...good.worker, errors: { A: -1 } } },
      { ...good, processId: 'x', epoch: null },
      'text',
      null,
      [],
    ];
    const channel = `${fleet.prefix}function:metrics:work:default`;
    for (const data of foreign)
      await bare.publish(channel, JSON.stringify({ pattern: channel, data }));
    const hdr = { ...good.worker?.run, hdr: 'AAAA', count: 3 };
    const broken = { ...good, processId: 'y', worker: { ...good.worker, run: hdr } };
    await bare.publish(channel, JSON.stringify({ pattern: channel, data: broken }));
    await eventually('all are counted', () => watch.last().dropped > foreign.length);
    await app.get(EnhancedFunctionRegistry).call('work');
    await eventually('it goes on', () => workOf(watch.last())?.runs === 1);
    expect(watch.last().processes.map(({ processId }) => processId)).not.toContain('newer');
    expect(watch.last().dropped).toBe(foreign.length + 1);
    expect(app.get(NotificationManager).stats().dropped).toBe(foreign.length);
    watch.end();
  });
});

describe('a subscriber without this library', () => {
  const ways: [string, (client: Redis) => Promise<unknown>][] = [
    ['a channel', (client) => client.subscribe(`${fleet.prefix}function:metrics:work:default`)],
    ['all functions', (client) => client.psubscribe(`${fleet.prefix}function:metrics:*`)],
    [
      'some functions',
      (client) => client.psubscribe(`${fleet.prefix}function:metrics:wo*:default`),
    ],
  ];

  it.each(ways)('of %s is found within a lease, served, and let go', async (_, subscribe) => {
    await start({ WORKER_ID: 'a' });
    const caller = await fleet.start({ options: { worker: false } });
    const stock = await stockListener(subscribe);
    const reports = (): MetricsNotification[] =>
      stock.heard.map(({ data }) => data).filter(({ type }) => type === 'metrics');
    await eventually('the worker is heard', () => reports().length > 0);
    await eventually('the caller measures, too', () => isMeasuring(caller));
    await caller.get(EnhancedFunctionRegistry).call('work');
    const from = (side: 'caller' | 'worker'): MetricsNotification | undefined =>
      reports().find(
        (report) => (side === 'caller' ? report.caller?.calls : report.worker?.runs) === 1,
      );
    await eventually(
      'both sides tell',
      () => from('caller') !== undefined && from('worker') !== undefined,
    );
    expect(from('worker')?.worker?.run.count).toBe(1);
    await stock.end();
    await eventually('it ends', () => !isMeasuring(caller), 30_000);
  });

  it('of all functions hears of those, too, that nobody hosts', async () => {
    await start({ WORKER_ID: 'a' });
    const caller = await fleet.start({ options: { worker: false } });
    const stock = await stockListener((client) =>
      client.psubscribe(`${fleet.prefix}function:metrics:*`),
    );
    await eventually('the caller measures', () => isMeasuring(caller));
    const registry = caller.get(EnhancedFunctionRegistry);
    await registry.call('nobody', {}, { ifUnavailable: 'fail' }).catch(() => undefined);
    await eventually('it is heard', () =>
      stock.heard.some(({ data }) => data.functionName === 'nobody' && data.caller?.calls === 1),
    );
    await stock.end();
  });

  it('of something else makes nobody measure', async () => {
    const worker = await fleet.start({
      options: { leaseMs: 400 },
      providers: [hosting('work', () => 1)],
    });
    const stock = await stockListener((client) => client.psubscribe(`${fleet.prefix}*:offline:*`));
    const log = await CommandLog.start(redisUrl());
    const asked = async (): Promise<number> =>
      (await log.mentioning(`${fleet.prefix}function:metrics:%2A`)).length;
    await eventually('it was asked twice', async () => (await asked()) >= 2);
    expect(isMeasuring(worker)).toBe(false);
    expect(stock.heard).toEqual([]);
    log.close();
    await stock.end();
  });
});

describe('a process that names ever new functions', () => {
  it('measures a thousand, counts on, and keeps its memory', async () => {
    await start({ WORKER_ID: 'a' });
    const observer = await fleet.start({ options: { worker: false } });
    const watch = watching(observer);
    await eventually('it reports', () => workOf(watch.last()) !== undefined);
    const caller = await start({ WORKER: 'false' });
    await eventually('it is told to measure', async () => {
      caller.send({ type: 'call', count: 1 });
      await caller.message('called');
      return (workOf(watch.last())?.calls ?? 0) > 0;
    });
    caller.send({ type: 'name', count: 3 * MAX_MEASURED });
    const { heapMb } = await caller.message<{ type: 'named'; heapMb: number }>('named', 60_000);
    expect(heapMb).toBeLessThan(200);
    await eventually('it reports still', () => watch.last().functions.length > 50);
    expect(watch.last().functions.length).toBeLessThanOrEqual(MAX_MEASURED);
    watch.end();
  });
});
