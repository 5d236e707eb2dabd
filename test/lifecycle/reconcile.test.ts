import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  FunctionRegistry,
  FunctionsHealthIndicator,
  WorkerCoordinator,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

// Its own: one of these tests makes it refuse.
let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(() => {
  fleet = new Fleet(server.url);
});
afterEach(() => fleet.close());

const key = (name: string): string => `${fleet.prefix}nf:${name}`;
const quick = { leaseMs: 400, workerId: 'w-1' };

describe('what the registry and a process say of a worker', () => {
  it('is made the same when somebody removed its record: it is registered again', async () => {
    await fleet.start({ providers: [hosting('work', () => 1)], options: quick });
    const other = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
    await fleet.redis.del(key('{work:default}:workers'));
    await eventually('it is back', async () =>
      expect(await other.getAvailableWorkers('work', 'default')).toHaveLength(1),
    );
  });

  it('is made the same within leases when records of some of many functions are gone', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `f${index}`);
    const providers = names.map((name) => hosting(name, () => 1));
    await fleet.start({ providers, options: quick });
    const gone = ['f7', 'f39'].map((name) => key(`{${name}:default}:workers`));
    await fleet.redis.del(gone);
    // One after the other, one in each lease, they would be looked at for sixteen seconds.
    await eventually('they are back', async () => (await fleet.redis.exists(gone)) === 2, 5_000);
  });

  it('is made the same when another process unregistered it: it takes no calls any more', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 1)], options: quick });
    const other = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
    await expect(other.unregisterWorker('w-1', 'work', 'default')).resolves.toBe(true);
    await eventually('its process knows', () =>
      expect(app.get(WorkerCoordinator).workers()).toEqual([]),
    );
  });

  it('is made the same when it said that it is unhealthy while Redis was out of its reach', async () => {
    const proxy = await TcpProxy.start(server.url);
    try {
      const app = await fleet.start({
        providers: [hosting('work', () => 1)],
        options: { workerId: 'w-1', leaseMs: 20_000, connection: proxy.url },
      });
      const other = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
      proxy.refuse();
      const notifier = app.get(FunctionLifecycleNotifier);
      await expect(notifier.notifyUnhealthy('timeout')).rejects.toMatchObject({
        code: 'BACKEND_UNAVAILABLE',
      });
      await expect(other.isWorkerHealthy('w-1', 'work', 'default')).resolves.toBe(true);
      proxy.accept();
      await eventually('everybody knows', async () =>
        expect(await other.isWorkerHealthy('w-1', 'work', 'default')).toBe(false),
      );
      await fleet.stop(app);
    } finally {
      await proxy.close();
    }
  });
});

describe('two workers of a function in one process', () => {
  it('leave the function to the other one, which takes calls as soon as it is healthy', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 'done')], options: quick });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.registerWorkerWithInstantNotification('w-2', 'work', 'default');
    await registry.notifyWorkerHealth('work', 'default', 'w-2', false, 'timeout');
    await registry.unregisterWorkerWithNotification('w-1', 'work', 'default');
    await registry.notifyWorkerHealth('work', 'default', 'w-2', true);
    await expect(registry.call('work', {}, { timeoutMs: 5_000 })).resolves.toBe('done');
  });
});

describe('a worker that is registered while it is being removed', () => {
  it('ends registered, after its running call', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options: quick });
    const registry = app.get(EnhancedFunctionRegistry);
    const call = registry.call('work', {}, { timeoutMs: 15_000 });
    const run = await stage.started();
    const removed = registry.unregisterWorkerWithNotification('w-1', 'work', 'default');
    const registered = registry.registerWorkerWithInstantNotification('w-1', 'work', 'default');
    run.outcome.resolve('first');
    await expect(Promise.all([call, removed])).resolves.toEqual(['first', true]);
    await registered;
    expect(await registry.getAvailableWorkers('work', 'default')).toHaveLength(1);
    const second = registry.call('work', {}, { timeoutMs: 15_000 });
    (await stage.started(2)).outcome.resolve('second');
    await expect(second).resolves.toBe('second');
  });
});

describe('a process that cannot keep its lease although Redis answers', () => {
  it('is not ready', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 1)], options: quick });
    const health = app.get(FunctionsHealthIndicator);
    await fleet.redis.replicaof('127.0.0.1', 1);
    try {
      await eventually('it says so', async () => {
        const { functions } = await health.ready('functions');
        expect(functions).toMatchObject({ status: 'down' });
        expect(JSON.stringify(functions)).toContain('lease could not be kept');
      });
    } finally {
      await fleet.redis.replicaof('NO', 'ONE');
    }
    await eventually('it is ready again', async () => {
      expect((await health.ready('functions'))['functions']).toMatchObject({ status: 'up' });
    });
  });
});

describe('the supervisor', () => {
  const status = (session: string): Promise<string | null> =>
    fleet.redis.hget(key('processes'), session);

  /** A session as a process leaves it that has no presence. */
  async function leaveBehind(session: string): Promise<void> {
    await fleet.redis.set(key(`process:{${session}}:lease`), '1', 'PX', 60_000);
    await fleet.redis.sadd(
      key(`process:{${session}}:hosted`),
      JSON.stringify(['work:default', 'ghost']),
    );
    await fleet.redis.hset(key('processes'), session, 'present');
  }

  it('leaves a session alone that has no presence and still reads calls, until it does not', async () => {
    await fleet.start({ providers: [hosting('work', () => 1)] });
    const reader = new Redis(server.url, {
      connectionName: 'nestjs-functions:calls:busy.1',
    });
    await reader.ping();
    await leaveBehind('busy.1');
    await leaveBehind('gone.1');
    await eventually('the one that reads nothing is condemned', async () =>
      expect(await status('gone.1')).toBe('condemned'),
    );
    expect(await status('busy.1')).toBe('present');
    reader.disconnect();
    await eventually('the other one is, when its connection is gone', async () =>
      expect(await status('busy.1')).toBe('condemned'),
    );
  });

  it('hands over once more what a condemned session was still given', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as({ name: 'work', concurrency: 1 })] });
    const registry = app.get(EnhancedFunctionRegistry);
    const first = registry.call('work', {}, { timeoutMs: 15_000 });
    await stage.started();
    await leaveBehind('gone.1');
    await eventually('it is condemned', async () =>
      expect(await status('gone.1')).toBe('condemned'),
    );
    const second = registry.call('work', {}, { timeoutMs: 15_000 });
    const calls = key('{work:default}:calls');
    await eventually('the lost session is given the call', async () => {
      const read = await fleet.redis.xreadgroup(
        ...(['GROUP', 'workers', 'gone.1', 'COUNT', 1, 'STREAMS', calls, '>'] as const),
      );
      expect(read).not.toBeNull();
    });
    stage.runs[0]?.outcome.resolve('first');
    await expect(first).resolves.toBe('first');
    (await stage.started(2)).outcome.resolve('second');
    await expect(second).resolves.toBe('second');
    await eventually('it is forgotten', async () => expect(await status('gone.1')).toBeNull());
  });

  it('has a deputy, another process', async () => {
    for (let n = 0; n < 2; n += 1) await fleet.start({ options: { worker: false } });
    await eventually('both offices are held', async () => {
      const [supervisor, deputy] = await fleet.redis.mget(key('supervisor'), key('deputy'));
      expect(supervisor).not.toBeNull();
      expect(deputy).not.toBeNull();
      expect(deputy).not.toBe(supervisor);
    });
  });
});
