import { afterEach, describe, expect, it, jest } from '@jest/globals';
import {
  Inject,
  Injectable,
  Module,
  type DynamicModule,
  type OnApplicationBootstrap,
  type OnModuleDestroy,
  type Type,
} from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  WorkerCoordinator,
} from '../../src/index.js';
import { redisUrl, rootModule } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

/** What happens in an application, in order; one per test. */
class Story {
  readonly events: string[] = [];
  readonly started: Deferred<void> = createDeferred();
  readonly release: Deferred<void> = createDeferred();
}

/** A resource as a database module offers it: closed by its own module's hook. */
@Injectable()
class Database implements OnModuleDestroy {
  private open = true;

  constructor(@Inject(Story) private readonly story: Story) {}

  query(): string {
    return this.open ? 'a row' : 'the database is closed';
  }

  onModuleDestroy(): void {
    this.open = false;
    this.story.events.push('database closed');
  }
}

@Injectable()
class Handlers {
  constructor(
    @Inject(Story) private readonly story: Story,
    @Inject(Database) private readonly database: Database,
  ) {}

  @FunctionHandler({ name: 'work' })
  async work(): Promise<string> {
    this.story.started.resolve();
    await this.story.release.promise;
    this.story.events.push('handler finished');
    return this.database.query();
  }
}

@Module({ providers: [Database], exports: [Database] })
class DatabaseModule {}

@Module({ imports: [DatabaseModule] })
class DeepModule {}

@Module({ imports: [DatabaseModule], providers: [Handlers] })
class HandlersModule {}

@Module({})
class Root {}

function storyModule(story: Story): DynamicModule {
  class StoryModule {}
  return {
    module: StoryModule,
    global: true,
    providers: [{ provide: Story, useValue: story }],
    exports: [Story],
  };
}

describe('the end of an application', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  type Arrange = (functions: DynamicModule) => Pick<DynamicModule, 'imports' | 'providers'>;

  /**
   * Nest ends modules by their distance from the root, the root first, and those of one distance in the
   * opposite order of their import. Left to that, the drain came after the hooks of the root and of every
   * module imported beside and after FunctionsModule; so FunctionsModule puts itself in front of all.
   */
  const arrangements: [string, Arrange][] = [
    [
      'in the root module itself',
      (functions) => ({ imports: [functions], providers: [Database, Handlers] }),
    ],
    [
      'in a module beside, imported before FunctionsModule',
      (functions) => ({ imports: [DatabaseModule, HandlersModule, functions] }),
    ],
    [
      'in a module beside, imported after FunctionsModule, for a handler of the root',
      (functions) => ({ imports: [functions, DatabaseModule], providers: [Handlers] }),
    ],
    [
      'in a module beside, imported after FunctionsModule',
      (functions) => ({ imports: [functions, DatabaseModule, HandlersModule] }),
    ],
    [
      'in a module deeper than FunctionsModule',
      (functions) => ({ imports: [functions, DeepModule, HandlersModule] }),
    ],
  ];

  it.each(arrangements)(
    'leaves a running handler what it uses, when that is %s',
    async (_title, arrange) => {
      const story = new Story();
      const functions = FunctionsModule.forRoot(apps.options());
      const { imports = [], providers = [] } = arrange(functions);
      const app = await apps.context({
        module: Root,
        imports: [storyModule(story), ...imports],
        providers,
      });
      const caller = await apps.context({
        module: Root,
        imports: [FunctionsModule.forRoot(apps.options({ worker: false }))],
      });
      const call = caller.get(EnhancedFunctionRegistry).call('work');
      await story.started.promise;
      const closed = app.close();
      await eventually('the drain began', () => app.get(WorkerCoordinator).state === 'draining');
      story.release.resolve();
      await expect(call).resolves.toBe('a row');
      await closed;
      expect(story.events).toEqual(['handler finished', 'database closed']);
    },
  );

  it('comes after a beginning in which nothing runs before every module is up', async () => {
    const events: string[] = [];

    @Injectable()
    class Warm implements OnApplicationBootstrap {
      async onApplicationBootstrap(): Promise<void> {
        // Long enough for a call that waits in the stream to be read, if somebody read.
        await apps.redis.ping();
        await apps.redis.ping();
        events.push('root is up');
      }

      @FunctionHandler({ name: 'first' })
      first(): string[] {
        return [...events];
      }
    }

    const caller = await apps.context({
      module: Root,
      imports: [FunctionsModule.forRoot(apps.options({ worker: false }))],
    });
    const call = caller.get(EnhancedFunctionRegistry).call('first');
    await apps.context({
      module: Root,
      imports: [FunctionsModule.forRoot(apps.options())],
      providers: [Warm as Type<unknown>],
    });
    await expect(call).resolves.toEqual(['root is up']);
  });

  it('may be asked for twice, at once and again', async () => {
    const app = await apps.context({
      module: Root,
      imports: [storyModule(new Story()), FunctionsModule.forRoot(apps.options())],
      providers: [Database, Handlers],
    });
    await Promise.all([app.close(), app.close()]);
    await app.close();
    expect(app.get(WorkerCoordinator).state).toBe('stopped');
    await expect(app.get(EnhancedFunctionRegistry).call('work')).rejects.toMatchObject({
      code: 'CLOSED',
    });
  });

  it('leaves no lease and no worker in Redis', async () => {
    const app = await apps.context({
      module: Root,
      imports: [storyModule(new Story()), FunctionsModule.forRoot(apps.options())],
      providers: [Database, Handlers],
    });
    await app.close();
    const keys = await apps.redis.keys(`${apps.prefix}*`);
    const state = keys.filter((key) =>
      /lease|hosted|workers|replies|supervisor|processes/.test(key),
    );
    expect(state).toEqual([]);
  });
});

describe('a worker that no signal would drain', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  @Injectable()
  class Idle {
    @FunctionHandler({ name: 'idle' })
    idle(): null {
      return null;
    }
  }

  /** What listens to SIGTERM here besides the application under test. */
  function withoutSigtermListeners(): () => void {
    const listeners = process.listeners('SIGTERM');
    process.removeAllListeners('SIGTERM');
    return () => listeners.forEach((listener) => process.on('SIGTERM', listener));
  }

  const WARNING = /nothing listens to SIGTERM.*app\.enableShutdownHooks\(\)/;

  it('is warned about, with the call that cures it', async () => {
    const restore = withoutSigtermListeners();
    try {
      const logger = new CapturingLogger();
      const module = {
        module: Root,
        imports: [FunctionsModule.forRoot(apps.options())],
        providers: [Idle],
      };
      await apps.context(module, logger);
      await eventually('the warning', () =>
        logger.of('COORDINATOR', 'warn').some((text) => WARNING.test(text)),
      );
    } finally {
      restore();
    }
  });

  it('is not warned about with shutdown hooks, nor when it only calls', async () => {
    const restore = withoutSigtermListeners();
    try {
      const logger = new CapturingLogger();
      const caller = {
        module: Root,
        imports: [FunctionsModule.forRoot(apps.options({ worker: false }))],
        providers: [Idle],
      };
      await apps.context(caller, logger);
      const module = {
        module: Root,
        imports: [FunctionsModule.forRoot(apps.options())],
        providers: [Idle],
      };
      const app = await apps.context(module, logger);
      app.enableShutdownHooks();
      const bootedAt = performance.now();
      await eventually('the check that is made a second after the boot is over', () => {
        expect(performance.now()).toBeGreaterThan(bootedAt + 1_500);
      });
      expect(logger.of('COORDINATOR', 'debug')).not.toEqual([]);
      expect(logger.text).not.toMatch(WARNING);
    } finally {
      restore();
    }
  });
});

describe('a drain that fails', () => {
  const apps = new NestApps();
  afterEach(() => apps.close());

  it('does not keep the application from closing its connections', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    const options = apps.options({ connection: proxy.url });
    const logger = new CapturingLogger();
    const app = await apps.context(
      rootModule(options, { providers: [hosting('work', () => 1)] }),
      logger,
    );
    jest.spyOn(app.get(WorkerCoordinator), 'drain').mockRejectedValue(new Error('a fault of ours'));
    await app.close();
    await eventually('no connection is left', () => proxy.connections === 0);
    expect(logger.text).toContain('draining failed: a fault of ours');
    expect(logger.text).toContain('not everything could be handed back');
    await proxy.close();
  });
});
