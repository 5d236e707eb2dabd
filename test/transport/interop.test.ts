import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory,
  Ctx,
  EventPattern,
  Payload,
  RedisContext,
  Transport,
  type ClientProxy,
  type MicroserviceOptions,
} from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionReadinessWatcher,
  NotificationManager,
  type ReadyNotification,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';

class Resizer {
  @FunctionHandler({ name: 'resize', workflowId: 'media' })
  resize(): string {
    return 'resized';
  }
}

/** Everything that a stock application, which knows nothing of this library, received. */
const received: { via: string; channel: string; data: Record<string, unknown> }[] = [];

@Controller()
class StockListeners {
  @EventPattern<string>('function:ready:resize:media')
  ready(@Payload() data: Record<string, unknown>, @Ctx() context: RedisContext): void {
    received.push({ via: 'exact', channel: context.getChannel(), data });
  }

  @EventPattern<string>('function:ready:*')
  anyReady(@Payload() data: Record<string, unknown>, @Ctx() context: RedisContext): void {
    received.push({ via: 'wildcard', channel: context.getChannel(), data });
  }

  @EventPattern<string>('function:offline:*')
  offline(@Payload() data: Record<string, unknown>): void {
    received.push({ via: 'offline', channel: '', data });
  }

  @EventPattern<string>('worker:health:*')
  health(@Payload() data: Record<string, unknown>): void {
    received.push({ via: 'health', channel: '', data });
  }

  @EventPattern<string>('app:news')
  news(@Payload() data: Record<string, unknown>): void {
    received.push({ via: 'news', channel: 'app:news', data });
  }
}

@Module({ controllers: [StockListeners] })
class StockModule {}

/** A Redis of its own: a stock application knows no key prefix, and would hear other tests' workers. */
describe('a stock Nest application over Transport.REDIS', () => {
  const closers: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    received.length = 0;
  });

  async function start(): Promise<{ redis: StartedRedis; fleet: Fleet }> {
    const redis = await startRedis();
    closers.push(() => redis.stop());
    const fleet = new Fleet(redis.url);
    closers.push(() => fleet.close());
    return { redis, fleet };
  }

  const ours = { keyPrefix: '' };

  it('receives our notifications through its @EventPattern, exact and with a wildcard', async () => {
    const { redis, fleet } = await start();
    const stock = await NestFactory.createMicroservice<MicroserviceOptions>(StockModule, {
      transport: Transport.REDIS,
      options: { host: '127.0.0.1', port: redis.port, wildcards: true },
      logger: false,
      abortOnError: false,
    });
    closers.push(() => stock.close());
    await stock.listen();
    const worker = await fleet.start({
      providers: [Resizer],
      options: { ...ours, workerId: 'w-1' },
    });
    const by = (via: string): (typeof received)[number] | undefined =>
      received.find((event) => event.via === via);
    await eventually('the exact listener heard it', () => by('exact') !== undefined);
    await eventually('the wildcard listener heard it', () => by('wildcard') !== undefined);
    expect(by('wildcard')).toEqual({
      via: 'wildcard',
      channel: 'function:ready:resize:media',
      data: {
        type: 'ready',
        functionName: 'resize',
        workflowId: 'media',
        workerId: 'w-1',
        epoch: expect.any(Number),
        seq: 1,
        timestamp: expect.any(Number),
        processId: expect.any(String),
        definition: expect.any(String),
        healthy: true,
        generation: 0,
      },
    });
    const registry = worker.get(EnhancedFunctionRegistry);
    await registry.notifyWorkerHealth('resize', 'media', 'w-1', false, 'timeout');
    await eventually('health is heard', () => by('health') !== undefined);
    expect(by('health')?.data).toMatchObject({ type: 'health', healthy: false, reason: 'timeout' });
    await worker.get(NotificationManager).publish('app:news', { of: 'our publish()' });
    await eventually('our own event is heard', () => by('news') !== undefined);
    expect(by('news')?.data).toEqual({ of: 'our publish()' });
    await fleet.stop(worker);
    await eventually('the leave is heard', () => by('offline') !== undefined);
    expect(by('offline')?.data).toMatchObject({ type: 'offline', reason: 'shutdown' });
  });

  it('receives them on exact channels without the wildcards option', async () => {
    const { redis, fleet } = await start();
    const stock = await NestFactory.createMicroservice<MicroserviceOptions>(StockModule, {
      transport: Transport.REDIS,
      options: { host: '127.0.0.1', port: redis.port },
      logger: false,
      abortOnError: false,
    });
    closers.push(() => stock.close());
    await stock.listen();
    await fleet.start({ providers: [Resizer], options: ours });
    await eventually('the exact listener heard it', () => received.length > 0);
    expect(received[0]).toMatchObject({
      via: 'exact',
      channel: 'function:ready:resize:media',
      data: { type: 'ready', functionName: 'resize', workflowId: 'media' },
    });
  });

  function stockClient(redis: StartedRedis): ClientProxy {
    const client = ClientProxyFactory.create({
      transport: Transport.REDIS,
      options: { host: '127.0.0.1', port: redis.port },
    });
    closers.push(() => client.close() as unknown);
    return client;
  }

  it('reaches our listeners with its emit, on channels and through patterns', async () => {
    const { redis, fleet } = await start();
    const app = await fleet.start({ options: ours });
    const manager = app.get(NotificationManager);
    const heard: unknown[] = [];
    await manager.subscribe('app:news', ({ data }) => heard.push(['channel', data]));
    await manager.subscribePattern('app:*', ({ channel, data }) =>
      heard.push(['pattern', channel, data]),
    );
    await lastValueFrom(stockClient(redis).emit('app:news', { id: 7 }));
    await eventually('both heard it', () => heard.length === 2);
    expect(heard).toEqual(
      expect.arrayContaining([
        ['channel', { id: 7 }],
        ['pattern', 'app:news', { id: 7 }],
      ]),
    );
  });

  it('reaches our listeners, and those who wait, with a notification on one of the four channels', async () => {
    const { redis, fleet } = await start();
    const app = await fleet.start({ options: ours });
    const heard: ReadyNotification[] = [];
    await app
      .get(NotificationManager)
      .subscribe<ReadyNotification>('function:ready:foreign:stock', ({ data }) => heard.push(data));
    const watcher = app.get(FunctionReadinessWatcher);
    const waiting = watcher.waitForFunction('foreign', 'stock', 15_000);
    await watcher.watchSynced({
      functionName: 'foreign',
      workflowId: 'stock',
      id: 'foreign:stock',
    });
    const notification = {
      type: 'ready',
      functionName: 'foreign',
      workflowId: 'stock',
      workerId: 'a-stock-worker',
      epoch: 1,
      seq: 1,
      // Redis's clock, which is this host's: not older than what the watch has read.
      timestamp: Date.now() + 1_000,
    };
    await lastValueFrom(stockClient(redis).emit('function:ready:foreign:stock', notification));
    await expect(waiting).resolves.toMatchObject({ workerId: 'a-stock-worker', epoch: 1 });
    await eventually('the listener heard it', () => heard.length === 1);
    expect(heard).toEqual([notification]);
  });

  it('is dropped and counted when what it emits on one of the four channels is no notification', async () => {
    const { redis, fleet } = await start();
    const app = await fleet.start({ options: ours });
    const manager = app.get(NotificationManager);
    const heard: unknown[] = [];
    await manager.subscribe('function:ready:foreign:stock', ({ data }) => heard.push(data));
    const client = stockClient(redis);
    await lastValueFrom(client.emit('function:ready:foreign:stock', { hello: 'there' }));
    await eventually('it is counted', () => manager.stats().dropped === 1);
    expect(heard).toEqual([]);
  });
});
