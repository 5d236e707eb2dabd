import type { FactoryProvider } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import type { Settings } from '../common/settings.js';
import { CallProbes } from '../execution/call-probes.js';
import { applicationSettings, type ModuleSettings } from '../functions.options.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { CallClient } from '../execution/caller/call-client.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';
import type { FleetProcess } from './fleet-process.js';
import type { ProcessClock } from './process-clock.js';
import { SpiedCallClient } from './spied-call-client.js';
import { SpiedCallConsumer } from './spied-call-consumer.js';
import { SpiedReadinessWatcher } from './spied-readiness-watcher.js';

/** All keys of a fleet; applications' own prefixes are left out, for the memory is the fleet's alone. */
export const KEY_PREFIX = '';

type MemberClock = ProcessClock<FleetProcess>;

/** The settings of an application as a process of a fleet. */
export function memberSettings(own: ModuleSettings): Settings {
  return applicationSettings({ ...own, keyPrefix: KEY_PREFIX });
}

/**
 * What takes the place of the module's own providers, so that an application is a process of a fleet. Each application
 * is another process: it comes with its clock.
 */
export function kitProviders(
  clock: Omit<FactoryProvider<MemberClock>, 'provide'>,
): FactoryProvider[] {
  return [
    { ...clock, provide: CLOCK },
    {
      provide: BACKEND,
      inject: [KEYS, CLOCK],
      useFactory: (keys: Keys, { process }: MemberClock) => process.connect(keys),
    },
    {
      provide: FunctionReadinessWatcher,
      inject: [BACKEND, KEYS, SETTINGS, CLOCK, NotificationManager],
      useFactory: (
        backend: Backend,
        keys: Keys,
        settings: Settings,
        clock: MemberClock,
        notifications: NotificationManager,
      ) =>
        new SpiedReadinessWatcher(clock.process.spy, backend, keys, settings, clock, notifications),
    },
    {
      provide: CallClient,
      inject: [BACKEND, CLOCK, WorkerCoordinator, SETTINGS],
      useFactory: (
        backend: Backend,
        clock: MemberClock,
        coordinator: WorkerCoordinator,
        { maxBacklog }: Settings,
      ) =>
        new SpiedCallClient(
          clock.process.spy,
          backend,
          clock,
          coordinator.processId,
          maxBacklog,
          () => coordinator.redisOffsetMs,
        ),
    },
    {
      provide: CallConsumer,
      inject: [BACKEND, SETTINGS, CLOCK, CallProbes, CallClient],
      useFactory: (
        backend: Backend,
        settings: Settings,
        clock: MemberClock,
        probes: CallProbes,
        client: CallClient,
      ) =>
        new SpiedCallConsumer(clock.process.spy, backend, settings, clock, probes, () =>
          client.unsettled(),
        ),
    },
  ];
}
