import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, Module, type INestApplicationContext, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload, Transport, type MicroserviceOptions } from '@nestjs/microservices';
import {
  EnhancedFunctionRegistry,
  type BottleneckNotification,
  type MetricsNotification,
} from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

jest.setTimeout(60_000);

/** What a stock application heard: by which pattern, and what. */
let received: { readonly by: string; readonly data: Record<string, unknown> }[];
const note = (by: string, data: Record<string, unknown>): void => void received.push({ by, data });

@Controller()
class Exact {
  @EventPattern<string>('function:metrics:resize:media')
  metrics(@Payload() data: Record<string, unknown>): void {
    note('metrics', data);
  }

  @EventPattern<string>('function:bottleneck:resize:media')
  bottleneck(@Payload() data: Record<string, unknown>): void {
    note('bottleneck', data);
  }
}

@Controller()
class Patterns {
  @EventPattern<string>('function:metrics:*')
  metrics(@Payload() data: Record<string, unknown>): void {
    note('metrics', data);
  }

  @EventPattern<string>('function:bottleneck:*')
  bottleneck(@Payload() data: Record<string, unknown>): void {
    note('bottleneck', data);
  }
}

const moduleOf = (controller: Type<unknown>): Type<unknown> => {
  class StockModule {}
  Module({ controllers: [controller] })(StockModule);
  return StockModule;
};

// A Redis of its own: a stock application knows no key prefix.
describe('a stock Nest application over Transport.REDIS', () => {
  const closers: (() => unknown)[] = [];
  let redis: Awaited<ReturnType<typeof startRedis>>;
  let app: INestApplicationContext;
  let busy: boolean;
  let gate: Deferred<void>;

  beforeEach(async () => {
    received = [];
    redis = await startRedis();
    closers.push(() => redis.stop());
    const fleet = new Fleet(redis.url);
    closers.push(() => fleet.close());
    const options = { keyPrefix: '', workflowId: 'media', leaseMs: 1_000 };
    busy = false;
    gate = createDeferred();
    const resize = (): unknown => (busy ? gate.promise : 1);
    const host = hosting({ name: 'resize', workflowId: 'media', concurrency: 5 }, resize);
    await fleet.start({ options, providers: [host] });
    app = await fleet.start({ options: { ...options, worker: false } });
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  async function listen(controller: Type<unknown>, wildcards: boolean): Promise<void> {
    const stock = await NestFactory.createMicroservice<MicroserviceOptions>(moduleOf(controller), {
      transport: Transport.REDIS as const,
      options: { host: '127.0.0.1', port: redis.port, wildcards },
      logger: false,
      abortOnError: false,
    });
    closers.push(() => stock.close());
    await stock.listen();
  }

  it.each([
    ['by their names', Exact, false],
    ['by a pattern', Patterns, true],
  ])('hears metrics and bottlenecks, subscribed %s', async (_, controller, wildcards) => {
    const registry = app.get(EnhancedFunctionRegistry);
    await listen(controller, wildcards);
    const of = <T>(type: string): T[] =>
      received
        .filter(({ by, data }) => by === type && data['type'] === type)
        .map(({ data }) => data as T);
    const answered = async (): Promise<boolean> => {
      await registry.call('resize');
      return of<MetricsNotification>('metrics').some(({ worker }) => (worker?.runs ?? 0) > 0);
    };
    await eventually('reports of a call', answered, 10_000);
    // From here on nothing is answered, and it piles up.
    busy = true;
    const calls: Promise<unknown>[] = [];
    const piling = setInterval(() => calls.push(registry.call('resize')), 20);
    closers.push(() => Promise.allSettled(calls));
    closers.push(() => gate.resolve());
    closers.push(() => clearInterval(piling));
    await eventually(
      'the bottleneck',
      () =>
        of<BottleneckNotification>('bottleneck').some(
          ({ functionName, kind, state }) =>
            functionName === 'resize' && kind === 'backlog' && state === 'began',
        ),
      15_000,
    );
    // What else came is what is documented.
    const types = received.map(({ by, data }) => `${by}: ${String(data['type'])}`);
    const known = [
      'metrics: metrics',
      'bottleneck: bottleneck',
      'metrics: probe',
      'bottleneck: probe',
    ];
    expect(types.filter((type) => !known.includes(type))).toEqual([]);
  });
});
