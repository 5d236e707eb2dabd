import { afterEach, describe, expect, it } from '@jest/globals';
import { scripts } from '../../src/backend/redis/scripts.js';
import {
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  WorkerCoordinator,
} from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { News } from '../harness/news.js';

const fleet = new Fleet();
let news: News | undefined;

afterEach(async () => {
  news?.close();
  news = undefined;
  await fleet.close();
});

async function listen(...args: Parameters<typeof News.channelsOf>): Promise<News> {
  return (news = await News.listen(redisUrl(), fleet.prefix, News.channelsOf(...args)));
}

const key = (name: string): string => `${fleet.prefix}nf:${name}`;
const work = hosting('work', () => 1);

describe('a registration', () => {
  it('tells ready only when the group exists and the worker’s read has reached Redis', async () => {
    const log = await CommandLog.start(redisUrl());
    const app = await fleet.start({ providers: [work] });
    await eventually('it is active', () => app.get(WorkerCoordinator).state === 'active');
    // Registering tells ready, in one script.
    const commands = await log.mentioning(key('{work:default}:calls'));
    log.close();
    const places = [
      commands.findIndex(({ args: [sha] }) => sha === scripts.regroup.sha),
      commands.findIndex(({ name, args }) => name === 'xreadgroup' && args.includes('BLOCK')),
      commands.findIndex(({ args: [sha] }) => sha === scripts.register.sha),
    ];
    expect(places).not.toContain(-1);
    expect(places).toEqual([...places].sort((one, other) => one - other));
  });

  it('leaves record, lease and notification together: who hears ready finds the other two', async () => {
    const { redis } = fleet;
    await redis.ping();
    const seen = createDeferred<[string | null, number, Record<string, unknown>]>();
    news = await News.listen(
      redisUrl(),
      fleet.prefix,
      ['function:ready:work:default'],
      (packet) => {
        const { workerId, processId } = packet.data as { workerId: string; processId: string };
        Promise.all([
          redis.hget(key('{work:default}:workers'), workerId),
          redis.pttl(key(`process:{${processId}}:lease`)),
        ]).then(([record, ttl]) => seen.resolve([record, ttl, packet.data]), seen.reject);
      },
    );
    await fleet.start({ providers: [work], options: { leaseMs: 5_000 } });
    const [record, ttl, data] = await seen.promise;
    expect(JSON.parse(record ?? '')).toMatchObject({
      workerId: data['workerId'],
      processId: data['processId'],
      epoch: data['epoch'],
      seq: data['seq'],
      status: 'ready',
    });
    expect(ttl).toBeGreaterThan(0);
    expect(ttl).toBeLessThanOrEqual(5_000);
  });

  it('is read already when it is told: a call that is added in answer to ready runs', async () => {
    const stage = new Stage();
    const { redis } = fleet;
    await redis.ping();
    const fields = ['c', '1 60000  nobody id\t{"p":{},"i":null}'];
    news = await News.listen(redisUrl(), fleet.prefix, ['function:ready:work:default'], () => {
      void redis.xadd(key('{work:default}:calls'), '*', ...fields);
    });
    await fleet.start({ providers: [stage.as('work')] });
    const run = await stage.started();
    expect(run.callId).toBe('id');
    run.outcome.resolve(1);
  });

  it('takes no call before every part of the application is initialised', async () => {
    const order: string[] = [];
    class Slow {
      async onModuleInit(): Promise<void> {
        await new Promise(setImmediate);
        order.push('initialised');
      }
    }
    const done = createDeferred();
    await fleet.redis.xgroup('CREATE', key('{work:default}:calls'), 'workers', '0', 'MKSTREAM');
    const fields = ['c', '1 60000  nobody id\t{"p":{},"i":null}'];
    await fleet.redis.xadd(key('{work:default}:calls'), '*', ...fields);
    await fleet.start({
      providers: [
        Slow,
        hosting('work', () => {
          order.push('ran');
          done.resolve();
        }),
      ],
    });
    await done.promise;
    expect(order).toEqual(['initialised', 'ran']);
  });
});

describe('packets', () => {
  it('have the fields that the design names, epoch of the life and seq counting up', async () => {
    const heard = await listen('work');
    const app = await fleet.start({ providers: [work], options: { workerId: 'w-1' } });
    const notifier = app.get(FunctionLifecycleNotifier);
    await notifier.notifyUnhealthy('timeout');
    await notifier.notifyHealthy();
    await notifier.notifyShuttingDown(2_000);
    await notifier.notifyOffline('maintenance');
    await heard.next('offline');
    const epoch = heard.packets[0]?.data['epoch'];
    const base = { functionName: 'work', workflowId: 'default', workerId: 'w-1', epoch };
    const expected = [
      ['function:ready', { type: 'ready', seq: 1, healthy: true }],
      ['worker:health', { type: 'health', seq: 2, healthy: false, reason: 'timeout' }],
      ['worker:health', { type: 'health', seq: 3, healthy: true }],
      ['function:shutdown', { type: 'shutdown', seq: 4, estimatedDowntimeMs: 2_000 }],
      ['function:offline', { type: 'offline', seq: 5, reason: 'maintenance' }],
    ] as const;
    expect(heard.packets).toEqual(
      expected.map(([head, own]) => ({
        channel: `${head}:work:default`,
        pattern: `${fleet.prefix}${head}:work:default`,
        data: expect.objectContaining({ ...base, ...own, timestamp: expect.any(Number) }),
      })),
    );
    expect(heard.of('health')[1]?.data).not.toHaveProperty('reason');
  });

  it('carry names that hold anything, on channels that stay unambiguous', async () => {
    const heard = await listen('a%3Ab%20%7Bx%7D', 'c%2A');
    await fleet.start({
      providers: [hosting({ name: 'a:b {x}', workflowId: 'c*' }, () => 1)],
    });
    const { data } = await heard.next('ready');
    expect(data).toMatchObject({ functionName: 'a:b {x}', workflowId: 'c*' });
  });

  it('have a higher epoch after a restart under the same workerId, and seq begins anew', async () => {
    const heard = await listen('work');
    for (const _ of [1, 2, 3]) {
      const app = await fleet.start({ providers: [work], options: { workerId: 'w-1' } });
      await fleet.stop(app);
    }
    await heard.next('offline', 3);
    const lives = heard.of('ready').map(({ data }) => data as { epoch: number; seq: number });
    expect(lives.map(({ seq }) => seq)).toEqual([1, 1, 1]);
    const epochs = lives.map(({ epoch }) => epoch);
    expect(new Set(epochs).size).toBe(3);
    expect([...epochs].sort((a, b) => a - b)).toEqual(epochs);
  });

  it('of a close are shutdown with drainTimeoutMs, then offline with reason shutdown', async () => {
    const heard = await listen('work');
    const app = await fleet.start({ providers: [work], options: { drainTimeoutMs: 1_234 } });
    await fleet.stop(app);
    await heard.next('offline');
    expect(heard.packets.map(({ data }) => data['type'])).toEqual(['ready', 'shutdown', 'offline']);
    expect(heard.of('shutdown')[0]?.data).toMatchObject({ estimatedDowntimeMs: 1_234 });
    expect(heard.of('offline')[0]?.data).toMatchObject({ reason: 'shutdown' });
  });

  it('of an unregistration have reason unregistered', async () => {
    const heard = await listen('work');
    const app = await fleet.start({ providers: [work], options: { workerId: 'w-1' } });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.unregisterWorkerWithNotification('w-1', 'work', 'default');
    expect((await heard.next('offline')).data).toMatchObject({ reason: 'unregistered' });
    await expect(registry.unregisterWorkerWithNotification('w-1', 'work', 'default')).resolves.toBe(
      false,
    );
  });
});

describe('health while nothing changes', () => {
  it('is told periodically while somebody listens, and the lease is kept', async () => {
    const app = await fleet.start({
      providers: [work],
      options: { workerId: 'w-1', leaseMs: 300 },
    });
    const heard = await listen('work');
    const first = await heard.next('health', 1);
    const second = await heard.next('health', 2);
    expect(first.data).toMatchObject({ type: 'health', workerId: 'w-1', healthy: true, seq: 1 });
    expect(Number(second.data['timestamp'])).toBeGreaterThan(Number(first.data['timestamp']));
    expect(heard.of('ready')).toHaveLength(0);
    expect(app.get(WorkerCoordinator).state).toBe('active');
    const leases = (await fleet.keys()).filter((name) => name.endsWith(':lease'));
    expect(leases).toHaveLength(1);
  });

  // On a Redis of its own: a pattern counts as a listener, and other tests subscribe to patterns on the common one.
  it('is not published when nobody listens', async () => {
    const redis = await startRedis();
    const alone = new Fleet(redis.url);
    const log = await CommandLog.start(redis.url);
    const count = async (name: string): Promise<number> =>
      (await log.mentioning(alone.prefix)).filter((command) => command.name === name).length;
    try {
      const app = await alone.start({ providers: [work], options: { leaseMs: 300 } });
      await eventually('health was considered twice', async () => (await count('pubsub')) >= 2);
      expect(await count('publish')).toBe(0);
      expect(app.get(WorkerCoordinator).state).toBe('active');
    } finally {
      log.close();
      await alone.close();
      await redis.stop();
    }
  });
});

describe('the injected notifier', () => {
  it('says which binding is missing when the process hosts no function', async () => {
    const app = await fleet.start({ providers: [] });
    await expect(app.get(FunctionLifecycleNotifier).notifyHealthy()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/hosts none.*forFunction/),
    });
  });

  it('says which binding is missing when the process hosts several functions', async () => {
    const app = await fleet.start({ providers: [work, hosting('other', () => 2)] });
    await expect(app.get(FunctionLifecycleNotifier).notifyReady()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/hosts 2.*forFunction/),
    });
  });

  it('refuses to speak for a worker that is not registered', async () => {
    const app = await fleet.start({ providers: [work] });
    const stranger = app.get(FunctionLifecycleNotifier).forFunction('work', 'default', 'nobody');
    await expect(stranger.notifyUnhealthy('timeout')).rejects.toMatchObject({
      code: 'WORKER_NOT_REGISTERED',
    });
    await expect(stranger.notifyShuttingDown(10)).rejects.toMatchObject({
      code: 'WORKER_NOT_REGISTERED',
    });
  });

  it.each([-1, NaN, Infinity, '2000'])('refuses %p as the estimated downtime', async (given) => {
    const app = await fleet.start({ providers: [work] });
    const notifier = app.get(FunctionLifecycleNotifier);
    await expect(notifier.notifyShuttingDown(given as number)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it.each([
    ['an empty text', ''],
    ['257 characters', 'x'.repeat(257)],
    ['a number', 7],
  ])('refuses %s as a reason', async (_what, given) => {
    const app = await fleet.start({ providers: [work] });
    const notifier = app.get(FunctionLifecycleNotifier);
    for (const tell of ['notifyOffline', 'notifyUnhealthy'] as const)
      await expect(notifier[tell](given as string)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
  });

  it('says that health changes nothing of a worker that shuts down, and tells nothing', async () => {
    const app = await fleet.start({ providers: [work] });
    const notifier = app.get(FunctionLifecycleNotifier);
    await expect(notifier.notifyUnhealthy('busy')).resolves.toBe(true);
    await expect(notifier.notifyHealthy()).resolves.toBe(true);
    await notifier.notifyShuttingDown(50);
    const key = `${fleet.prefix}nf:{work:default}:workers`;
    const before = await fleet.redis.hvals(key);
    await expect(notifier.notifyHealthy()).resolves.toBe(false);
    await expect(notifier.notifyUnhealthy('busy')).resolves.toBe(false);
    expect(await fleet.redis.hvals(key)).toEqual(before);
    await notifier.notifyReady();
    await expect(notifier.notifyHealthy()).resolves.toBe(true);
  });

  it('brings a worker back with notifyReady after it said that it shuts down', async () => {
    const app = await fleet.start({ providers: [work] });
    const notifier = app.get(FunctionLifecycleNotifier);
    const registry = app.get(EnhancedFunctionRegistry);
    await notifier.notifyShuttingDown(50);
    await expect(registry.call('work', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
    const waiting = registry.call('work');
    await notifier.notifyReady();
    await expect(waiting).resolves.toBe(1);
  });
});
