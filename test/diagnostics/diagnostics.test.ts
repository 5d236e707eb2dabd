import { afterEach, describe, expect, it } from '@jest/globals';
import { HttpException, Injectable, Module, type DynamicModule } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionContext,
  FunctionError,
  FunctionHandler,
  FunctionsModule,
  FunctionRegistry,
  NotificationManager,
  type FunctionsOptions,
} from '../../src/index.js';
import { Redis } from 'ioredis';
import { startRedis } from '../../tools/redis.mjs';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';

/** Stands in everything that no log may show. */
const MARKER = 'PSST-7f3a';

class Refused extends HttpException {
  constructor() {
    super({ message: 'refused', secret: MARKER }, 422);
  }
}

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'work' })
  work(input: { secret?: string }, context: FunctionContext): object {
    context.progress({ secret: MARKER });
    return { echo: input.secret, item: context.item, headers: context.headers };
  }

  @FunctionHandler({ name: 'typed', parameters: [{ name: 'n', type: 'number', required: true }] })
  typed(input: { n: number }): object {
    return { n: input.n, secret: MARKER };
  }

  @FunctionHandler({ name: 'early' })
  early(_input: object, context: FunctionContext): object {
    context.return({ secret: MARKER });
    return { secret: MARKER };
  }

  @FunctionHandler({ name: 'coded' })
  coded(): never {
    throw new FunctionError('CODED', 'with details', { details: { secret: MARKER } });
  }

  @FunctionHandler({ name: 'http' })
  http(): never {
    throw new Refused();
  }

  @FunctionHandler({ name: 'plain' })
  plain(): never {
    throw Object.assign(new Error('a bug'), { details: { secret: MARKER } });
  }

  @FunctionHandler({ name: 'value' })
  value(): never {
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- handlers do
    throw { message: 'an object', details: { secret: MARKER } };
  }
}

@Module({})
class Root {}

/** What it writes is everything: the diagnostics go through Nest's Logger and nowhere else. */
describe('the diagnostics', () => {
  const closers: (() => unknown)[] = [];
  const apps = new NestApps();
  afterEach(async () => {
    await apps.close();
    for (const close of closers.splice(0).reverse()) await close();
  });

  function root(
    options: FunctionsOptions,
    providers: NonNullable<DynamicModule['providers']> = [],
  ): DynamicModule {
    return { module: Root, imports: [FunctionsModule.forRoot(apps.options(options))], providers };
  }

  it('tell a call from the wait to the result, a line per step, at debug', async () => {
    const logger = new CapturingLogger();
    const caller = await apps.context(root({ worker: false }), logger);
    const registry = caller.get(EnhancedFunctionRegistry);
    const call = registry.call('work', {}, {});
    const worker = await apps.context(root({ workerId: 'w-1' }, [Handlers]), logger);
    await call;
    await worker.close();
    const steps: [string, RegExp][] = [
      ['CallFunction', /^\S+\.\d+ waits for a worker of work \(workflow default\)$/],
      ['WATCHER', /^waiting for work \(workflow default\) \(1 waiting, /],
      ['NOTIFICATIONS', /^connecting -> connected/],
      ['NOTIFICATIONS', /^subscribed to .*function:ready:work:default/],
      ['COORDINATOR', /^idle -> joining$/],
      ['LIFECYCLE', /^w-1 of work \(workflow default\) is ready \(epoch \d+, seq 1\)$/],
      ['WATCHER', /^ready of w-1 for work \(workflow default\): applied, releases 1 waiter\(s\)$/],
      ['CallFunction', /^\S+\.\d+ calls work \(workflow default\)$/],
      ['CallFunction', /^\S+\.\d+ starts work \(workflow default\), attempt 1$/],
      ['COORDINATOR', /^joining -> active$/],
      ['COORDINATOR', /^active -> draining$/],
      ['COORDINATOR', /^drained 7 worker\(s\) in \d+ ms: \d call\(s\) finished, 0 handed back$/],
    ];
    for (const [context, step] of steps) {
      expect({ context, lines: logger.of(context, 'debug') }).toEqual({
        context,
        lines: expect.arrayContaining([expect.stringMatching(step)]),
      });
    }
    const callIds = logger
      .of('CallFunction')
      .flatMap((text) => /^[\w-]{22}\.\d+/.exec(text)?.[0] ?? []);
    expect(new Set(callIds).size).toBe(1);
    const loud = logger.lines.filter(
      ({ level, context }) =>
        level !== 'debug' &&
        ['CallFunction', 'NOTIFICATIONS', 'WATCHER', 'LIFECYCLE', 'COORDINATOR'].includes(context),
    );
    expect(loud).toEqual([]);
  });

  it('warn where something is wrong', async () => {
    const redis = await startRedis();
    closers.push(() => redis.stop());
    const logger = new CapturingLogger();
    const app = await apps.context(
      root({ connection: redis.url, workerId: 'w-1', pollIntervalMs: 20 }, [Handlers]),
      logger,
    );
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.call('work');
    await registry.notifyWorkerHealth('work', 'default', 'w-1', false, 'timeout');
    expect(logger.of('LIFECYCLE', 'warn')).toEqual([
      'w-1 of work (workflow default) is unhealthy (timeout) and takes no calls',
    ]);
    await expect(registry.call('plain')).rejects.toMatchObject({ message: 'a bug' });
    expect(logger.of('CallFunction', 'error').join()).toMatch(
      /failed in plain: a bug\n.*at .*plain/s,
    );
    await app.get(NotificationManager).publish('function:ready:work:default', { nonsense: true });
    await eventually('the drop is told', () => {
      expect(logger.of('NOTIFICATIONS', 'warn')).toEqual([
        expect.stringMatching(/dropped a message on "function:ready:work:default": its type/),
      ]);
    });
    await redis.kill();
    await eventually('the loss is told', () => {
      expect(logger.of('REDIS', 'warn').join()).toMatch(/connection to redis:.* is down/);
      expect(logger.of('WATCHER', 'warn').join()).toMatch(/pub\/sub is unavailable: .* polling/);
    });
    await redis.restart();
    await eventually('the return is told', () => {
      expect(logger.of('WATCHER', 'log').join()).toMatch(/pub\/sub is back/);
    });
  });

  it('never tell a parameter, an item, a header, a result, the details of an error, or a password', async () => {
    const redis = await startRedis({ args: ['--requirepass', MARKER] });
    closers.push(() => redis.stop());
    const connection = `redis://:${MARKER}@127.0.0.1:${redis.port}`;
    const logger = new CapturingLogger();
    const options = { connection, pollIntervalMs: 20 };
    await apps.context(root(options, [Handlers]), logger);
    const caller = await apps.context(root({ ...options, worker: false }), logger);
    const registry = caller.get(EnhancedFunctionRegistry);
    const plain = caller.get(FunctionRegistry);
    const secret = { secret: MARKER };
    const call = (name: string, parameters: object = secret): Promise<unknown> =>
      registry
        .call(name, parameters, { item: secret, headers: secret, onProgress: () => undefined })
        .catch((error: unknown) => error);

    await expect(call('work')).resolves.toEqual({
      echo: MARKER,
      item: secret,
      headers: secret,
    });
    for (const name of ['early', 'coded', 'http', 'plain', 'value']) await call(name);
    await call('typed', { n: MARKER });
    await registry.callFunctionWithInstantReadiness('typed', 'default', { n: MARKER });
    await plain.callFunction('typed', 'default', { n: MARKER }, secret);
    await plain.callFunction('typed', 'default', MARKER as never, secret);
    // By hand, so that it is the worker that refuses it.
    const raw = new Redis(connection);
    closers.push(() => raw.disconnect());
    const calls = `${apps.prefix}nf:{typed:default}:calls`;
    const payload = JSON.stringify({ p: { n: MARKER }, i: MARKER });
    const head = '1 10000  nobody by-hand';
    await raw.xadd(calls, '*', 'c', `${head}\t${payload}`);
    await raw.xadd(calls, '*', 'c', `${head}\t${MARKER}`);
    await raw.xadd(calls, '*', 'c', '1', 'q', MARKER);
    await eventually('the worker refused them', async () => (await raw.xlen(calls)) === 0);
    await call('work', { nested: { secret: 1n, other: MARKER } });
    await call('work', { big: MARKER.repeat(200_000) });
    await registry
      .call('work', secret, { headers: { a: MARKER, b: 5 } as never })
      .catch(() => null);
    await plain.callFunction('work', 'default', secret, secret);
    await registry.callFunctionWithInstantReadiness('work', 'default', secret, secret);
    await registry.callFunctionWithInstantReadiness('nobody', 'default', secret, secret, 20);
    await caller.get(NotificationManager).subscribe('app:news', () => {
      throw new Error('a listener fails');
    });
    await caller.get(NotificationManager).publish('app:news', secret);
    await caller.get(NotificationManager).publish('function:ready:work:default', secret);
    await redis.restart();
    await expect(call('work')).resolves.toMatchObject({ echo: MARKER });

    expect(logger.lines.length).toBeGreaterThan(50);
    expect(logger.lines.filter(({ text }) => text.includes(MARKER))).toEqual([]);
  });

  it('do not tell the password of a connection that is refused', async () => {
    const redis = await startRedis({ args: ['--requirepass', 'another'] });
    closers.push(() => redis.stop());
    const logger = new CapturingLogger();
    const connection = `redis://user:${MARKER}@127.0.0.1:${redis.port}/?password=${MARKER}`;
    const app = await apps.context(root({ connection }, [Handlers]), logger);
    const error: unknown = await app
      .get(FunctionRegistry)
      .getAvailableFunctions()
      .catch((reason: unknown) => reason);
    expect(String((error as Error).stack)).not.toContain(MARKER);
    expect(logger.text).not.toContain(MARKER);
    expect(logger.text).toContain('127.0.0.1');
  });
});
