import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  isFunctionsError,
  NotificationManager,
  WorkerCoordinator,
  type FunctionsAsyncOptions,
  type FunctionsOptions,
  type FunctionsOptionsFactory,
} from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { redisUrl, uniquePrefix } from '../harness/apps.js';
import { caught } from '../harness/caught.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';

@Injectable()
class Greeter {
  @FunctionHandler({ name: 'greet' })
  greet(input: { name: string }): { text: string } {
    return { text: `hello ${input.name}` };
  }
}

@Module({})
class Root {}

function root(
  functions: DynamicModule,
  ...imports: DynamicModule['imports'] & object
): DynamicModule {
  return { module: Root, imports: [functions, ...imports], providers: [Greeter] };
}

describe('FunctionsModule', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  it('imported as it is says how it is imported', async () => {
    const module = { module: Root, imports: [FunctionsModule] };
    await expect(apps.context(module)).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringMatching(
        /imports = FunctionsModule as it is: FunctionsModule\.forRoot\(\)/,
      ),
    });
  });

  it('imported as it is beside a configured one says so, too', async () => {
    const module = root(FunctionsModule.forRoot(apps.options()), FunctionsModule);
    await expect(apps.context(module)).rejects.toMatchObject({ code: 'INVALID_OPTIONS' });
  });
});

describe('FunctionsModule.forRoot', () => {
  const apps = new NestApps();
  let before: string | undefined;

  beforeEach(() => {
    before = process.env['REDIS_URL'];
  });

  afterEach(async () => {
    if (before === undefined) delete process.env['REDIS_URL'];
    else process.env['REDIS_URL'] = before;
    await apps.close();
  });

  it('works without any option against the Redis of REDIS_URL', async () => {
    const server = await startRedis();
    apps.track({ close: () => server.stop() });
    process.env['REDIS_URL'] = server.url;
    const app = await apps.context(root(FunctionsModule.forRoot()));
    await expect(app.get(EnhancedFunctionRegistry).call('greet', { name: 'you' })).resolves.toEqual(
      { text: 'hello you' },
    );
    const client = new Redis(server.url);
    const keys = await client.keys('*');
    client.disconnect();
    expect(keys).toContain('nf:{greet:default}:workers');
  });

  it('boots without a Redis, and registers its functions by itself when one comes', async () => {
    const server = await startRedis();
    apps.track({ close: () => server.stop() });
    await server.kill();
    const app = await apps.context(root(FunctionsModule.forRoot({ connection: server.url })));
    const coordinator = app.get(WorkerCoordinator);
    expect(coordinator.state).toBe('joining');
    const call = app.get(EnhancedFunctionRegistry).call('greet', { name: 'late' });
    await server.restart();
    await expect(call).resolves.toEqual({ text: 'hello late' });
    expect(coordinator.state).toBe('active');
  });

  it('closes although its Redis never came', async () => {
    const server = await startRedis();
    apps.track({ close: () => server.stop() });
    await server.kill();
    const app = await apps.context(root(FunctionsModule.forRoot({ connection: server.url })));
    const pending = app.get(EnhancedFunctionRegistry).call('greet', { name: 'never' });
    const [outcome] = await Promise.allSettled([pending, app.close()]);
    expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'CLOSED' } });
  });

  it('leaves no connection behind when its boot fails', async () => {
    class Twice {
      @FunctionHandler({ name: 'greet' })
      greet(): void {}
    }
    const server = await startRedis();
    apps.track({ close: () => server.stop() });
    const module = root(FunctionsModule.forRoot({ connection: server.url }));
    const boot = apps.context({ ...module, providers: [Greeter, Twice] });
    await expect(boot).rejects.toMatchObject({ code: 'DUPLICATE_HANDLER' });
    const client = new Redis(server.url);
    apps.track({ close: () => client.disconnect() });
    await eventually('only this connection is left', async () => {
      const clients = (await client.client('LIST')) as string;
      expect(clients).not.toContain('nestjs-functions:');
    });
  });

  it('takes a copy of an ioredis instance and leaves the instance as it was', async () => {
    const mine = new Redis(redisUrl(), { connectionName: 'mine', enableOfflineQueue: true });
    apps.track({ close: () => mine.disconnect() });
    await mine.ping();
    const options = { ...mine.options };
    const app = await apps.context(
      root(FunctionsModule.forRoot({ connection: mine, keyPrefix: apps.prefix })),
    );
    await expect(app.get(EnhancedFunctionRegistry).call('greet', { name: 'you' })).resolves.toEqual(
      { text: 'hello you' },
    );
    await app.close();
    expect(mine.status).toBe('ready');
    expect(mine.options).toEqual(options);
    expect(mine.listenerCount('ready')).toBe(0);
    await expect(mine.ping()).resolves.toBe('PONG');
    await expect(mine.client('GETNAME')).resolves.toBe('mine');
  });

  it('takes ioredis options', async () => {
    const { hostname, port } = new URL(redisUrl());
    const connection = { host: hostname, port: Number(port) };
    const app = await apps.context(
      root(FunctionsModule.forRoot({ connection, keyPrefix: apps.prefix })),
    );
    await expect(app.get(EnhancedFunctionRegistry).call('greet', { name: 'you' })).resolves.toEqual(
      { text: 'hello you' },
    );
  });

  it('runs two applications in one process beside each other', async () => {
    const first = await apps.context(
      root(FunctionsModule.forRoot(apps.options({ workflowId: 'a' }))),
    );
    const second = await apps.context(
      root(FunctionsModule.forRoot(apps.options({ workflowId: 'b' }))),
    );
    expect(first.get(WorkerCoordinator).processId).not.toBe(
      second.get(WorkerCoordinator).processId,
    );
    const fromSecond = second
      .get(EnhancedFunctionRegistry)
      .call('greet', { name: 'a' }, { workflowId: 'a' });
    await expect(fromSecond).resolves.toEqual({ text: 'hello a' });
    await first.close();
    await expect(
      second.get(EnhancedFunctionRegistry).call('greet', { name: 'b' }),
    ).resolves.toEqual({ text: 'hello b' });
  });

  it('puts the keyPrefix in front of every key and keeps tenants apart', async () => {
    const other = uniquePrefix();
    await apps.context(root(FunctionsModule.forRoot(apps.options())));
    const stranger = await apps.context({
      module: Root,
      imports: [FunctionsModule.forRoot(apps.options({ keyPrefix: other, worker: false }))],
    });
    await expect(
      stranger
        .get(EnhancedFunctionRegistry)
        .call('greet', { name: 'x' }, { ifUnavailable: 'fail' }),
    ).rejects.toMatchObject({ code: 'NO_WORKER' });
    const left = await apps.redis.keys(`${other}*`);
    if (left.length > 0) await apps.redis.del(...left);
  });

  describe('refuses a bad option at the boot, naming its path, its value and what is allowed', () => {
    const cases: [string, object | string, string[]][] = [
      ['a port', { connection: 6379 }, ['connection', '6379', 'redis:// or rediss:// URL']],
      [
        'an HTTP URL, its password left out',
        { connection: 'http://u:hidden@host/' },
        ['connection', 'http://***@host/', 'redis://'],
      ],
      ['a key prefix that is no string', { keyPrefix: 7 }, ['keyPrefix', '7', 'a string']],
      ['an empty workflowId', { workflowId: '' }, ['workflowId', '""', '1 to 256']],
      ['a workerId that is no string', { workerId: {} }, ['workerId', 'an object of Object']],
      ['a worker that is no boolean', { worker: 'no' }, ['worker', '"no"', 'true or false']],
      ['a concurrency of 0', { concurrency: 0 }, ['concurrency', '0', '1 to 100000']],
      ['a broken concurrency', { concurrency: 1.5 }, ['concurrency', '1.5', 'a whole number']],
      ['a negative time', { drainTimeoutMs: -1 }, ['drainTimeoutMs', '-1', 'from 0 to']],
      ['NaN', { leaseMs: Number.NaN }, ['leaseMs', 'NaN', 'from 300 to']],
      ['null', { pollIntervalMs: null }, ['pollIntervalMs', 'null', 'from 10 to']],
      ['null as a connection', { connection: null }, ['connection', 'null', 'redis://']],
      ['null as health', { health: null }, ['health', 'null', 'true, false, or']],
      ['a string of digits', { maxDeliveries: '3' }, ['maxDeliveries', '"3"', '1 to 1000']],
      [
        'an option that does not exist',
        { concurency: 5 },
        ['concurency', 'does not exist', 'concurrency'],
      ],
      ['options that are no object', 'redis://x', ['options', '"redis://x"', 'an object']],
      [
        "ioredis's own keyPrefix",
        { connection: { keyPrefix: 'x:' } },
        ['connection', 'keyPrefix', '"x:"'],
      ],
      ['a health that is no object', { health: 'yes' }, ['health', '"yes"', 'true, false, or']],
      [
        'a health path with a space',
        { health: { path: '/a b' } },
        ['health.path', '"/a b"', '/health'],
      ],
      [
        'a required function without a name',
        { health: { required: [{ workflowId: 'x' }] } },
        ['health.required[0]', 'functionName'],
      ],
      ['an unknown health option', { health: { route: '/x' } }, ['health.route', 'path, required']],
    ];

    it.each(cases)('%s', (_title, options, parts) => {
      let thrown: unknown;
      try {
        FunctionsModule.forRoot(options as FunctionsOptions);
      } catch (error) {
        thrown = error;
      }
      expect(isFunctionsError(thrown, 'INVALID_OPTIONS')).toBe(true);
      const { message } = thrown as Error;
      for (const part of parts) expect(message).toContain(part);
      expect(message).not.toContain('hidden');
    });

    it('names all of them at once', () => {
      expect(() => FunctionsModule.forRoot({ concurrency: 0, leaseMs: 1 })).toThrow(
        /concurrency = 0[\s\S]*leaseMs = 1|leaseMs = 1[\s\S]*concurrency = 0/,
      );
    });

    it('a bad REDIS_URL by the name of the variable', () => {
      process.env['REDIS_URL'] = 'localhost:6379';
      expect(() => FunctionsModule.forRoot()).toThrow(/REDIS_URL = "localhost:6379"/);
    });
  });

  it('treats an explicit undefined as no option', async () => {
    const options = apps.options({ workflowId: undefined, concurrency: undefined } as object);
    const app = await apps.context(root(FunctionsModule.forRoot(options)));
    await expect(
      app.get(EnhancedFunctionRegistry).call('greet', { name: 'you' }, { workflowId: 'default' }),
    ).resolves.toEqual({ text: 'hello you' });
  });
});

describe('FunctionsModule.forRootAsync', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  const SETTINGS = 'SETTINGS';

  function settingsModule(options: FunctionsOptions): DynamicModule {
    @Module({})
    class SettingsModule {}
    return {
      module: SettingsModule,
      providers: [{ provide: SETTINGS, useValue: options }, OptionsService],
      exports: [SETTINGS, OptionsService],
    };
  }

  @Injectable()
  class OptionsService implements FunctionsOptionsFactory {
    createFunctionsOptions(): Promise<FunctionsOptions> {
      return Promise.resolve(apps.options({ workflowId: 'from-class' }));
    }
  }

  async function expectGreeting(options: FunctionsAsyncOptions, workflowId: string): Promise<void> {
    const app = await apps.context(root(FunctionsModule.forRootAsync(options)));
    const [worker] = app.get(WorkerCoordinator).workers();
    expect(worker).toMatchObject({ registered: true, ref: { functionName: 'greet', workflowId } });
    await expect(app.get(EnhancedFunctionRegistry).call('greet', { name: 'you' })).resolves.toEqual(
      { text: 'hello you' },
    );
  }

  it('takes options from a factory with imported and injected providers', () =>
    expectGreeting(
      {
        imports: [settingsModule(apps.options({ workflowId: 'from-factory' }))],
        inject: [SETTINGS],
        useFactory: (options: FunctionsOptions) => Promise.resolve(options),
      },
      'from-factory',
    ));

  it('takes options from a class that it makes', () =>
    expectGreeting({ useClass: OptionsService }, 'from-class'));

  it('takes options from a provider that exists', () =>
    expectGreeting({ imports: [settingsModule({})], useExisting: OptionsService }, 'from-class'));

  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /options = undefined: \{ useFactory \}/],
    ['a URL', 'redis://h', /options = "redis:\/\/h": \{ useFactory \}/],
    [
      'an option of the module',
      { worker: false, useFactory: () => ({}) },
      /worker = beside the factory: in what the factory returns: \(\) => \(\{ worker \}\)/,
    ],
    [
      'an option that does not exist',
      { usefactory: () => ({}), useFactory: () => ({}) },
      /usefactory = an option that does not exist: one of imports, inject/,
    ],
    [
      'two sources',
      { useFactory: () => ({}), useClass: OptionsService },
      /forRootAsync = useFactory and useClass: one of/,
    ],
    [
      'a factory that is no function',
      { useFactory: { concurrency: 1 } },
      /useFactory = an object of Object: a function/,
    ],
    [
      'a class that is none',
      { useClass: { concurrency: 1 } },
      /useClass = an object of Object: a class/,
    ],
    [
      'what to inject as a string',
      { inject: 'CONFIG', useFactory: () => ({}) },
      /inject = "CONFIG": an array/,
    ],
  ])('refuses %s, and says what is right', (_title, given, message) => {
    expect(
      caught(() => FunctionsModule.forRootAsync(given as FunctionsAsyncOptions)),
    ).toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringMatching(message),
    });
  });

  it.each<[string, FunctionsAsyncOptions]>([
    ['useClass', { useClass: Greeter as never }],
    ['useExisting', { imports: [settingsModule({})], useExisting: SETTINGS }],
  ])('refuses a source of %s without createFunctionsOptions', async (path, options) => {
    await expect(apps.context(root(FunctionsModule.forRootAsync(options)))).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringMatching(new RegExp(`${path} = an object .*createFunctionsOptions`)),
    });
  });

  it('says which sources there are when none is given', () => {
    expect(() => FunctionsModule.forRootAsync({})).toThrow(/useFactory, useClass, useExisting/);
  });

  it.each([
    ['a factory', { useFactory: () => ({ concurrency: -1 }) }],
    [
      'a class',
      {
        useClass: class implements FunctionsOptionsFactory {
          createFunctionsOptions(): FunctionsOptions {
            return { concurrency: -1 };
          }
        },
      },
    ],
  ])('stops the boot for a bad option from %s', async (_title, options) => {
    await expect(apps.context(root(FunctionsModule.forRootAsync(options)))).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringMatching(/concurrency = -1: a whole number from 1 to 100000/),
    });
  });

  it("lets the factory's own error stop the boot", async () => {
    const options = {
      useFactory: (): FunctionsOptions => {
        throw new Error('no configuration');
      },
    };
    await expect(apps.context(root(FunctionsModule.forRootAsync(options)))).rejects.toThrow(
      'no configuration',
    );
  });

  it('refuses health in what the factory made and says where it belongs', async () => {
    const options = { useFactory: () => apps.options({ health: true }) };
    await expect(apps.context(root(FunctionsModule.forRootAsync(options)))).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringContaining('forRootAsync({ health: true, useFactory })'),
    });
  });

  it('checks the health option that stands beside the factory at once', () => {
    const health = { path: '/a b' };
    expect(() => FunctionsModule.forRootAsync({ health, useFactory: () => ({}) })).toThrow(
      /health\.path/,
    );
  });

  it('stops a boot that nobody told not to abort with the violations in the rejection', async () => {
    const module = root(FunctionsModule.forRootAsync({ useFactory: () => ({ leaseMs: 1 }) }));
    await expect(
      NestFactory.createApplicationContext(module, { logger: false, abortOnError: false }),
    ).rejects.toMatchObject({ violations: [{ path: 'leaseMs', value: '1' }] });
  });

  it('is usable as soon as the boot is done: subscriptions of other modules included', async () => {
    const app = await apps.context(
      root(FunctionsModule.forRootAsync({ useFactory: () => apps.options() })),
    );
    await eventually(
      'pub/sub is connected',
      () => app.get(NotificationManager).state === 'connected',
    );
  });
});
