import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Injectable,
  Module,
  type OnApplicationBootstrap,
  type OnModuleInit,
  type Type,
} from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionLifecycleNotifier,
  FunctionsModule,
  WorkerCoordinator,
} from '../../src/index.js';
import { NestApps } from '../harness/nest-apps.js';

@Module({})
class Root {}

@Injectable()
class AtInit implements OnModuleInit {
  constructor(private readonly registry: EnhancedFunctionRegistry) {}

  async onModuleInit(): Promise<void> {
    await this.registry.registerWorkerWithInstantNotification('mine', 'early', 'default');
  }

  @FunctionHandler({ name: 'early' })
  early(): string {
    return 'ran';
  }
}

@Injectable()
class AtBootstrap implements OnApplicationBootstrap {
  constructor(private readonly notifier: FunctionLifecycleNotifier) {}

  async onApplicationBootstrap(): Promise<void> {
    await this.notifier.forFunction('early', 'default', 'mine').notifyReady();
  }

  @FunctionHandler({ name: 'early' })
  early(): string {
    return 'ran';
  }
}

@Module({ providers: [AtInit] })
class InitFeature {}

@Module({ providers: [AtBootstrap] })
class BootstrapFeature {}

describe('a worker that the application registers before it is up', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  // The registration used to wait for the join, the join for the bootstrap, and the bootstrap for this hook.
  const places: [string, { imports?: Type<unknown>[]; providers?: Type<unknown>[] }][] = [
    ['in onModuleInit of the root', { providers: [AtInit] }],
    ['in onModuleInit of a feature', { imports: [InitFeature] }],
    ['in onApplicationBootstrap of the root', { providers: [AtBootstrap] }],
    ['in onApplicationBootstrap of a feature', { imports: [BootstrapFeature] }],
  ];

  it.each(places)('is registered at once and holds up no boot: %s', async (_title, parts) => {
    const app = await apps.context({
      module: Root,
      imports: [FunctionsModule.forRoot(apps.options()), ...(parts.imports ?? [])],
      providers: parts.providers ?? [],
    });
    const workers = app.get(WorkerCoordinator).workers();
    expect(workers).toHaveLength(2);
    expect(workers.every((worker) => worker.registered)).toBe(true);
    await expect(app.get(EnhancedFunctionRegistry).call('early')).resolves.toBe('ran');
  });
});
