import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Redis } from 'ioredis';
import type { Subscription } from 'rxjs';
import {
  EnhancedFunctionRegistry,
  FunctionsMetrics,
  NotificationManager,
  type BottleneckNotification,
} from '../../src/index.js';
import { CallProbes } from '../../src/execution/call-probes.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

jest.setTimeout(60_000);

let fleet: Fleet;
let log: CommandLog;
let worker: INestApplicationContext;
let caller: INestApplicationContext;
let listening: Subscription | undefined;

async function start(leaseMs = 1_000): Promise<void> {
  const options = { leaseMs };
  worker = await fleet.start({ options, providers: [hosting('work', () => 1)] });
  caller = await fleet.start({ options: { worker: false, ...options } });
  log = await CommandLog.start(redisUrl());
}

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(async () => {
  listening?.unsubscribe();
  listening = undefined;
  log.close();
  await fleet.close();
});

const call = (): Promise<unknown> => caller.get(EnhancedFunctionRegistry).call('work');

/** How often something was published on a channel, but for the question that a pattern of anybody on this Redis raises. */
async function published(channel: string): Promise<number> {
  const commands = await log.mentioning(`${fleet.prefix}${channel}`);
  return commands.filter(
    ({ name, args }) => name === 'publish' && args[1]?.includes('"probe"') === false,
  ).length;
}

/** How often somebody asked for backlogs. */
async function looks(): Promise<number> {
  const key = `${fleet.prefix}nf:{work:default}:calls`;
  const scripts = await log.mentioning(key);
  return scripts.filter(({ args }) => isDeepStrictEqual(args.slice(1), ['1', key, 'workers']))
    .length;
}

/** How often it was asked who listens: once per lease. */
async function leases(): Promise<number> {
  const asked = await log.mentioning(`${fleet.prefix}function:metrics:work:default`);
  return asked.filter(({ name }) => name === 'pubsub').length;
}

const isMeasuring = (app: INestApplicationContext): boolean =>
  app.get(CallProbes).caller !== undefined || app.get(CallProbes).worker !== undefined;

describe('while nobody listens', () => {
  it('calls meet no probe, and nothing is published, announced or looked up', async () => {
    await start();
    await eventually('four leases have passed, with calls', async () => {
      await call();
      return (await leases()) >= 4;
    });
    expect([isMeasuring(worker), isMeasuring(caller)]).toEqual([false, false]);
    for (const channel of [
      'function:metrics:',
      'function:bottleneck:',
      'nf:listeners',
      'nf:vitals',
    ])
      expect([channel, await published(channel)]).toEqual([channel, 0]);
    expect(await looks()).toBe(0);
  });
});

describe('who listens to metrics', () => {
  it('alone makes nobody look for bottlenecks', async () => {
    await start();
    let heard = 0;
    listening = caller
      .get(FunctionsMetrics)
      .watch()
      .subscribe(({ functions }) => (heard += functions.length));
    await eventually('some reports came', () => heard >= 3);
    expect(await published('function:metrics:work:default')).toBeGreaterThan(2);
    expect(await published('nf:vitals')).toBe(0);
    expect(await looks()).toBeGreaterThan(0);
  });

  it('ends the publishing when it leaves, within a few seconds', async () => {
    await start(3_000);
    const stock = new Redis(redisUrl());
    let heard = 0;
    stock.on('pmessage', () => (heard += 1));
    await stock.psubscribe(`${fleet.prefix}function:metrics:*`);
    await eventually('reports came', () => heard >= 3);
    stock.disconnect();
    await log.clear();
    await eventually('three leases have passed', async () => (await leases()) >= 3, 20_000);
    expect(await published('function:metrics:work:default')).toBeLessThanOrEqual(5);
  });
});

describe('who listens to bottlenecks', () => {
  it('alone makes nobody publish metrics, and has its news checked', async () => {
    await start();
    const heard: BottleneckNotification[] = [];
    listening = caller
      .get(FunctionsMetrics)
      .bottlenecks()
      .subscribe((news) => heard.push(news));
    await eventually('vitals are told', async () => (await published('nf:vitals')) > 2);
    expect(await published('function:metrics:work:default')).toBe(0);
    const channel = `${fleet.prefix}function:bottleneck:work:default`;
    const good = {
      type: 'bottleneck',
      version: 1,
      functionName: 'work',
      workflowId: 'default',
      kind: 'starved-caller',
      state: 'began',
      processId: 'p',
      workerId: 'w',
      since: 1,
      timestamp: 2,
      detectedBy: 'q',
      figures: { waiting: 1, oldestWaitMs: 600 },
    };
    const foreign: unknown[] = [
      null,
      'text',
      { ...good, type: 'other' },
      { ...good, version: 2 },
      { ...good, functionName: 'other' },
      { ...good, kind: 'unheard-of' },
      { ...good, kind: 'toString' },
      { ...good, state: 'maybe' },
      { ...good, since: '1' },
      { ...good, workerId: 7 },
      { ...good, figures: { waiting: 1 } },
    ];
    const manager = caller.get(NotificationManager);
    const droppedBefore = manager.stats().dropped;
    for (const data of [...foreign, { type: 'probe' }, good])
      await fleet.redis.publish(channel, JSON.stringify({ pattern: channel, data }));
    await eventually('the good one is heard', () => heard.length > 0);
    expect(heard).toEqual([good]);
    expect(manager.stats().dropped - droppedBefore).toBe(foreign.length);
  });
});

describe('a message that is none of those that processes tell each other', () => {
  it.each(['nf:listeners', 'nf:vitals'])('is counted as dropped: %s', async (name) => {
    await start();
    listening = caller.get(FunctionsMetrics).bottlenecks().subscribe();
    await eventually('vitals are told', async () => (await published('nf:vitals')) > 2);
    const managers = [worker, caller].map((app) => app.get(NotificationManager));
    const dropped = (): number =>
      managers.reduce((sum, manager) => sum + manager.stats().dropped, 0);
    const before = dropped();
    const channel = `${fleet.prefix}${name}`;
    const data = { type: 'vitals', version: 2, from: 'a later version' };
    await fleet.redis.publish(channel, JSON.stringify({ pattern: channel, data }));
    await eventually('it is counted', () => dropped() > before);
  });
});
