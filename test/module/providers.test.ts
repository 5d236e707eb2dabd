import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Injectable,
  Module,
  type DynamicModule,
  type INestApplication,
  type Type,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import request from 'supertest';
import type { App } from 'supertest/types.js';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionLifecycleNotifier,
  FunctionReadinessWatcher,
  FunctionRegistry,
  FunctionsClientProxy,
  FunctionsHealthIndicator,
  FunctionsModule,
  FunctionsTransport,
  NotificationManager,
  WorkerCoordinator,
} from '../../src/index.js';
import { NestApps } from '../harness/nest-apps.js';

/** Everything that the module exports. */
const PROVIDERS: Type<unknown>[] = [
  NotificationManager,
  FunctionLifecycleNotifier,
  FunctionReadinessWatcher,
  WorkerCoordinator,
  FunctionRegistry,
  EnhancedFunctionRegistry,
  FunctionsHealthIndicator,
  FunctionsTransport,
  FunctionsClientProxy,
];

@Controller()
class EveryProvider {
  constructor(
    private readonly notifications: NotificationManager,
    private readonly notifier: FunctionLifecycleNotifier,
    private readonly watcher: FunctionReadinessWatcher,
    private readonly coordinator: WorkerCoordinator,
    private readonly registry: FunctionRegistry,
    private readonly functions: EnhancedFunctionRegistry,
    private readonly health: FunctionsHealthIndicator,
    private readonly transport: FunctionsTransport,
    private readonly client: FunctionsClientProxy,
  ) {}

  all(): object[] {
    return [
      this.notifications,
      this.notifier,
      this.watcher,
      this.coordinator,
      this.registry,
      this.functions,
      this.health,
      this.transport,
      this.client,
    ];
  }

  @Get('injected')
  injected(): string[] {
    return this.all().map((provider) => provider.constructor.name);
  }

  @Get('greet')
  greet(): Promise<unknown> {
    return this.functions.call('greet', { name: 'http' });
  }
}

@Injectable()
class Greeter {
  @FunctionHandler({ name: 'greet' })
  greet(input: { name: string }): { text: string } {
    return { text: `hello ${input.name}` };
  }
}

/** A feature that does not import FunctionsModule itself: its providers are global. */
@Module({ controllers: [EveryProvider] })
class FeatureModule {}

@Module({})
class Root {}

function server(app: INestApplication): App {
  return app.getHttpServer() as App;
}

describe('the providers of FunctionsModule', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  function root(): DynamicModule {
    return {
      module: Root,
      imports: [FeatureModule, FunctionsModule.forRoot(apps.options())],
      providers: [Greeter],
    };
  }

  it('are all injectable in a controller of any module', async () => {
    const app = await apps.http(root());
    await app.init();
    await request(server(app))
      .get('/injected')
      .expect(
        200,
        PROVIDERS.map((provider) => provider.name),
      );
    await request(server(app)).get('/greet').expect(200, { text: 'hello http' });
  });

  it('are one of each: the same instance wherever they are injected', async () => {
    const app = await apps.context(root());
    const injected = app.get(EveryProvider).all();
    expect(injected).toHaveLength(PROVIDERS.length);
    for (const [index, provider] of PROVIDERS.entries())
      expect(app.get<unknown>(provider)).toBe(injected[index]);
    expect(app.get(EnhancedFunctionRegistry)).toBeInstanceOf(FunctionRegistry);
    expect(app.get(FunctionRegistry)).not.toBe(app.get(EnhancedFunctionRegistry));
  });

  it.each(PROVIDERS.map((provider) => [provider.name, provider] as const))(
    'can be overridden in a test: %s',
    async (_name, provider) => {
      const stub = { stub: true };
      const module = await Test.createTestingModule({ imports: [root()] })
        .overrideProvider(provider)
        .useValue(stub)
        .compile();
      const app = apps.track(module.createNestApplication());
      await app.init();
      expect(app.get<unknown>(provider)).toBe(stub);
      await request(server(app)).get('/injected').expect(200);
      await app.close();
    },
  );

  it('go on without the overridden pub/sub: a call is run, found by polling', async () => {
    const module = await Test.createTestingModule({ imports: [root()] })
      .overrideProvider(NotificationManager)
      .useValue({ publish: () => Promise.resolve(0) })
      .compile();
    const app = apps.track(module.createNestApplication());
    await app.init();
    await expect(
      app.get(EnhancedFunctionRegistry).call('greet', { name: 'stub' }),
    ).resolves.toEqual({ text: 'hello stub' });
  });

  it('answer for a controller under test when the registry is a stub', async () => {
    const module = await Test.createTestingModule({ imports: [root()] })
      .overrideProvider(EnhancedFunctionRegistry)
      .useValue({ call: (name: string) => Promise.resolve({ stubbed: name }) })
      .compile();
    const app = apps.track(module.createNestApplication());
    await app.init();
    await request(server(app)).get('/greet').expect(200, { stubbed: 'greet' });
  });
});
