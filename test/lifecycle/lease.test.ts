import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Logger, type INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  OwnershipLostError,
  WorkerCoordinator,
  type CoordinatorEvents,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { condemnAll, dropLeases } from '../harness/condemn.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { News } from '../harness/news.js';

// Its own: some of these tests empty it.
let server: StartedRedis;
let fleet: Fleet;
let news: News | undefined;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

afterEach(async () => {
  jest.restoreAllMocks();
  news?.close();
  news = undefined;
  await fleet.close();
});

function newFleet(): Fleet {
  return (fleet = new Fleet(server.url));
}

/** The next event of a kind. */
function event<K extends keyof CoordinatorEvents>(
  app: INestApplicationContext,
  name: K,
): Promise<CoordinatorEvents[K]> {
  const heard = createDeferred<CoordinatorEvents[K]>();
  const dispose = app.get(WorkerCoordinator).on(name, (payload) => {
    dispose();
    heard.resolve(payload);
  });
  return heard.promise;
}

const options = { leaseMs: 400, workerId: 'w-1' };

describe('a process that was declared dead', () => {
  it.each(['its condemnation', 'FLUSHALL'])(
    'registers anew with a higher epoch after %s, and calls go on',
    async (loss) => {
      newFleet();
      news = await News.listen(server.url, fleet.prefix, News.channelsOf('work'));
      const app = await fleet.start({ providers: [hosting('work', () => 1)], options });
      const registry = app.get(EnhancedFunctionRegistry);
      await expect(registry.call('work')).resolves.toBe(1);
      const lost = event(app, 'lost');
      const registered = event(app, 'registered');
      if (loss === 'FLUSHALL') await fleet.redis.flushall();
      else await condemnAll(fleet);
      await lost;
      await registered;
      const [first, second] = [await news.next('ready', 1), await news.next('ready', 2)];
      expect(Number(second.data['epoch'])).toBeGreaterThan(Number(first.data['epoch']));
      expect(second.data['seq']).toBe(1);
      expect(second.data['processId']).not.toBe(first.data['processId']);
      await expect(registry.call('work')).resolves.toBe(1);
      expect(await registry.getInstantWorkerStatus('work', 'default')).toMatchObject({
        workers: 1,
        healthyWorkers: 1,
      });
    },
  );

  it('says how late its event loop was, when that is why', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    newFleet();
    const app = await fleet.start({ providers: [hosting('work', () => 1)], options });
    const lost = event(app, 'lost');
    await condemnAll(fleet);
    const blockedUntil = Date.now() + 2 * options.leaseMs;
    while (Date.now() < blockedUntil);
    await lost;
    expect(warn.mock.calls.map(String).join('\n')).toMatch(
      /it was declared dead: its event loop was \d{3} ms late, and leaseMs is 400/,
    );
  });

  it('says nothing of its event loop when that was in time', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    newFleet();
    const app = await fleet.start({
      providers: [hosting('work', () => 1)],
      options: { ...options, leaseMs: 4_000 },
    });
    const lost = event(app, 'lost');
    await condemnAll(fleet);
    await lost;
    expect(warn.mock.calls.map(String).join('\n')).toMatch(/\(it was declared dead\)/);
  });

  it('aborts what it runs, and the call runs again as attempt 2 under the same id', async () => {
    newFleet();
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options });
    const call = app.get(EnhancedFunctionRegistry).call('work');
    const first = await stage.started();
    await condemnAll(fleet);
    const second = await stage.started(2);
    expect(first.context.signal.reason).toBeInstanceOf(OwnershipLostError);
    expect(second.callId).toBe(first.callId);
    expect(second.context.attempt).toBe(2);
    first.outcome.resolve('of the lost owner');
    second.outcome.resolve('of the new owner');
    await expect(call).resolves.toBe('of the new owner');
    await eventually(
      'the call is removed',
      async () => (await fleet.redis.xlen(`${fleet.prefix}nf:{work:default}:calls`)) === 0,
    );
  });

  it('goes on with what runs when Redis was emptied, and answers the call that is written again', async () => {
    newFleet();
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options });
    const registry = app.get(EnhancedFunctionRegistry);
    const call = registry.call('work', {}, { timeoutMs: 15_000 });
    const { context, outcome } = await stage.started();
    await fleet.redis.flushall();
    await event(app, 'registered');
    const stream = `${fleet.prefix}nf:{work:default}:calls`;
    await eventually('the call is written again and taken', async () => {
      const [count] = (await fleet.redis.xpending(stream, 'workers')) as [number];
      expect(count).toBe(1);
    });
    expect(context.signal.aborted).toBe(false);
    outcome.resolve('of the only run');
    await expect(call).resolves.toBe('of the only run');
    await eventually('nothing is left', async () => (await fleet.redis.xlen(stream)) === 0);
    expect(stage.runs).toHaveLength(1);
  });

  it('leaves nothing of its old life behind', async () => {
    newFleet();
    const app = await fleet.start({ providers: [hosting('work', () => 1)], options });
    await app.get(EnhancedFunctionRegistry).call('work');
    const registered = event(app, 'registered');
    await condemnAll(fleet);
    await registered;
    await eventually('only one session is left', async () => {
      const keys = await fleet.keys();
      expect(keys.filter((key) => key.endsWith(':lease'))).toHaveLength(1);
      expect(keys.filter((key) => key.endsWith(':hosted'))).toHaveLength(1);
      expect(await fleet.redis.hlen(`${fleet.prefix}nf:processes`)).toBe(1);
      const stream = `${fleet.prefix}nf:{work:default}:calls`;
      expect(await fleet.redis.xinfo('CONSUMERS', stream, 'workers')).toHaveLength(1);
    });
  });
});

describe('a lease that ran out while Redis stood still', () => {
  it('is taken again by a process that lives: what runs goes on, and is settled', async () => {
    newFleet();
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options });
    const lost: unknown[] = [];
    app.get(WorkerCoordinator).on('lost', (payload) => lost.push(payload));
    const call = app.get(EnhancedFunctionRegistry).call('work');
    const run = await stage.started();
    await dropLeases(fleet);
    await eventually('the lease is back', async () =>
      (await fleet.keys()).some((key) => key.endsWith(':lease')),
    );
    expect(run.context.signal.aborted).toBe(false);
    run.outcome.resolve('of the only owner');
    await expect(call).resolves.toBe('of the only owner');
    expect(lost).toEqual([]);
    expect(stage.runs).toHaveLength(1);
  });

  it('condemns a process that does not take it again, and what its cleaner hands over is not run twice', async () => {
    newFleet();
    const stage = new Stage();
    const app = await fleet.start({
      // With its only place taken it reads nothing, as a process whose lease ran out does.
      providers: [stage.as({ name: 'work', concurrency: 1 })],
      options: { ...options, leaseMs: 60_000 },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const call = registry.call('work');
    const first = await stage.started();
    await dropLeases(fleet);
    await expect(registry.cleanupStaleWorkers('work', 'default')).resolves.toBe(1);
    const listed = await fleet.redis.hvals(`${fleet.prefix}nf:processes`);
    expect(listed).toEqual(['condemned']);
    const second = await fleet.start({ providers: [hosting('work', () => 'next owner')] });
    await expect(call).resolves.toBe('next owner');
    first.outcome.resolve('of the lost owner');
    expect(second.get(WorkerCoordinator).state).toBe('active');
  });
});

describe('a workerId in two living processes', () => {
  it('is warned of where it comes in second', async () => {
    newFleet();
    const warn = jest.spyOn(Logger.prototype, 'warn');
    await fleet.start({ providers: [hosting('work', () => 1)], options: { workerId: 'twin' } });
    expect(warn).not.toHaveBeenCalled();
    await fleet.start({ providers: [hosting('work', () => 1)], options: { workerId: 'twin' } });
    expect(warn).toHaveBeenCalledWith(
      expect.stringMatching(/workerId twin .*in use by .*give each process its own/),
    );
  });

  it('is not warned of when the first has left', async () => {
    newFleet();
    const warn = jest.spyOn(Logger.prototype, 'warn');
    const start = () =>
      fleet.start({ providers: [hosting('work', () => 1)], options: { workerId: 'twin' } });
    await fleet.stop(await start());
    await start();
    expect(warn).not.toHaveBeenCalled();
  });

  it('keeps the second registered when the first leaves', async () => {
    newFleet();
    const start = (name: string) =>
      fleet.start({ providers: [hosting('work', () => name)], options: { workerId: 'twin' } });
    const first = await start('first');
    const second = await start('second');
    await fleet.stop(first);
    const registry = second.get(EnhancedFunctionRegistry);
    expect(await registry.getAvailableWorkers('work', 'default')).toHaveLength(1);
    await expect(registry.call('work')).resolves.toBe('second');
  });
});

describe('a fleet whose connections are all killed', () => {
  it('returns, and nobody is declared dead', async () => {
    newFleet();
    const apps = await Promise.all(
      ['a', 'b', 'c'].map((workerId) =>
        fleet.start({
          providers: [hosting('work', () => 1)],
          options: { workerId, leaseMs: 5_000 },
        }),
      ),
    );
    const lost: unknown[] = [];
    for (const app of apps) app.get(WorkerCoordinator).on('lost', (payload) => lost.push(payload));
    await eventually('one supervises', () =>
      apps.some((app) => app.get(WorkerCoordinator).isSupervisor),
    );
    const registry = apps[0]!.get(EnhancedFunctionRegistry);
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await eventually('calls go on', async () => registry.call('work', {}, { timeoutMs: 1_000 }));
    await eventually('everybody is present again', async () => {
      const sessions = await fleet.redis.hkeys(`${fleet.prefix}nf:processes`);
      for (const session of sessions)
        expect(
          await fleet.redis.pubsub('NUMSUB', `${fleet.prefix}nf:process:${session}`),
        ).toContain(1);
    });
    expect(lost).toEqual([]);
    expect(await registry.getAvailableWorkers('work', 'default')).toHaveLength(3);
  });
});
