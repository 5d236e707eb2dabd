import type { ValueProvider } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import type { TestingModuleBuilder } from '@nestjs/testing';
import { CLOCK, SETTINGS } from '../backend/tokens.js';
import { InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import { RESOLVED } from '../functions.module.js';
import {
  resolveOptions,
  type FunctionsOptions,
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
   * `keep` (default): what else its module says holds. `ignore`: its module is not asked, for a `forRootAsync` whose
   * factory needs an environment that a test has not.
   */
  readonly appOptions?: 'keep' | 'ignore';
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
  { appOptions = 'keep', ...given }: TakeOverOptions,
): TestingModuleBuilder {
  assertBuilder(builder);
  if (appOptions !== 'keep' && appOptions !== 'ignore')
    throw new InvalidArgumentError('appOptions', show(appOptions), "'keep' or 'ignore'");
  const resolved = resolveOptions({ ...given, connection: 'memory://' });
  if (appOptions === 'ignore') builder.overrideProvider(RESOLVED).useValue(resolved);
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

function withGiven(own: Settings, resolved: Settings, given: object): Settings {
  const names = Object.keys(given) as (keyof Settings)[];
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
