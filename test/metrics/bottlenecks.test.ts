import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { FunctionsMetrics, type BottleneckNotification } from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';

jest.setTimeout(120_000);

/** What is promised: from its onset until it is told. */
const WITHIN_MS = 2_000;
const WORKERS = ['a', 'b', 'c'];

let fleet: Fleet;
let processes: Map<string, TestProcess>;
let told: { at: number; news: BottleneckNotification }[];
let observer: INestApplicationContext;
let seconds: number;

/** A process that supervises, three workers that take 10 ms, a caller of 100 calls a second, and who listens. */
beforeEach(async () => {
  fleet = new Fleet();
  processes = new Map();
  told = [];
  seconds = 0;
  await start('keeper');
  await eventually(
    'it supervises',
    async () => (await fleet.redis.exists(`${fleet.prefix}nf:supervisor`)) === 1,
  );
  await Promise.all([...WORKERS, 'caller'].map((id) => start(id)));
  observer = await fleet.start({ options: { worker: false } });
  const metrics = observer.get(FunctionsMetrics);
  metrics.bottlenecks().subscribe((news) => told.push({ at: Date.now(), news }));
  metrics.watch().subscribe(() => (seconds += 1));
  of('caller').send({ type: 'stream', perSecond: 100 });
  await steady(4);
});

afterEach(async () => {
  await Promise.all([...processes.values()].map((one) => one.destroy()));
  await fleet.close();
});

async function start(id: string): Promise<void> {
  const isWorker = !['caller', 'keeper'].includes(id);
  const one = TestProcess.start('metrics-worker.ts', {
    REDIS_URL: redisUrl(),
    KEY_PREFIX: fleet.prefix,
    WORKER_ID: id,
    WORKER: String(isWorker),
    WORK_MS: '10',
    LEASE_MS: '5000',
  });
  processes.set(id, one);
  await one.message('ready');
}

function of(id: string): TestProcess {
  const one = processes.get(id);
  if (one === undefined) throw new Error(`no process ${id}`);
  return one;
}

/** Lets so many seconds of metrics pass. */
async function steady(count: number): Promise<void> {
  const until = seconds + count;
  await eventually('time has passed', () => seconds >= until, 30_000);
}

async function pace(id: string, ms: number): Promise<void> {
  const before = of(id).all('paced').length;
  of(id).send({ type: 'pace', ms });
  await eventually('it is paced', () => of(id).all('paced').length > before);
}

/** The first word of a kind and state, after so many that were told before. */
async function hear(
  kind: BottleneckNotification['kind'],
  state: BottleneckNotification['state'],
  before = 0,
): Promise<{ at: number; news: BottleneckNotification }> {
  const find = (): (typeof told)[number] | undefined =>
    told.slice(before).find(({ news }) => news.kind === kind && news.state === state);
  await eventually(`${kind} ${state}`, () => find() !== undefined, 20_000);
  return find() as (typeof told)[number];
}

describe('bottlenecks in a fleet of processes', () => {
  it('are none in a steady run', async () => {
    await steady(15);
    expect(told).toEqual([]);
  });

  it('are a worker that is slower than its peers, told within two seconds, until it is not', async () => {
    await pace('b', 200);
    const onset = Date.now();
    const { at, news } = await hear('slow-worker', 'began');
    expect(at - onset).toBeLessThan(WITHIN_MS);
    expect(news).toMatchObject({
      type: 'bottleneck',
      functionName: 'work',
      workflowId: 'default',
      workerId: 'b',
      figures: { peers: 2 },
    });
    const { medianMs = 0, peersMedianMs = 0 } = news.figures as Record<string, number>;
    expect(medianMs).toBeGreaterThanOrEqual(190);
    expect(peersMedianMs).toBeLessThan(60);
    await hear('slow-worker', 'lasts');
    await pace('b', 10);
    const ended = await hear('slow-worker', 'ended');
    expect(ended.news).toMatchObject({ workerId: 'b', since: news.since });
    expect(new Set(told.map(({ news: { kind } }) => kind))).toEqual(new Set(['slow-worker']));
  });

  it('are a worker whose runs do not end, told within two seconds', async () => {
    await pace('b', 60_000);
    const onset = Date.now();
    const { at, news } = await hear('slow-worker', 'began');
    expect(at - onset).toBeLessThan(WITHIN_MS);
    expect(news).toMatchObject({ workerId: 'b', figures: { runsPerSecond: 0 } });
  });

  it('are a backlog that grows faster than it is served', async () => {
    await Promise.all(WORKERS.map((id) => pace(id, 1_000)));
    const onset = Date.now();
    const { at, news } = await hear('backlog', 'began');
    expect(at - onset).toBeLessThan(WITHIN_MS);
    const {
      growthPerSecond = 0,
      waiting = 0,
      oldestMs = 0,
    } = news.figures as Record<string, number>;
    expect(growthPerSecond).toBeGreaterThan(20);
    expect(waiting).toBeGreaterThanOrEqual(20);
    expect(oldestMs).toBeGreaterThanOrEqual(250);
    await Promise.all(WORKERS.map((id) => pace(id, 1)));
    await hear('backlog', 'ended');
  });

  it('are callers that have no worker', async () => {
    for (const id of WORKERS) of(id).kill('SIGKILL');
    const onset = Date.now();
    const { at, news } = await hear('starved-caller', 'began');
    expect(at - onset).toBeLessThan(WITHIN_MS);
    expect(news).toMatchObject({ workerId: 'caller', functionName: 'work' });
    const { waiting = 0, oldestWaitMs = 0 } = news.figures as Record<string, number>;
    expect(waiting).toBeGreaterThan(0);
    expect(oldestWaitMs).toBeGreaterThanOrEqual(500);
    await start('d');
    await hear('starved-caller', 'ended');
  });

  it('are found by another process when the one that looked dies', async () => {
    await pace('b', 200);
    const { news } = await hear('slow-worker', 'began');
    expect(news.detectedBy).toContain(`-${of('keeper').pid}-`);
    of('keeper').kill('SIGKILL');
    await of('keeper').exit();
    const before = told.length;
    const { news: again } = await hear('slow-worker', 'began', before);
    expect(again).toMatchObject({ workerId: 'b' });
    expect(again.detectedBy).not.toBe(news.detectedBy);
  });
});
