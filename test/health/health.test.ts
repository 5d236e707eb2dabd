import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Injectable,
  Module,
  type DynamicModule,
  type INestApplication,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { Redis } from 'ioredis';
import request from 'supertest';
import type { App } from 'supertest/types.js';
import { CLOCK } from '../../src/backend/tokens.js';
import { systemClock } from '../../src/common/clock.js';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsHealthIndicator,
  FunctionsModule,
  FunctionRegistry,
  type FunctionsOptions,
} from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { redisUrl } from '../harness/apps.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

const apps = new NestApps();
afterEach(() => apps.close());

let running: { started: Deferred<void>; release: Deferred<void> };

@Injectable()
class Worker {
  @FunctionHandler({ name: 'work' })
  async work(): Promise<string> {
    running.started.resolve();
    await running.release.promise;
    return 'worked';
  }
}

@Module({})
class Root {}

function root(
  options: FunctionsOptions,
  providers: NonNullable<DynamicModule['providers']> = [Worker],
): DynamicModule {
  return { module: Root, imports: [FunctionsModule.forRoot(apps.options(options))], providers };
}

type Platform = 'Express' | 'Fastify';

async function listen(
  module: DynamicModule,
  platform: Platform = 'Express',
): Promise<INestApplication> {
  const settings = { logger: false as const, abortOnError: false };
  const app =
    platform === 'Express'
      ? await NestFactory.create(module, settings)
      : await NestFactory.create(module, new FastifyAdapter(), settings);
  apps.track(app);
  await app.listen(0, '127.0.0.1');
  return app;
}

interface Answer {
  readonly status: number;
  readonly body: {
    readonly status: string;
    readonly details: Record<string, Record<string, unknown>>;
  };
}

async function get(app: INestApplication, path: string): Promise<Answer> {
  const answer = await request(app.getHttpServer() as App).get(path);
  return { status: answer.status, body: answer.body as Answer['body'] };
}

/** The library's part of an answer. */
async function details(app: INestApplication, path: string): Promise<Record<string, unknown>> {
  return (await get(app, path)).body.details['functions'] ?? {};
}

describe.each<[Platform]>([['Express'], ['Fastify']])('the health controller on %s', (platform) => {
  it('says that all is well, each path its part', async () => {
    const app = await listen(root({ health: true, workerId: 'w-1' }), platform);
    const ready = {
      status: 'up',
      state: 'active',
      redis: 'up',
      readiness: 'notifications',
      functions: [
        { functionName: 'work', workflowId: 'default', workerId: 'w-1', status: 'ready' },
      ],
      required: [],
    };
    const live = {
      status: 'up',
      eventLoopLagMs: expect.any(Number),
      readLoop: { lastTurnMs: expect.any(Number), inFlight: 0 },
    };
    await eventually('pub/sub is connected', async () => {
      expect(await details(app, '/health/ready')).toEqual(ready);
    });
    expect(await details(app, '/health/live')).toEqual(live);
    expect(await details(app, '/health/startup')).toEqual({ status: 'up', state: 'active' });
    expect(await details(app, '/health')).toEqual({ ...ready, ...live });
    for (const path of ['/health', '/health/live', '/health/ready', '/health/startup']) {
      const { status, body } = await get(app, path);
      expect({ path, status, ok: body.status }).toEqual({ path, status: 200, ok: 'ok' });
    }
  });

  it('stands under a path of its own', async () => {
    const app = await listen(root({ health: { path: '/internal/status' } }), platform);
    await eventually('it is well', async () => {
      expect((await get(app, '/internal/status')).status).toBe(200);
    });
    expect((await get(app, '/internal/status/live')).status).toBe(200);
    expect((await get(app, '/health')).status).toBe(404);
  });

  it('is not there when it is not asked for', async () => {
    const app = await listen(root({}), platform);
    expect((await get(app, '/health')).status).toBe(404);
    expect((await get(app, '/health/live')).status).toBe(404);
  });

  it('comes with forRootAsync, beside the factory', async () => {
    const functions = FunctionsModule.forRootAsync({
      health: { path: 'up', required: [{ functionName: 'gone' }] },
      useFactory: () => apps.options({ workflowId: 'shop' }),
    });
    const app = await listen({ module: Root, imports: [functions] }, platform);
    expect((await get(app, '/up/live')).status).toBe(200);
    expect(await details(app, '/up/ready')).toMatchObject({
      required: [{ functionName: 'gone', workflowId: 'shop', status: 'unavailable' }],
    });
  });

  it('says 503 from the moment of the shutdown, while a call still runs', async () => {
    running = { started: createDeferred(), release: createDeferred() };
    const app = await listen(root({ health: true }), platform);
    const caller = await apps.context(root({ worker: false }, []));
    const call = caller.get(EnhancedFunctionRegistry).call('work');
    await running.started.promise;
    // A connection of its own for the questions: Nest closes the server when the drain is over.
    const closed = app.close();
    const drained = await eventually('it is not ready', async () => {
      const answer = await get(app, '/health/ready');
      expect(answer.status).toBe(503);
      return answer;
    });
    expect(drained.body.details['functions']).toMatchObject({
      status: 'down',
      state: 'draining',
      message: 'this process is shutting down',
    });
    expect((await get(app, '/health')).status).toBe(503);
    expect((await get(app, '/health/live')).status).toBe(200);
    running.release.resolve();
    await expect(call).resolves.toBe('worked');
    await closed;
  });
});

describe('ready', () => {
  it('needs a healthy worker of each required function, and says which one lacks what', async () => {
    const required = [{ functionName: 'work' }, { functionName: 'charge', workflowId: 'billing' }];
    const app = await listen(root({ health: { required }, worker: false }, []));
    const before = await get(app, '/health/ready');
    expect(before.status).toBe(503);
    expect(before.body.status).toBe('error');
    expect(before.body.details['functions']).toMatchObject({
      status: 'down',
      message: expect.stringContaining('work (workflow default) lacks a healthy worker'),
      required: [
        {
          functionName: 'work',
          workflowId: 'default',
          status: 'unavailable',
          healthyWorkers: 0,
          lacks: expect.stringContaining('no worker ever registered'),
        },
        { functionName: 'charge', workflowId: 'billing', status: 'unavailable' },
      ],
    });
    const worker = await apps.context(root({ workerId: 'w-1' }));
    await worker.get(FunctionRegistry).registerWorker('w-1', 'charge', 'billing');
    await eventually('it is ready', async () => (await get(app, '/health/ready')).status === 200);
    await worker
      .get(EnhancedFunctionRegistry)
      .notifyWorkerHealth('charge', 'billing', 'w-1', false, 'out of memory');
    await eventually('it is not ready again', async () => {
      const after = await get(app, '/health/ready');
      expect(after.status).toBe(503);
      expect(after.body.details['functions']).toMatchObject({
        message: expect.stringMatching(
          /charge \(workflow billing\).*w-1 is unhealthy \(out of memory\)/,
        ),
      });
    });
    expect((await get(app, '/health/live')).status).toBe(200);
  });

  it('goes with Redis, which live does not', async () => {
    const redis = await startRedis();
    apps.track({ close: () => redis.stop() });
    const app = await listen(root({ connection: redis.url, health: true }));
    await eventually('it is ready', async () => (await get(app, '/health')).status === 200);
    await redis.kill();
    await eventually('it is not ready', async () => {
      const answer = await get(app, '/health/ready');
      expect(answer.status).toBe(503);
      expect(answer.body.details['functions']).toMatchObject({
        redis: 'down',
        readiness: 'polling',
        message: expect.stringMatching(/^Redis does not answer: .*127\.0\.0\.1/),
      });
    });
    expect((await get(app, '/health')).status).toBe(503);
    expect((await get(app, '/health/live')).status).toBe(200);
    expect((await get(app, '/health/startup')).status).toBe(200);
    await redis.restart();
    await eventually('it is ready again', async () => (await get(app, '/health')).status === 200);
  });

  it('answers in bounded time when Redis does not', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    apps.track(proxy);
    const app = await listen(root({ connection: proxy.url, health: true }));
    await eventually('it is ready', async () => (await get(app, '/health')).status === 200);
    proxy.hold();
    const answer = await get(app, '/health/ready');
    proxy.release();
    expect(answer.status).toBe(503);
    expect(answer.body.details['functions']).toMatchObject({
      redis: 'down',
      message: expect.stringContaining('no answer within 1000 ms'),
    });
  });

  it('shows that readiness runs on polling, and is not down for it', async () => {
    const redis = await startRedis();
    apps.track({ close: () => redis.stop() });
    const admin = new Redis(redis.url);
    apps.track({ close: () => admin.disconnect() });
    await admin.acl('SETUSER', 'quiet', 'on', '>secret', '~*', '+@all', 'resetchannels');
    const connection = `redis://quiet:secret@127.0.0.1:${redis.port}`;
    const health = { required: [{ functionName: 'work' }] };
    const app = await listen(root({ connection, health, pollIntervalMs: 20 }));
    await eventually('it is ready', async () => {
      const answer = await get(app, '/health');
      expect(answer.status).toBe(200);
      expect(answer.body.details['functions']).toMatchObject({ readiness: 'polling' });
    });
  });

  it('tells neither password nor anything else of the connection', async () => {
    const redis = await startRedis({ args: ['--requirepass', 'hunter2'] });
    const connection = `redis://:hunter2@127.0.0.1:${redis.port}`;
    apps.track({ close: () => redis.stop() });
    const app = await listen(root({ connection, health: true }));
    await redis.kill();
    const answer = await get(app, '/health');
    expect(answer.status).toBe(503);
    expect(JSON.stringify(answer.body)).not.toContain('hunter2');
    await redis.restart();
  });
});

describe('startup', () => {
  it('is down until the process has been registered once, and stays up then', async () => {
    const redis = await startRedis();
    apps.track({ close: () => redis.stop() });
    await redis.kill();
    const app = await listen(root({ connection: redis.url, health: true }));
    const before = await get(app, '/health/startup');
    expect(before.status).toBe(503);
    expect(before.body.details['functions']).toMatchObject({
      state: 'joining',
      message: 'not registered yet (joining)',
    });
    expect(await details(app, '/health/ready')).toMatchObject({
      functions: [{ functionName: 'work', status: 'not registered', lacks: expect.any(String) }],
    });
    await redis.restart();
    await eventually('it started', async () => (await get(app, '/health/startup')).status === 200);
  });
});

describe('live', () => {
  it('is down when the read loop has stopped, although Redis answers, and up when it turns again', async () => {
    // Redis holds everything that writes, so the blocking read of calls never comes back and its replacement
    // does not either, while PING is answered: what a stuck proxy in front of Redis does to the read.
    const redis = await startRedis();
    apps.track({ close: () => redis.stop() });
    const admin = new Redis(redis.url);
    apps.track({ close: () => admin.disconnect() });
    const app = await listen(root({ connection: redis.url, health: true, leaseMs: 60_000 }));
    await eventually('it is live', async () => (await get(app, '/health/live')).status === 200);
    await admin.call('CLIENT', 'PAUSE', '15000', 'WRITE');
    await eventually('it is not live', async () => {
      const answer = await get(app, '/health/live');
      expect(answer.status).toBe(503);
      expect(answer.body.details['functions']).toMatchObject({
        message: expect.stringMatching(/the read loop has not turned for \d+ ms/),
      });
    });
    expect((await get(app, '/health')).status).toBe(503);
    await admin.call('CLIENT', 'UNPAUSE');
    await eventually(
      'it is live again',
      async () => (await get(app, '/health/live')).status === 200,
    );
  });

  it('is down while the event loop is stuck, and up when it turns again', async () => {
    let skewMs = 0;
    const clock = { ...systemClock, now: () => Date.now() + skewMs };
    const module = await Test.createTestingModule({ imports: [root({})] })
      .overrideProvider(CLOCK)
      .useValue(clock)
      .compile();
    const app = apps.track(module.createNestApplication());
    await app.init();
    const health = app.get(FunctionsHealthIndicator);
    expect(health.live()).toMatchObject({ functions: { status: 'up' } });
    // What a timer sees that should have run 20 s ago.
    skewMs = 20_000;
    expect(health.live()).toMatchObject({
      functions: { status: 'down', message: expect.stringMatching(/event loop is \d{5} ms late/) },
    });
    await eventually('it is live again', () => health.live().functions?.status === 'up');
  });

  it('says none of a read loop where nothing is hosted', async () => {
    const app = await listen(root({ health: true, worker: false }, []));
    expect(await details(app, '/health/live')).toMatchObject({ status: 'up', readLoop: 'none' });
  });
});

describe('FunctionsHealthIndicator', () => {
  it("stands in an application's own Terminus check, under its own key, beside others", async () => {
    @Controller('own')
    class OwnHealth {
      constructor(
        private readonly health: HealthCheckService,
        private readonly functions: FunctionsHealthIndicator,
      ) {}

      @Get()
      @HealthCheck()
      check(): unknown {
        return this.health.check([
          () => this.functions.ready('my-functions'),
          () => ({ database: { status: 'up' as const } }),
        ]);
      }
    }

    const app = await listen({
      module: Root,
      imports: [FunctionsModule.forRoot(apps.options()), TerminusModule],
      controllers: [OwnHealth],
      providers: [Worker],
    });
    const { status, body } = await get(app, '/own');
    expect(status).toBe(200);
    expect(body.details['my-functions']).toMatchObject({ status: 'up', redis: 'up' });
    expect(body.details['database']).toEqual({ status: 'up' });
    expect((await get(app, '/health')).status).toBe(404);
  });
});
