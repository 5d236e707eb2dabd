import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory,
  EventPattern,
  Payload,
  Transport,
  type MicroserviceOptions,
} from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { WorkflowNotifier, type WorkflowEvent } from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hearing } from './hearing.js';

const received: unknown[] = [];

@Controller()
class StockListeners {
  @EventPattern<string>('workflow:saved:media')
  saved(@Payload() data: unknown): void {
    received.push(['saved', data]);
  }

  @EventPattern<string>('workflow:stopped:a%3Ab')
  stopped(@Payload() data: unknown): void {
    received.push(['stopped', data]);
  }
}

@Module({ controllers: [StockListeners] })
class StockModule {}

// A Redis of its own: a stock application knows no key prefix.
describe('a stock Nest application over Transport.REDIS', () => {
  const closers: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  it('hears news about workflows, and its own are heard', async () => {
    const redis = await startRedis();
    closers.push(() => redis.stop());
    const fleet = new Fleet(redis.url);
    closers.push(() => fleet.close());
    const transport = Transport.REDIS as const;
    const options = { host: '127.0.0.1', port: redis.port };
    const stock = await NestFactory.createMicroservice<MicroserviceOptions>(StockModule, {
      transport,
      options,
      logger: false,
      abortOnError: false,
    });
    closers.push(() => stock.close());
    await stock.listen();
    const heard: WorkflowEvent[] = [];
    const app = await fleet.start({
      options: { keyPrefix: '', worker: false },
      providers: [hearing('ready', 'media', (event) => heard.push(event))],
    });
    const notifier = app.get(WorkflowNotifier);
    const saved = await notifier.notifySaved('media', { version: 7 });
    const stopped = await notifier.notifyStopped('a:b');
    await eventually('both are heard', () => received.length === 2);
    expect(received).toEqual([
      ['saved', saved],
      ['stopped', stopped],
    ]);
    const client = ClientProxyFactory.create({ transport, options });
    closers.push(() => client.close() as unknown);
    const news = { type: 'ready', workflowId: 'media', generation: 3, timestamp: 5 };
    await lastValueFrom(client.emit('workflow:ready:media', news));
    await eventually('its own are heard', () => heard.length === 1);
    expect(heard).toEqual([{ ...news, details: null, source: 'news' }]);
  });
});
