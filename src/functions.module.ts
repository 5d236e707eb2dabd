import 'reflect-metadata';
import {
  Global,
  Inject,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type FactoryProvider,
  type InjectionToken,
  type ModuleMetadata,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type OnModuleInit,
  type OptionalFactoryDependency,
  type Provider,
  type Type,
} from '@nestjs/common';
import { DiscoveryModule, ModulesContainer } from '@nestjs/core';
import { TerminusModule } from '@nestjs/terminus';
import type { Backend } from './backend/backend.js';
import { createBackend } from './backend/create-backend.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from './backend/tokens.js';
import { FunctionCircuits } from './circuit/function-circuits.js';
import { systemClock, type Clock } from './common/clock.js';
import { InvalidOptionsError, type OptionViolation } from './common/errors.js';
import type { Settings } from './common/settings.js';
import { show } from './common/text.js';
import { CallClient } from './execution/caller/call-client.js';
import { CallProbes } from './execution/call-probes.js';
import { CallConsumer } from './execution/worker/call-consumer.js';
import {
  ALLOWED,
  applicationSettings,
  assertHealth,
  assertMetrics,
  resolveHealth,
  resolveMetrics,
  resolveOptions,
  type FunctionsOptions,
  type HealthOptions,
  type MetricsOptions,
  type ResolvedOptions,
} from './functions.options.js';
import { FunctionsRuntime } from './functions.runtime.js';
import { FunctionsHealthIndicator } from './health/functions-health-indicator.js';
import { createHealthController } from './health/health-controller.js';
import { FunctionLifecycleNotifier } from './lifecycle/function-lifecycle-notifier.js';
import { WorkerCoordinator } from './lifecycle/worker-coordinator.js';
import { FunctionsMetrics } from './metrics/functions-metrics.js';
import { BottleneckWatch } from './metrics/bottleneck-watch.js';
import { createMetricsController } from './metrics/metrics-controller.js';
import { MetricsEngine } from './metrics/metrics-engine.js';
import { FunctionsPrometheus } from './metrics/functions-prometheus.js';
import { NotificationManager } from './notifications/notification-manager.js';
import { isRecord } from './protocol/json.js';
import { Keys } from './protocol/keys.js';
import { FunctionReadinessWatcher } from './readiness/function-readiness-watcher.js';
import { DeadLetters } from './registry/dead-letters.js';
import { EnhancedFunctionRegistry } from './registry/enhanced-function-registry.js';
import { FunctionRegistry } from './registry/function-registry.js';
import { HandlerExplorer } from './registry/handler-explorer.js';
import { HandlerRegistrar } from './registry/handler-registrar.js';
import { WorkflowEventExplorer } from './registry/workflow-event-explorer.js';
import { WorkflowEventRegistrar } from './registry/workflow-event-registrar.js';
import { FunctionTracing } from './tracing/function-tracing.js';
import { FunctionsClientProxy } from './transport/functions-client-proxy.js';
import { FunctionsTransport } from './transport/functions-transport.js';
import { WorkflowEvents } from './workflow/workflow-events.js';
import { GenerationReadiness } from './workflow/generation-readiness.js';
import { WorkflowRestarts } from './workflow/workflow-restarts.js';
import { WorkflowReadiness } from './workflow/workflow-readiness.js';
import { WorkflowNotifier } from './workflow/workflow-notifier.js';

/** Makes the options for `forRootAsync({ useClass | useExisting })`. */
export interface FunctionsOptionsFactory {
  createFunctionsOptions(): FunctionsOptions | Promise<FunctionsOptions>;
}

/** Options that come from elsewhere; one of `useFactory`, `useClass`, `useExisting`. */
export interface FunctionsAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  readonly useFactory?: (...args: never[]) => FunctionsOptions | Promise<FunctionsOptions>;
  readonly inject?: (InjectionToken | OptionalFactoryDependency)[];
  readonly useClass?: Type<FunctionsOptionsFactory>;
  readonly useExisting?: InjectionToken<FunctionsOptionsFactory>;
  /** The health controller: Nest needs to know its routes before it asks the factory, so it stands here. */
  readonly health?: boolean | HealthOptions;
  /** The endpoint for Prometheus, for the same reason. */
  readonly metrics?: boolean | MetricsOptions;
}

/** The options as a factory of `forRootAsync` gave them. */
export const GIVEN = Symbol('nestjs-functions.GivenOptions');
/** The options, checked and completed. */
export const RESOLVED = Symbol('nestjs-functions.ResolvedOptions');
/** The runtime as the module class gets it: what stands for it until `forRoot` says how it is made, refuses. */
const CONFIGURED_RUNTIME = Symbol('nestjs-functions.ConfiguredRuntime');

const NOT_CONFIGURED: FactoryProvider<FunctionsRuntime> = {
  provide: CONFIGURED_RUNTIME,
  useFactory: () => {
    throw new InvalidOptionsError([
      {
        path: 'imports',
        value: 'FunctionsModule as it is',
        allowed: 'FunctionsModule.forRoot() or FunctionsModule.forRootAsync({ useFactory }), once',
      },
    ]);
  },
};
const CONFIGURED: Provider = { provide: CONFIGURED_RUNTIME, useExisting: FunctionsRuntime };

/** Everything that an application may inject. */
const EXPORTED = [
  NotificationManager,
  FunctionLifecycleNotifier,
  FunctionReadinessWatcher,
  WorkerCoordinator,
  FunctionRegistry,
  EnhancedFunctionRegistry,
  DeadLetters,
  WorkflowNotifier,
  FunctionsMetrics,
  FunctionsHealthIndicator,
  FunctionsTransport,
  FunctionsClientProxy,
];

const PROVIDERS: Provider[] = [
  {
    provide: SETTINGS,
    inject: [RESOLVED],
    useFactory: ({ settings }: ResolvedOptions): Settings => applicationSettings(settings),
  },
  {
    provide: KEYS,
    inject: [SETTINGS],
    useFactory: ({ keyPrefix }: Settings) => new Keys(keyPrefix),
  },
  // A factory, and no value: Nest 11 lets a test override a value with another value only.
  { provide: CLOCK, useFactory: (): Clock => systemClock },
  {
    provide: BACKEND,
    inject: [RESOLVED, KEYS, CLOCK],
    useFactory: ({ connection }: ResolvedOptions, keys: Keys, clock: Clock): Promise<Backend> =>
      createBackend(connection, keys, clock),
  },
  {
    provide: CallClient,
    inject: [BACKEND, CLOCK, WorkerCoordinator, SETTINGS],
    useFactory: (
      backend: Backend,
      clock: Clock,
      coordinator: WorkerCoordinator,
      { maxBacklog }: Settings,
    ) =>
      new CallClient(
        backend,
        clock,
        coordinator.processId,
        maxBacklog,
        () => coordinator.redisOffsetMs,
      ),
  },
  {
    provide: FunctionCircuits,
    inject: [BACKEND, KEYS, SETTINGS, CLOCK, NotificationManager, WorkerCoordinator],
    useFactory: (
      backend: Backend,
      keys: Keys,
      settings: Settings,
      clock: Clock,
      notifications: NotificationManager,
      coordinator: WorkerCoordinator,
    ) => new FunctionCircuits(backend, keys, settings, clock, notifications, coordinator.processId),
  },
  {
    provide: CallConsumer,
    inject: [BACKEND, SETTINGS, CLOCK, CallProbes, CallClient],
    useFactory: (
      backend: Backend,
      settings: Settings,
      clock: Clock,
      probes: CallProbes,
      calls: CallClient,
    ) => new CallConsumer(backend, settings, clock, probes, () => calls.unsettled()),
  },
  CallProbes,
  MetricsEngine,
  BottleneckWatch,
  HandlerExplorer,
  HandlerRegistrar,
  WorkflowReadiness,
  WorkflowRestarts,
  GenerationReadiness,
  WorkflowEvents,
  WorkflowEventExplorer,
  WorkflowEventRegistrar,
  {
    provide: FunctionsPrometheus,
    inject: [SETTINGS, MetricsEngine, NotificationManager],
    useFactory: (
      { metrics }: Settings,
      engine: MetricsEngine,
      notifications: NotificationManager,
    ) => (metrics === undefined ? undefined : FunctionsPrometheus.create(engine, notifications)),
  },
  {
    provide: FunctionTracing,
    inject: [SETTINGS, BACKEND, CallProbes],
    useFactory: (settings: Settings, { address }: Backend, probes: CallProbes) =>
      settings.tracing ? FunctionTracing.create(settings, address, probes) : undefined,
  },
  FunctionsRuntime,
  ...EXPORTED,
];

/** Where the module's own controllers are; `undefined`: nowhere. */
interface Paths {
  readonly health: string | undefined;
  readonly metrics: string | undefined;
}

/**
 * Holds the parts, for the whole application. It is global, so Nest initialises it before, and ends it
 * after, every other module.
 */
@Global()
@Module({})
class FunctionsCoreModule
  implements OnModuleInit, BeforeApplicationShutdown, OnApplicationShutdown
{
  constructor(@Inject(FunctionsRuntime) private readonly runtime: FunctionsRuntime) {}

  onModuleInit(): void {
    this.runtime.connect();
  }

  beforeApplicationShutdown(): void {
    this.runtime.endStreams();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.runtime.drain();
    await this.runtime.close();
  }

  static create(
    resolved: Provider,
    imports: ModuleMetadata['imports'],
    { health, metrics }: Paths,
  ): DynamicModule {
    return {
      module: FunctionsCoreModule,
      imports: [...(imports ?? []), DiscoveryModule, TerminusModule.forRoot({ logger: false })],
      controllers: [
        ...(health === undefined ? [] : [createHealthController(health)]),
        ...(metrics === undefined ? [] : [createMetricsController(metrics)]),
      ],
      providers: [resolved, ...PROVIDERS],
      exports: [...EXPORTED, FunctionCircuits, FunctionsRuntime],
    };
  }
}

/**
 * Functions for a NestJS application; import it once, in the root module. Its providers are global.
 *
 * @example
 * ```ts
 * @Module({ imports: [FunctionsModule.forRoot()] })
 * export class AppModule {}
 *
 * FunctionsModule.forRootAsync({
 *   inject: [ConfigService],
 *   useFactory: (config: ConfigService) => ({ connection: config.getOrThrow('REDIS_URL') }),
 * });
 * ```
 */
@Module({ providers: [NOT_CONFIGURED] })
export class FunctionsModule implements OnApplicationBootstrap, OnModuleDestroy {
  constructor(
    @Inject(CONFIGURED_RUNTIME) private readonly runtime: FunctionsRuntime,
    @Inject(ModulesContainer) modules: ModulesContainer,
  ) {
    // Nest calls the hooks of modules by their distance from the root (which has 1): the farthest first at the
    // start, the nearest first at the end, and of equals the one imported last ends first. Left to that, the
    // root and whatever is imported beside and after this module would end before the drain, under handlers
    // that still run. So this module stands before the root: the last to begin, the first to end.
    const own = [...modules.values()].filter((module) => module.metatype === FunctionsModule);
    for (const module of own) module.distance = 0;
    if (own.length > 1) {
      throw new InvalidOptionsError([
        {
          path: 'FunctionsModule.forRoot()',
          value: `imported ${own.length} times`,
          allowed:
            'once, in the root module: its providers are global (a test takes an application that imports it over ' +
            'with FunctionsTestingModule.override(), and needs no forRoot() beside it)',
        },
      ]);
    }
  }

  /** @throws InvalidOptionsError */
  static forRoot(options: FunctionsOptions = {}): DynamicModule {
    const resolved = resolveOptions(options);
    return {
      module: FunctionsModule,
      providers: [CONFIGURED],
      imports: [
        FunctionsCoreModule.create({ provide: RESOLVED, useValue: resolved }, [], {
          health: resolved.settings.health?.path,
          metrics: resolved.settings.metrics?.path,
        }),
      ],
    };
  }

  /**
   * As {@link forRoot}, with options that come from a factory, a class or an existing provider.
   *
   * @throws InvalidOptionsError
   */
  static forRootAsync(options: FunctionsAsyncOptions): DynamicModule {
    assertAsyncOptions(options);
    assertHealth(options.health);
    assertMetrics(options.metrics);
    const paths = {
      health: resolveHealth(options.health, '')?.path,
      metrics: resolveMetrics(options.metrics)?.path,
    };
    const resolved: FactoryProvider<ResolvedOptions> = {
      provide: RESOLVED,
      inject: [GIVEN],
      useFactory: (given: FunctionsOptions) => withStaticRoutes(given, options),
    };
    return {
      module: FunctionsModule,
      providers: [CONFIGURED],
      imports: [
        {
          ...FunctionsCoreModule.create(resolved, options.imports, paths),
          providers: [...asyncProviders(options), resolved, ...PROVIDERS],
        },
      ],
    };
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.runtime.join();
  }

  async onModuleDestroy(): Promise<void> {
    await this.runtime.drain();
  }
}

const SOURCES = ['useFactory', 'useClass', 'useExisting'] as const;
const ONE_SOURCE = 'one of useFactory, useClass, useExisting';
const ASYNC_FIELDS: readonly string[] = ['imports', 'inject', ...SOURCES, 'health', 'metrics'];

/** @throws InvalidOptionsError */
function assertAsyncOptions(options: unknown): asserts options is FunctionsAsyncOptions {
  const violations = isRecord(options)
    ? asyncViolations(options)
    : [violation('options', show(options), '{ useFactory }, { useClass } or { useExisting }')];
  if (violations.length > 0) throw new InvalidOptionsError(violations);
}

function asyncViolations(options: Record<string, unknown>): OptionViolation[] {
  const unknown = Object.keys(options).filter((name) => !ASYNC_FIELDS.includes(name));
  const sources = SOURCES.filter((name) => options[name] !== undefined);
  const { useFactory, useClass, inject } = options;
  return [
    ...unknown.map((name) =>
      Object.hasOwn(ALLOWED, name)
        ? violation(name, 'beside the factory', `in what the factory returns: () => ({ ${name} })`)
        : violation(name, 'an option that does not exist', `one of ${ASYNC_FIELDS.join(', ')}`),
    ),
    ...(sources.length === 1
      ? []
      : [violation('forRootAsync', sources.join(' and ') || 'no source of options', ONE_SOURCE)]),
    ...(useFactory === undefined || typeof useFactory === 'function'
      ? []
      : [violation('useFactory', show(useFactory), 'a function that returns the options')]),
    ...(useClass === undefined || typeof useClass === 'function'
      ? []
      : [violation('useClass', show(useClass), 'a class with createFunctionsOptions()')]),
    ...(inject === undefined || Array.isArray(inject)
      ? []
      : [violation('inject', show(inject), 'an array of what the factory is given')]),
  ];
}

function violation(path: string, value: string, allowed: string): OptionViolation {
  return { path, value, allowed };
}

/** What gives the options. */
function asyncProviders(options: FunctionsAsyncOptions): Provider[] {
  const { useFactory, useClass, useExisting, inject = [] } = options;
  if (useFactory !== undefined) return [{ provide: GIVEN, inject, useFactory }];
  const token = (useExisting ?? useClass) as InjectionToken<FunctionsOptionsFactory>;
  const factory: FactoryProvider<FunctionsOptions> = {
    provide: GIVEN,
    inject: [token],
    useFactory: (source: FunctionsOptionsFactory) => {
      assertOptionsFactory(useExisting === undefined ? 'useClass' : 'useExisting', source);
      return source.createFunctionsOptions();
    },
  };
  return useClass === undefined ? [factory] : [factory, useClass];
}

function assertOptionsFactory(path: string, source: unknown): void {
  const { createFunctionsOptions } = (source ?? {}) as Partial<FunctionsOptionsFactory>;
  if (typeof createFunctionsOptions === 'function') return;
  throw new InvalidOptionsError([
    violation(
      path,
      show(source),
      'something that has createFunctionsOptions(), which returns the options',
    ),
  ]);
}

function withStaticRoutes(
  given: FunctionsOptions,
  { health, metrics }: FunctionsAsyncOptions,
): ResolvedOptions {
  for (const name of ['health', 'metrics'] as const) {
    if (given?.[name] === undefined || given[name] === false) continue;
    throw new InvalidOptionsError([
      {
        path: name,
        value: 'in the options that the factory made',
        allowed: `beside the factory: forRootAsync({ ${name}: true, useFactory }), for Nest needs the routes before it`,
      },
    ]);
  }
  if (health === undefined && metrics === undefined) return resolveOptions(given);
  return resolveOptions({
    ...given,
    ...(health === undefined ? {} : { health }),
    ...(metrics === undefined ? {} : { metrics }),
  });
}
