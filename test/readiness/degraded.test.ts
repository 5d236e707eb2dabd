import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Redis, type RedisOptions } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  FunctionReadinessWatcher,
  NotificationManager,
  type WorkerInfo,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { killSubscribers } from '../harness/kill-subscribers.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

const FN = ['resize', 'media'] as const;

let redis: StartedRedis;
let fleet: Fleet;
let proxy: TcpProxy;
let source: Redis | undefined;

beforeEach(async () => {
  redis = await startRedis();
  fleet = new Fleet(redis.url);
  proxy = await TcpProxy.start(redis.url);
});
afterEach(async () => {
  await fleet.close();
  source?.disconnect();
  source = undefined;
  await proxy.close();
  await redis.stop();
});

interface Caller {
  readonly app: INestApplicationContext;
  readonly watcher: FunctionReadinessWatcher;
  readonly told: string[];
}

async function startCaller(connection: unknown, pollIntervalMs = 50): Promise<Caller> {
  const app = await fleet.start({ options: { worker: false, connection, pollIntervalMs } });
  const watcher = app.get(FunctionReadinessWatcher);
  const told: string[] = [];
  watcher.on('degraded', ({ functions }) => told.push(`degraded ${functions}`));
  watcher.on('restored', ({ functions }) => told.push(`restored ${functions}`));
  return { app, watcher, told };
}

async function startWorkers(): Promise<EnhancedFunctionRegistry> {
  return (await fleet.start({ options: { leaseMs: 60_000 } })).get(EnhancedFunctionRegistry);
}

/** A user that may do everything but pub/sub. */
async function userWithoutChannels(): Promise<string> {
  await fleet.redis.acl('SETUSER', 'app', 'on', '>secret', '~*', '+@all', 'resetchannels');
  return redis.url.replace('redis://', 'redis://app:secret@');
}

/** A connection whose subscriber alone goes through the proxy. */
function subscriberThroughProxy(): Redis {
  const client = new Redis(redis.url, { lazyConnect: true });
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (own: Partial<RedisOptions> = {}) =>
    duplicate(
      own.connectionName?.endsWith(':subscriber') === true
        ? { ...own, port: Number(new URL(proxy.url).port) }
        : own,
    );
  source = client;
  return client;
}

function wait(watcher: FunctionReadinessWatcher): Promise<WorkerInfo> {
  return watcher.waitForFunction(...FN, 15_000);
}

describe('without the permission for channels', () => {
  it('a waiter is released by polling, and the watcher says that it is degraded', async () => {
    const { watcher, told } = await startCaller(await userWithoutChannels());
    const waiting = wait(watcher);
    await eventually('it was told', () => told.length > 0);
    expect(told).toEqual(['degraded 1']);
    expect(watcher.degraded).toBe(true);
    expect(watcher.stats()).toEqual({ watches: 1, waiting: 1, polling: 1 });
    const workers = await startWorkers();
    await workers.registerWorker('w1', ...FN);
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    expect(told).toEqual(['degraded 1']);
  });

  it('the plain status still follows the registry', async () => {
    const { app } = await startCaller(await userWithoutChannels());
    const workers = await startWorkers();
    const registry = app.get(EnhancedFunctionRegistry);
    expect(await registry.getInstantWorkerStatus(...FN)).toMatchObject({ available: false });
    await workers.registerWorker('w1', ...FN);
    await eventually('it is seen', async () => {
      return (await registry.getInstantWorkerStatus(...FN)).available;
    });
    await workers.unregisterWorker('w1', ...FN);
    await eventually('its leaving is seen', async () => {
      return !(await registry.getInstantWorkerStatus(...FN)).available;
    });
  });

  it('goes back to notifications by itself when the permission is given', async () => {
    const { watcher, told } = await startCaller(await userWithoutChannels());
    const waiting = wait(watcher);
    await eventually('it was told', () => told.includes('degraded 1'));
    await fleet.redis.acl('SETUSER', 'app', 'allchannels');
    await eventually('its return was told', () => told.includes('restored 1'));
    expect(watcher.degraded).toBe(false);
    expect(watcher.stats()).toEqual({ watches: 1, waiting: 1, polling: 0 });
    const counts = await fleet.redis.pubsub('NUMSUB', `${fleet.prefix}function:ready:resize:media`);
    expect(Number(counts[1])).toBe(1);
    const workers = await startWorkers();
    await workers.registerWorker('w1', ...FN);
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    expect(told).toEqual(['degraded 1', 'restored 1']);
  });

  it('notices the permission being taken away and given back', async () => {
    const url = await userWithoutChannels();
    await fleet.redis.acl('SETUSER', 'app', 'allchannels');
    const { watcher, told } = await startCaller(url);
    const waiting = wait(watcher);
    await eventually('it is subscribed', async () => {
      const counts = await fleet.redis.pubsub(
        'NUMSUB',
        `${fleet.prefix}function:ready:resize:media`,
      );
      return Number(counts[1]) === 1;
    });
    await fleet.redis.acl('SETUSER', 'app', 'resetchannels');
    await eventually('it was told', () => told.includes('degraded 1'));
    await eventually('its new connection was refused', async () => {
      expect(JSON.stringify(await fleet.redis.acl('LOG'))).toContain('"reason","channel"');
    });
    await fleet.redis.acl('SETUSER', 'app', 'allchannels');
    await eventually('its return was told', () => told.includes('restored 1'));
    const workers = await startWorkers();
    await workers.registerWorker('w1', ...FN);
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
  });

  it('ending the watch, or the application, is not told as a return', async () => {
    const { app, watcher, told } = await startCaller(await userWithoutChannels());
    const first = wait(watcher).catch(() => undefined);
    await eventually('it was told', () => told.length > 0);
    await watcher.stopWatching(...FN);
    await first;
    expect(told).toEqual(['degraded 1']);
    const second = wait(watcher).catch(() => undefined);
    await eventually('it polls', () => watcher.stats().polling === 1);
    await fleet.stop(app);
    await second;
    expect(told).toEqual(['degraded 1']);
  });
});

describe('when only the subscriber is cut off', () => {
  it('waiters are released by polling, and by notification after its return', async () => {
    const { app, watcher, told } = await startCaller(subscriberThroughProxy());
    const workers = await startWorkers();
    await app.get(EnhancedFunctionRegistry).getInstantWorkerStatus(...FN);
    proxy.refuse();
    await eventually('it was told', () => told.includes('degraded 1'));
    const during = wait(watcher);
    await workers.registerWorker('w1', ...FN);
    await expect(during).resolves.toMatchObject({ workerId: 'w1' });
    await workers.unregisterWorker('w1', ...FN);
    proxy.accept();
    await eventually('its return was told', () => told.includes('restored 1'));
    expect(watcher.degraded).toBe(false);
    // Everything was read since: the worker that left meanwhile is not remembered.
    expect(await app.get(EnhancedFunctionRegistry).getInstantWorkerStatus(...FN)).toMatchObject({
      workers: 0,
    });
    const after = wait(watcher);
    await workers.registerWorker('w2', ...FN);
    await expect(after).resolves.toMatchObject({ workerId: 'w2' });
    expect(told).toEqual(['degraded 1', 'restored 1']);
  });

  it('a function watched for the first time meanwhile is polled, and subscribed to later', async () => {
    const { app, watcher, told } = await startCaller(subscriberThroughProxy());
    const manager = app.get(NotificationManager);
    const workers = await startWorkers();
    proxy.refuse();
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    const waiting = wait(watcher);
    await workers.registerWorker('w1', ...FN);
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    expect(watcher.degraded).toBe(true);
    proxy.accept();
    await eventually('it is back', () => !watcher.degraded);
    await eventually('it is subscribed', async () => {
      const counts = await fleet.redis.pubsub(
        'NUMSUB',
        `${fleet.prefix}function:ready:resize:media`,
      );
      return Number(counts[1]) === 1;
    });
    expect(told.filter((text) => text.startsWith('restored')).length).toBe(
      told.filter((text) => text.startsWith('degraded')).length,
    );
  });

  it('all functions are told once, and restored once', async () => {
    const { app, told } = await startCaller(subscriberThroughProxy());
    const registry = app.get(EnhancedFunctionRegistry);
    for (let n = 0; n < 20; n += 1) await registry.getInstantWorkerStatus(`fn-${n}`, 'media');
    proxy.refuse();
    await eventually('it was told', () => told.length > 0);
    proxy.accept();
    await eventually('its return was told', () => told.length > 1);
    expect(told).toEqual(['degraded 20', 'restored 20']);
  });
});

describe('when Redis itself goes away', () => {
  it('a waiter is released after its return, by a worker that came meanwhile', async () => {
    const { watcher, told } = await startCaller(proxy.url);
    const workers = await startWorkers();
    const waiting = wait(watcher);
    await eventually('it waits', () => watcher.stats().waiting === 1);
    proxy.refuse();
    await eventually('it was told', () => told.includes('degraded 1'));
    await workers.registerWorker('w1', ...FN);
    proxy.accept();
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    await eventually('its return was told', () => told.includes('restored 1'));
  });

  it('a waiter is released when a killed Redis is back, empty, and its worker registers anew', async () => {
    const { watcher, told } = await startCaller(redis.url);
    const workers = await startWorkers();
    const waiting = wait(watcher);
    await eventually('it waits', () => watcher.stats().waiting === 1);
    await redis.kill('SIGKILL');
    await eventually('it was told', () => told.includes('degraded 1'));
    await redis.restart();
    await eventually('the worker could register', async () => {
      await workers.registerWorker('w1', ...FN);
    });
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    await eventually('its return was told', () => told.includes('restored 1'));
  });

  it('a wait that began without it ends at its timeout, and says why', async () => {
    const { watcher } = await startCaller(proxy.url);
    proxy.refuse();
    await eventually('it is known', () => watcher.degraded);
    await expect(watcher.waitForFunction(...FN, 50)).rejects.toMatchObject({
      code: 'READINESS_TIMEOUT',
      cause: { code: 'BACKEND_UNAVAILABLE' },
      details: {
        situation: expect.stringMatching(
          /^the registry could not be read: .* no answer from Redis at redis:\/\/127/,
        ),
      },
    });
  });

  it('a subscriber that is killed again and again loses no waiter', async () => {
    const { watcher } = await startCaller(redis.url, 60_000);
    const workers = await startWorkers();
    for (let round = 0; round < 5; round += 1) {
      const fn = [`fn-${round}`, 'media'] as const;
      const waiting = watcher.waitForFunction(...fn, 15_000);
      const killed = killSubscribers(fleet.redis);
      await workers.registerWorker('w1', ...fn);
      await killed;
      await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    }
  });
});
