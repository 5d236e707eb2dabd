import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import type { TestingModuleBuilder } from '@nestjs/testing';
import { SETTINGS } from '../backend/tokens.js';
import { InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { FunctionsModule, RESOLVED } from '../functions.module.js';
import type { FunctionsOptions, ResolvedOptions } from '../functions.options.js';
import { kitProviders, memberSettings } from './kit-providers.js';
import { SharedFleets } from './shared-fleets.js';
import type { TakeOverOptions } from './take-over.js';
import type { ClockMode } from './test-clock.js';
import { TestFleet } from './test-fleet.js';

/** Which fleet an application joins. */
export interface FleetChoice {
  /** One that the test made, and closes. Default: a private one, which ends with the application. */
  readonly fleet?: TestFleet;
  /** A fleet that all who give this name share; it ends with the last of them. */
  readonly name?: string;
  /** Of a fleet that is made for it; default `running`. */
  readonly clock?: ClockMode;
}

/** The options of `FunctionsModule`, as far as they mean something without Redis, and which fleet is joined. */
export type FunctionsTestingOptions = Omit<FunctionsOptions, 'connection' | 'keyPrefix'> &
  FleetChoice;

const fleets = new SharedFleets();

/**
 * Functions for a test with `@nestjs/testing`, without Redis: in the place of `FunctionsModule`, or for an application
 * that imports it. `module.get(TestFleet)` has the clock, the spy and the stubs.
 *
 * @example
 * ```ts
 * const module = await Test.createTestingModule({
 *   imports: [FunctionsTestingModule.forRoot()],
 *   controllers: [ImagesController],
 * }).compile();
 * await module.init();
 * await module.get(TestFleet).stub('resize', { url: '/small.png' });
 * ```
 */
@Module({})
export class FunctionsTestingModule {
  /** In the place of `FunctionsModule.forRoot()`. @throws InvalidOptionsError, InvalidArgumentError */
  static forRoot(options: FunctionsTestingOptions = {}): DynamicModule {
    const { fleet, name, clock, ...own } = options;
    const choice = checked({ fleet, name, clock });
    const clockOfProcess = {
      inject: [TestFleet, SETTINGS],
      useFactory: (joined: TestFleet, settings: Settings) => fleets.admit(joined, settings).clock,
    };
    const providers: Provider[] = [
      { provide: TestFleet, useFactory: () => fleets.find(choice) },
      {
        provide: SETTINGS,
        inject: [RESOLVED],
        useFactory: ({ settings }: ResolvedOptions) => memberSettings(settings),
      },
      ...kitProviders(clockOfProcess),
    ];
    const functions = FunctionsModule.forRoot({ ...own, connection: 'memory://' });
    return { module: FunctionsTestingModule, imports: [withProviders(functions, providers)] };
  }

  /**
   * For an application that imports `FunctionsModule` itself: it becomes a process of a fleet, in the place of its
   * Redis, and the rest of its options holds.
   *
   * @returns the builder
   * @throws InvalidOptionsError, InvalidArgumentError
   * @example
   * ```ts
   * const builder = Test.createTestingModule({ imports: [AppModule] });
   * const module = await FunctionsTestingModule.override(builder).compile();
   * ```
   */
  static override(
    builder: TestingModuleBuilder,
    options: TakeOverOptions & FleetChoice = {},
  ): TestingModuleBuilder {
    const { fleet, name, clock, ...own } = options;
    const joined = fleets.find(checked({ fleet, name, clock }));
    return joined.override(builder, own, (settings) => fleets.admit(joined, settings));
  }
}

/** What was given, if it goes together. */
function checked({
  fleet,
  name,
  clock,
}: { [K in keyof FleetChoice]: FleetChoice[K] | undefined }): FleetChoice {
  if (fleet === undefined)
    return { ...(name === undefined ? {} : { name }), ...(clock === undefined ? {} : { clock }) };
  const beside = name === undefined ? (clock === undefined ? undefined : 'clock') : 'name';
  if (beside === undefined) return { fleet };
  throw new InvalidArgumentError(beside, 'given beside a fleet', `new TestFleet({ ${beside} })`);
}

/** The module of functions with other providers: of two for one token Nest takes the last. */
function withProviders(functions: DynamicModule, providers: readonly Provider[]): DynamicModule {
  const [core, ...others] = functions.imports as DynamicModule[];
  const changed = {
    ...core,
    providers: [...(core?.providers ?? []), ...providers],
    exports: [...(core?.exports ?? []), TestFleet],
  } as DynamicModule;
  return { ...functions, imports: [changed, ...others] };
}
