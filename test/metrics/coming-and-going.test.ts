import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Redis } from 'ioredis';
import { FunctionsMetrics, type FleetMetrics } from '../../src/index.js';
import { CallProbes } from '../../src/execution/call-probes.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';

// Processes are started in them, on machines that do other things too.
jest.setTimeout(90_000);

/** What docs/metrics.md promises: how long anything is published after the last one who listened left. */
const ENDS_WITHIN_MS = 5_000;
/** What publishes does so every second. */
const QUIET_MS = 3_000;
const LEASE_MS = 1_000;
/** And for a subscriber to bottlenecks that did not say so, who is asked for once per lease. */
const STOCK_ENDS_WITHIN_MS = LEASE_MS + 8_000;

let fleet: Fleet;
let log: CommandLog;
/** When something was last published for who listens to metrics or looks for bottlenecks. */
let lastAt: number;
let sizes: number[];

beforeEach(async () => {
  fleet = new Fleet();
  lastAt = -Infinity;
  sizes = [];
  const channels = ['function:metrics:', 'nf:vitals'].map((name) => fleet.prefix + name);
  log = await CommandLog.start(redisUrl(), (_source, [name = '', channel = '', packet = '']) => {
    if (name.toLowerCase() !== 'publish' || packet.includes('"probe"')) return;
    if (!channels.some((known) => channel.startsWith(known))) return;
    lastAt = performance.now();
    sizes.push(packet.length);
  });
});
afterEach(async () => {
  log.close();
  await fleet.close();
});

const worker = (names: readonly string[] = ['work']): Promise<INestApplicationContext> =>
  fleet.start({
    options: { leaseMs: LEASE_MS },
    providers: names.map((name) => hosting(name, () => 1)),
  });
const watcher = (): Promise<INestApplicationContext> => fleet.start({ options: { worker: false } });

/** Waits until nothing is published any more; how long it went on after `since`. */
async function end(since: number): Promise<number> {
  const isOver = (): boolean => performance.now() - Math.max(lastAt, since) > QUIET_MS;
  await eventually('nothing is published', isOver, 4 * ENDS_WITHIN_MS);
  return lastAt - since;
}

describe('a listener that is killed', () => {
  it.each([
    ['metrics', ENDS_WITHIN_MS],
    ['bottlenecks', ENDS_WITHIN_MS],
    ['channel', ENDS_WITHIN_MS],
    ['pattern', ENDS_WITHIN_MS],
    ['bottleneck channel', STOCK_ENDS_WITHIN_MS],
    // Somebody looks at what processes tell each other: no publish is unheard, and ends anything.
    ['bottlenecks beside an onlooker', STOCK_ENDS_WITHIN_MS],
  ])('leaves nothing that is published for it within seconds: %s', async (what, withinMs) => {
    await worker();
    const onlooker = new Redis(redisUrl());
    if (what.endsWith('onlooker')) await onlooker.psubscribe(`${fleet.prefix}nf:*`);
    const listener = TestProcess.start('metrics-listener.ts', {
      REDIS_URL: redisUrl(),
      KEY_PREFIX: fleet.prefix,
      LISTENS: what.replace(' beside an onlooker', ''),
    });
    try {
      await listener.message('listens', 60_000);
      await eventually('it is published for', () => lastAt > 0, 10_000);
      if (!what.startsWith('bottleneck')) await listener.message('heard');
      listener.kill('SIGKILL');
      await listener.exit();
      expect(await end(performance.now())).toBeLessThan(withinMs);
    } finally {
      onlooker.disconnect();
      await listener.destroy();
    }
  });
});

describe('a listener that leaves within a second', () => {
  it('hears what there is, and leaves nothing behind', async () => {
    const host = await worker();
    const app = await watcher();
    const seen: FleetMetrics[] = [];
    const watching = app
      .get(FunctionsMetrics)
      .watch({ functionName: 'work' })
      .subscribe((metrics) => seen.push(metrics));
    const since = performance.now();
    const channel = `${fleet.prefix}function:metrics:work:default`;
    const subscribers = async (): Promise<unknown> =>
      (await fleet.redis.pubsub('NUMSUB', channel))[1];
    await eventually('it listens, and is told', () => lastAt > 0);
    watching.unsubscribe();
    const tookMs = performance.now() - since;
    expect(await end(performance.now())).toBeLessThan(ENDS_WITHIN_MS);
    expect(await subscribers()).toBe(0);
    // On a machine that stood still it may have stayed longer, and seen something.
    expect(tookMs < 1_000 ? seen : []).toEqual([]);
    // And another time it is as if it had never been there.
    const view = await app.get(FunctionsMetrics).snapshot({ functionName: 'work' });
    expect(view.functions).toMatchObject([{ functionName: 'work' }]);
    expect(host.get(CallProbes).worker).toBeDefined();
  });

  it('before it even listens leaves nothing behind, too', async () => {
    await worker();
    const app = await watcher();
    const channel = `${fleet.prefix}function:metrics:work:default`;
    const since = performance.now();
    app.get(FunctionsMetrics).watch({ functionName: 'work' }).subscribe().unsubscribe();
    expect(await end(since)).toBeLessThan(ENDS_WITHIN_MS);
    expect((await fleet.redis.pubsub('NUMSUB', channel))[1]).toBe(0);
  });
});

describe('two that listen in one process', () => {
  it('hear the same, and the one that stays goes on hearing when the other leaves', async () => {
    await worker();
    const [one, other] = [await watcher(), await watcher()];
    const heard = new Map<string, number>();
    const watch = (name: string, app: INestApplicationContext) =>
      app
        .get(FunctionsMetrics)
        .watch()
        .subscribe(({ functions }) => heard.set(name, (heard.get(name) ?? 0) + functions.length));
    const watching = [watch('first', one), watch('second', one), watch('elsewhere', other)];
    const names = ['first', 'second', 'elsewhere'];
    const allHear = async (some: readonly string[]): Promise<void> => {
      const before = new Map(heard);
      const more = (name: string): boolean => (heard.get(name) ?? 0) >= (before.get(name) ?? 0) + 3;
      await eventually('all hear', () => some.every(more), 10_000);
    };
    await allHear(names);
    watching[0]?.unsubscribe();
    await allHear(['second', 'elsewhere']);
    await fleet.stop(one);
    await allHear(['elsewhere']);
    watching[2]?.unsubscribe();
    expect(await end(performance.now())).toBeLessThan(ENDS_WITHIN_MS);
  });
});

describe('many who begin to listen at once', () => {
  it('are not published for each by itself', async () => {
    await worker();
    const channel = `${fleet.prefix}nf:listeners`;
    const since = performance.now();
    for (let i = 0; i < 300; i += 1) {
      const subjects = ['work:default', `other${i}:default`];
      const data = { type: 'listening', from: `p${i}`, subjects, vitals: false };
      await fleet.redis.publish(channel, JSON.stringify({ pattern: channel, data }));
    }
    await eventually('it is published for them', () => sizes.length > 0);
    await log.clear();
    const seconds = (performance.now() - since) / 1_000;
    // At once, and then not sooner than 250 ms after the last time.
    expect(sizes.length).toBeLessThanOrEqual(2 + 4 * seconds);
  });
});

describe('a hundred functions of one process', () => {
  it('are all in the view, each second, in a message of some kilobytes for each', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `f${i}`);
    await worker(names);
    const app = await watcher();
    const since = performance.now();
    const views: FleetMetrics[] = [];
    const watching = app
      .get(FunctionsMetrics)
      .watch()
      .subscribe((metrics) => views.push(metrics));
    const whole = (): FleetMetrics[] => views.filter(({ functions }) => functions.length === 100);
    await eventually('three views have all', () => whole().length >= 3, 15_000);
    const first = views.findIndex(({ functions }) => functions.length === 100);
    // The first look may come before the first report, or in the midst of it.
    expect(first).toBeLessThanOrEqual(2);
    expect(views.slice(first).every(({ functions }) => functions.length === 100)).toBe(true);
    expect(views.every(({ lost, dropped }) => lost + dropped === 0)).toBe(true);
    const seconds = (performance.now() - since) / 1_000;
    expect(sizes.length).toBeLessThanOrEqual(100 * (seconds + 2));
    expect(Math.max(...sizes)).toBeLessThan(4_096);
    watching.unsubscribe();
  });
});
