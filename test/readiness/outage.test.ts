import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Injectable, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionRegistry,
  FunctionsError,
  type FunctionsOptions,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet, rootModule } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

/** Less than a command takes that is not answered. */
const ABOUT_A_SECOND_MS = 2_900;
/** Less than a wait takes for what may come within a second. */
const AT_ONCE_MS = 950;

let redis: StartedRedis;
let fleet: Fleet;
let proxy: TcpProxy;

beforeEach(async () => {
  redis = await startRedis();
  fleet = new Fleet(redis.url);
  proxy = await TcpProxy.start(redis.url);
});
afterEach(async () => {
  await fleet.close();
  await proxy.close();
  await redis.stop();
});

async function caller(options: FunctionsOptions = {}): Promise<EnhancedFunctionRegistry> {
  const app = await fleet.start({ options: { worker: false, connection: proxy.url, ...options } });
  return app.get(EnhancedFunctionRegistry);
}

/** What an attempt fails with, and how long it took. */
async function failure(
  attempt: () => Promise<unknown>,
): Promise<{ readonly error: FunctionsError; readonly ms: number }> {
  const startedAt = Date.now();
  const error: unknown = await attempt().then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  return { error: error as FunctionsError, ms: Date.now() - startedAt };
}

const askers = [
  {
    title: "a call with ifUnavailable: 'fail'",
    ask: (registry: EnhancedFunctionRegistry) =>
      registry.call('work', {}, { ifUnavailable: 'fail' }),
  },
  {
    title: 'getInstantWorkerStatus',
    ask: (registry: EnhancedFunctionRegistry) => registry.getInstantWorkerStatus('work', 'default'),
  },
];

describe.each(askers)('$title, while Redis is away', ({ ask }) => {
  it('fails within about a second, and at once from then on', async () => {
    const registry = await caller();
    proxy.refuse();
    const first = await failure(() => ask(registry));
    expect(first.error.code).toBe('BACKEND_UNAVAILABLE');
    expect(first.ms).toBeLessThan(ABOUT_A_SECOND_MS);
    const second = await failure(() => ask(registry));
    expect(second.error.code).toBe('BACKEND_UNAVAILABLE');
    expect(second.ms).toBeLessThan(AT_ONCE_MS);
    expect(second.error.message).toContain(proxy.url);
  });

  it('fails at once in a process that never had a connection', async () => {
    await redis.kill();
    const registry = await caller({ connection: redis.url });
    const { error, ms } = await failure(() => ask(registry));
    await redis.restart();
    expect(error).toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    expect(ms).toBeLessThan(AT_ONCE_MS);
  });

  it('fails within about a second when Redis takes the question and does not answer', async () => {
    const registry = await caller();
    proxy.hold();
    const { error, ms } = await failure(() => ask(registry));
    proxy.release();
    expect(error.code).toBe('BACKEND_UNAVAILABLE');
    expect(ms).toBeLessThan(ABOUT_A_SECOND_MS);
  });

  it('waits for a connection that is just being made', async () => {
    const registry = await caller();
    proxy.cut();
    const answer = await ask(registry).catch((error: unknown) => error);
    expect(answer).not.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  });
});

describe('what was read before Redis went away', () => {
  it('is what a status, and a call that shall not wait, are answered from', async () => {
    const registry = await caller();
    await registry.getInstantWorkerStatus('work', 'default');
    proxy.refuse();
    // From then on whoever has to read is refused without a wait.
    const unread = await failure(() => registry.getInstantWorkerStatus('unread', 'default'));
    expect(unread.error.code).toBe('BACKEND_UNAVAILABLE');
    await expect(registry.getInstantWorkerStatus('work', 'default')).resolves.toMatchObject({
      available: false,
    });
    const { error, ms } = await failure(() => registry.call('work', {}, { ifUnavailable: 'fail' }));
    expect(error.code).toBe('NO_WORKER');
    expect(ms).toBeLessThan(AT_ONCE_MS);
  });
});

describe('a wait without Redis', () => {
  it('names Redis and the last error of the connection, not the name of the worker', async () => {
    await redis.kill();
    const registry = await caller({ connection: redis.url });
    const { error } = await failure(() => registry.waitForFunction('work', 'default', 50));
    await redis.restart();
    expect(error).toMatchObject({
      code: 'READINESS_TIMEOUT',
      retryable: true,
      message: expect.stringMatching(/could not be read: .*redis:\/\/127.*ECONNREFUSED/),
    });
    expect(error.message).not.toContain('exact function name');
  });

  it('says that Redis refuses the client when the password is wrong', async () => {
    await fleet.redis.config('SET', 'requirepass', 'right');
    await fleet.redis.auth('right');
    const connection = redis.url.replace('redis://', 'redis://:wrong@');
    const registry = await caller({ connection });
    const plain = await registry.callFunction('work', 'default', {}, {}, 50);
    const { error } = await failure(() => registry.waitForFunction('work', 'default', 50));
    // The plain registry's look is cut short by its own timeout here, and has not heard why.
    expect(plain.error?.code).toBe('READINESS_TIMEOUT');
    for (const text of [error.message]) {
      expect(text).toMatch(/Redis at \S+ refuses this client \((WRONGPASS|NOAUTH) /);
      expect(text).not.toContain('no answer');
      expect(text).not.toContain('wrong@');
    }
    await fleet.redis.config('SET', 'requirepass', '');
  });

  it('does not fill the log with the channels that cannot be subscribed to', async () => {
    const logger = new CapturingLogger();
    const apps = new NestApps(redis.url);
    await redis.kill();
    // A process that cannot join, which tries under a new session each time, and three watches beside it.
    const app = await apps.context(rootModule(apps.options({ pollIntervalMs: 10 })), logger);
    const registry = app.get(EnhancedFunctionRegistry);
    const waits = ['a', 'b', 'c'].map((name) =>
      failure(() => registry.waitForFunction(name, 'default', 7_000)),
    );
    await Promise.all(waits);
    await redis.restart();
    await apps.close();
    const refusals = (level: 'warn' | 'debug'): string[] =>
      logger.of('NOTIFICATIONS', level).filter((text) => text.startsWith('could not subscribe'));
    expect(refusals('warn')).toHaveLength(1);
    expect(refusals('debug').length).toBeGreaterThan(3);
  });
});

describe('an own function that is called before the application is up', () => {
  /** Time to look into the registry, on a busy machine too: who could not look does not know. */
  const LOOK_MS = 500;
  const situations: string[] = [];

  @Injectable()
  class Hasty implements OnModuleInit, OnApplicationBootstrap {
    constructor(private readonly registry: EnhancedFunctionRegistry) {}

    async onModuleInit(): Promise<void> {
      const { error } = await failure(() =>
        this.registry.call('work', {}, { readinessTimeoutMs: LOOK_MS }),
      );
      situations.push(error.message);
    }

    async onApplicationBootstrap(): Promise<void> {
      const { error } = await this.registry.callFunction('work', 'default', {}, {}, LOOK_MS);
      situations.push(error?.message ?? '');
    }
  }

  it('is said to be hosted here, and registered only when the application is up', async () => {
    const app = await fleet.start({ providers: [Hasty, hosting('work', () => 'done')] });
    expect(situations).toEqual([
      expect.stringContaining('this process hosts it, and registers its functions only when'),
      expect.stringContaining('this process hosts it, and registers its functions only when'),
    ]);
    await expect(app.get(EnhancedFunctionRegistry).call('work')).resolves.toBe('done');
  });
});

describe('a plain call that finds no worker', () => {
  it('says what the enhanced one says', async () => {
    const registry = await caller();
    const plain = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
    const { error } = await failure(() => registry.waitForFunction('work', 'default', 1_000));
    const outcome = await plain.callFunction('work', 'default', {}, {}, 1_000);
    expect(outcome.error?.message).toBe(error.message);
  });
});
