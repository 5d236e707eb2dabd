import type { ValueProvider } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import type { TestingModuleBuilder } from '@nestjs/testing';
import { CLOCK, SETTINGS } from '../backend/tokens.js';
import { InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import { GIVEN, RESOLVED } from '../functions.module.js';
import {
  resolveOptions,
  type FunctionsOptions,
  type ModuleSettings,
  type ResolvedOptions,
} from '../functions.options.js';
import type { FleetProcess } from './fleet-process.js';
import { kitProviders, memberSettings } from './kit-providers.js';

/** How an application is taken over: options of its module that are to be others in the test. */
export interface TakeOverOptions extends Omit<
  FunctionsOptions,
  'connection' | 'keyPrefix' | 'health'
> {
  /**
   * Whether the factory of a `forRootAsync` is asked for its options; default `true`. `false` for one that needs what a
   * test has not: then only what is given here holds, and the `health` beside the factory.
   */
  readonly askFactory?: boolean;
}

/** Takes applications in. */
export interface Admission {
  admit(settings: Settings): FleetProcess;
  /** By which the application's test can ask for it. */
  readonly provider: ValueProvider;
}

/**
 * Overrides the providers by which an application is connected, and timed; everything else stays what it is.
 *
 * @throws InvalidArgumentError, InvalidOptionsError
 */
export function takeOver(
  builder: TestingModuleBuilder,
  admission: Admission,
  { askFactory = true, ...given }: TakeOverOptions,
): TestingModuleBuilder {
  assertBuilder(builder);
  const resolved = resolveOptions({ ...given, connection: 'memory://' });
  if (!askFactory) builder.overrideProvider(GIVEN).useValue({ ...given, connection: 'memory://' });
  builder.overrideProvider(SETTINGS).useFactory({
    inject: [RESOLVED],
    factory: ({ settings }: ResolvedOptions) => withGiven(settings, resolved.settings, given),
  });
  const clock = {
    inject: [ModulesContainer, SETTINGS],
    useFactory: (modules: ModulesContainer, settings: Settings) => {
      announce(modules, admission.provider);
      return admission.admit(settings).clock;
    },
  };
  for (const { provide, inject = [], useFactory } of kitProviders(clock))
    builder.overrideProvider(provide).useFactory({ inject, factory: useFactory });
  return builder;
}

function withGiven(
  own: ModuleSettings,
  resolved: ModuleSettings,
  given: Partial<Record<string, unknown>>,
): Settings {
  const names = Object.keys(given).filter(
    (name) => given[name] !== undefined,
  ) as (keyof Settings)[];
  const instead = names.map((name) => [name, resolved[name]] as const);
  return memberSettings({ ...own, ...Object.fromEntries(instead) });
}

/** Overriding adds no provider, and the test wants to find the fleet: it is put where the clock is. */
function announce(modules: ModulesContainer, provider: ValueProvider): void {
  for (const module of modules.values())
    if (module.hasProvider(CLOCK)) module.addProvider(provider);
}

function assertBuilder(builder: TestingModuleBuilder): void {
  if (typeof builder?.overrideProvider === 'function') return;
  throw new InvalidArgumentError(
    'builder',
    show(builder),
    'Test.createTestingModule({ imports: [AppModule] }), before compile()',
  );
}
