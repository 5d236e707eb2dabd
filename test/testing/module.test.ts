import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, Get, Injectable, Module, type DynamicModule, type Type } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsHealthIndicator,
  FunctionsModule,
  WorkerCoordinator,
  type FunctionsOptions,
} from 'nestjs-functions';
import { FunctionsTestingModule, TestFleet } from 'nestjs-functions/testing';
import { rejection } from '../harness/caught.js';
import { hosting } from '../harness/host.js';
import { member } from './member.js';

const resize = defineFunction<{ width: number }, { url: string }>({ name: 'resize' });

@Controller('images')
class ImagesController {
  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  @Get()
  small(): Promise<{ url: string }> {
    return this.functions.call(resize, { width: 80 });
  }
}

@Injectable()
class Adder {
  @FunctionHandler({ name: 'add' })
  add({ a, b }: { a: number; b: number }): number {
    return a + b;
  }
}

const UNREACHABLE = 'redis://127.0.0.1:1';

@Module({
  imports: [FunctionsModule.forRoot({ connection: UNREACHABLE, keyPrefix: 'production:' })],
  controllers: [ImagesController],
  providers: [Adder],
})
class AppModule {}

const open = new Set<{ close(): Promise<unknown> }>();
afterEach(async () => {
  for (const one of [...open].reverse()) await one.close();
  open.clear();
});

function track<T extends { close(): Promise<unknown> }>(one: T): T {
  open.add(one);
  return one;
}

async function init(compiling: Promise<TestingModule>): Promise<TestingModule> {
  return track(await compiling).init();
}

describe('a testing module in the place of FunctionsModule', () => {
  const start = (options?: Parameters<typeof FunctionsTestingModule.forRoot>[0]) =>
    init(
      Test.createTestingModule({
        imports: [FunctionsTestingModule.forRoot(options)],
        controllers: [ImagesController],
        providers: [Adder],
      }).compile(),
    );

  it('lets a controller call a function that is stubbed', async () => {
    const module = await start();
    await module.get(TestFleet).stub(resize, ({ width }) => ({ url: `/${width}.png` }));
    expect(await module.get(ImagesController).small()).toEqual({ url: '/80.png' });
  });

  it('runs its own handlers', async () => {
    const module = await start();
    const registry = module.get(EnhancedFunctionRegistry);
    expect(await registry.call('add', { a: 1, b: 2 })).toBe(3);
  });

  it('says so when the test forgot to initialise it', async () => {
    const imports = [FunctionsTestingModule.forRoot()];
    const controllers = [ImagesController];
    const module = track(await Test.createTestingModule({ imports, controllers }).compile());
    await module.get(TestFleet).stub(resize, { url: '/x' });
    const registry = module.get(EnhancedFunctionRegistry);
    const errors = await Promise.all([
      rejection(module.get(ImagesController).small()),
      rejection(registry.call('x', {}, { ifUnavailable: 'fail' })),
      rejection(registry.getInstantWorkerStatus('x', 'default')),
    ]);
    for (const error of errors) expect((error as Error).message).toContain('await module.init()');
  });

  it('lets a call wait that begins before it is initialised', async () => {
    const imports = [FunctionsTestingModule.forRoot()];
    const controllers = [ImagesController];
    const module = track(await Test.createTestingModule({ imports, controllers }).compile());
    await module.get(TestFleet).stub(resize, { url: '/early.png' });
    const early = module.get(ImagesController).small();
    await module.init();
    expect(await early).toEqual({ url: '/early.png' });
  });

  it('ends a call that waits for it when it is closed', async () => {
    const imports = [FunctionsTestingModule.forRoot()];
    const controllers = [ImagesController];
    const module = await Test.createTestingModule({ imports, controllers }).compile();
    const early = rejection(module.get(ImagesController).small());
    await module.close();
    expect(await early).toMatchObject({ code: 'CLOSED' });
  });

  it('works while the test has replaced timers, as long as ticks are real', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    try {
      const module = await start();
      const { clock } = module.get(TestFleet);
      const stub = await module.get(TestFleet).stub(resize);
      stub.answer({ url: '/late.png' }, { afterMs: 30_000 });
      const late = module.get(ImagesController).small();
      await clock.advance(30_000);
      expect(await late).toEqual({ url: '/late.png' });
      await module.close();
    } finally {
      jest.useRealTimers();
    }
  });

  it('takes the options of FunctionsModule, and refuses wrong ones as that does', async () => {
    const module = await start({ readinessTimeoutMs: 1, workflowId: 'media' });
    expect(await rejection(module.get(ImagesController).small())).toMatchObject({
      code: 'READINESS_TIMEOUT',
      details: { workflowId: 'media', timeoutMs: 1 },
    });
    const wrong = { concurency: 3 } as FunctionsOptions;
    expect(() => FunctionsTestingModule.forRoot(wrong)).toThrow(/concurency/);
  });

  it('stubs a function without a namespace in that of the application', async () => {
    const module = await start({ workflowId: 'media' });
    await module.get(TestFleet).stub(resize, { url: '/media.png' });
    expect(await module.get(ImagesController).small()).toEqual({ url: '/media.png' });
  });

  it('has a memory of its own each time that it is compiled', async () => {
    const imports = [FunctionsTestingModule.forRoot()];
    const one = await init(Test.createTestingModule({ imports }).compile());
    const other = await init(Test.createTestingModule({ imports }).compile());
    await one.get(TestFleet).stub(resize);
    const called = other
      .get(EnhancedFunctionRegistry)
      .call(resize, { width: 1 }, { ifUnavailable: 'fail' });
    expect(await rejection(called)).toMatchObject({ code: 'NO_WORKER' });
  });

  it('shares a fleet with all who give the same name, until the last of them is closed', async () => {
    const one = await start({ name: 'shared-by-two' });
    const other = await start({ name: 'shared-by-two' });
    expect(other.get(TestFleet)).toBe(one.get(TestFleet));
    await one.get(TestFleet).stub(resize, { url: '/shared.png' });
    await one.close();
    expect(await other.get(ImagesController).small()).toEqual({ url: '/shared.png' });
    await other.close();
    const later = await start({ name: 'shared-by-two' });
    expect(later.get(TestFleet)).not.toBe(one.get(TestFleet));
  });

  it('refuses another clock than that of the fleet that it shares', async () => {
    await start({ name: 'shared-clock' });
    await expect(start({ name: 'shared-clock', clock: 'frozen' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('joins a fleet that the test made, which outlives it', async () => {
    const fleet = track(new TestFleet());
    await fleet.stub(resize, { url: '/before.png' });
    const module = await start({ fleet });
    expect(module.get(TestFleet)).toBe(fleet);
    await module.close();
    expect(await (await start({ fleet })).get(ImagesController).small()).toEqual({
      url: '/before.png',
    });
  });

  it('refuses a name, or a clock, beside a fleet', () => {
    const fleet = track(new TestFleet());
    expect(() => FunctionsTestingModule.forRoot({ fleet, name: 'x' })).toThrow(
      /new TestFleet\(\{ name \}\)/,
    );
    expect(() => FunctionsTestingModule.forRoot({ fleet, clock: 'frozen' })).toThrow(/clock/);
  });
});

describe('an application that imports FunctionsModule', () => {
  const builder = () => Test.createTestingModule({ imports: [AppModule] });

  it('is taken over as it is, and needs no Redis', async () => {
    const module = await init(FunctionsTestingModule.override(builder()).compile());
    await module.get(TestFleet).stub(resize, { url: '/stubbed.png' });
    expect(await module.get(ImagesController).small()).toEqual({ url: '/stubbed.png' });
    expect(await module.get(EnhancedFunctionRegistry).call('add', { a: 1, b: 2 })).toBe(3);
  });

  it('keeps the options of its module, save those that the test gives', async () => {
    @Module({
      imports: [
        FunctionsModule.forRoot({
          connection: UNREACHABLE,
          workflowId: 'media',
          readinessTimeoutMs: 7,
        }),
      ],
    })
    class Media {}
    const start = (options?: Parameters<typeof FunctionsTestingModule.override>[1]) =>
      init(
        FunctionsTestingModule.override(
          Test.createTestingModule({ imports: [Media] }),
          options,
        ).compile(),
      );
    const call = (module: TestingModule) =>
      rejection(module.get(EnhancedFunctionRegistry).call('nobody'));
    expect(await call(await start())).toMatchObject({
      details: { workflowId: 'media', timeoutMs: 7 },
    });
    expect(await call(await start({ readinessTimeoutMs: 3 }))).toMatchObject({
      details: { workflowId: 'media', timeoutMs: 3 },
    });
    expect(await call(await start({ readinessTimeoutMs: undefined } as object))).toMatchObject({
      details: { timeoutMs: 7 },
    });
  });

  it('whose factory needs an environment is not asked, if the test says so', async () => {
    @Module({
      imports: [
        FunctionsModule.forRootAsync({
          health: { required: [{ functionName: 'nobody' }] },
          useFactory: () => {
            throw new Error('REDIS_URL is not set');
          },
        }),
      ],
      controllers: [ImagesController],
    })
    class Configured {}
    const build = () => Test.createTestingModule({ imports: [Configured] });
    await expect(FunctionsTestingModule.override(build()).compile()).rejects.toThrow('REDIS_URL');
    const module = await init(
      FunctionsTestingModule.override(build(), { askFactory: false }).compile(),
    );
    await module.get(TestFleet).stub(resize, { url: '/ignored.png' });
    expect(await module.get(ImagesController).small()).toEqual({ url: '/ignored.png' });
    // What stands beside the factory holds.
    const health = module.get(FunctionsHealthIndicator);
    expect(await health.ready('functions')).toMatchObject({ functions: { status: 'down' } });
    await module.get(TestFleet).stub('nobody');
    expect(await health.ready('functions')).toMatchObject({ functions: { status: 'up' } });
  });

  it('can still have other providers overridden', async () => {
    class Subtracter {
      @FunctionHandler({ name: 'add' })
      add({ a, b }: { a: number; b: number }): number {
        return a - b;
      }
    }
    const module = await init(
      FunctionsTestingModule.override(builder())
        .overrideProvider(Adder)
        .useClass(Subtracter)
        .compile(),
    );
    expect(await module.get(EnhancedFunctionRegistry).call('add', { a: 3, b: 1 })).toBe(2);
  });

  it('is no application for forRoot() beside it', async () => {
    const imports = [AppModule, FunctionsTestingModule.forRoot()];
    await expect(Test.createTestingModule({ imports }).compile()).rejects.toThrow(
      'FunctionsTestingModule.override(',
    );
  });

  it('is refused when it is no builder any more', async () => {
    const module = await FunctionsTestingModule.override(builder()).compile();
    track(module);
    expect(() => FunctionsTestingModule.override(module as never)).toThrow(/before compile/);
  });
});

describe('several applications of a fleet', () => {
  it('call each other, and are closed with it', async () => {
    const fleet = new TestFleet();
    const ended: string[] = [];
    class Ends {
      onApplicationShutdown(): void {
        ended.push('worker');
      }
    }
    @Module({
      imports: [FunctionsModule.forRoot()],
      providers: [hosting('work', () => 'done'), Ends],
    })
    class Worker {}
    await fleet.start(Test.createTestingModule({ imports: [Worker] }));
    const caller = await member(fleet, [], { worker: false });
    expect(await caller.get(EnhancedFunctionRegistry).call('work')).toBe('done');
    await fleet.close();
    expect(ended).toEqual(['worker']);
  });

  it('are processes of their own, also those of one module, unless it names its worker', async () => {
    const fleet = track(new TestFleet());
    const nameOf = async (module: Type<unknown> | DynamicModule): Promise<string> =>
      (await fleet.start(Test.createTestingModule({ imports: [module] }))).get(WorkerCoordinator)
        .workerId;
    expect(await nameOf(AppModule)).not.toBe(await nameOf(AppModule));
    const joined = FunctionsTestingModule.forRoot({ fleet });
    expect(await nameOf(joined)).not.toBe(await nameOf(joined));
    expect(await nameOf(FunctionsModule.forRoot({ workerId: 'mine' }))).toBe('mine');
  });

  it('that the test made itself are missed when the fleet is closed before them', async () => {
    const fleet = new TestFleet();
    const module = await fleet
      .override(Test.createTestingModule({ imports: [AppModule] }))
      .compile();
    await module.init();
    await expect(fleet.close()).rejects.toThrow(/1 application\(s\) of the fleet are still open/);
    await module.close();
  });
});
