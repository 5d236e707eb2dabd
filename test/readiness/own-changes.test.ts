import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  FunctionReadinessWatcher,
  type InstantWorkerStatus,
} from '../../src/index.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend, type GatedCall } from '../harness/gated-backend.js';

/** Neither polling nor a heartbeat's news may help. */
const QUIET = { pollIntervalMs: 60_000, leaseMs: 60_000 };
const FN = ['resize', 'media'] as const;

let fleet: Fleet;
let gates: GatedBackend;
let app: INestApplicationContext;
let registry: EnhancedFunctionRegistry;
let notifier: FunctionLifecycleNotifier;

beforeEach(async () => {
  fleet = new Fleet();
  gates = new GatedBackend();
  app = await gates.start(redisUrl(), { keyPrefix: fleet.prefix, workerId: 'w1', ...QUIET });
  registry = app.get(EnhancedFunctionRegistry);
  notifier = app.get(FunctionLifecycleNotifier).forFunction(...FN);
});
afterEach(async () => {
  await app.close();
  await fleet.close();
});

const status = (): Promise<InstantWorkerStatus> => registry.getInstantWorkerStatus(...FN);
const counts = async (): Promise<string> => {
  const { healthyWorkers, workers } = await status();
  return `${healthyWorkers} of ${workers}`;
};

interface Change {
  readonly title: string;
  readonly command: GatedCall;
  /** What the worker is before. */
  readonly before?: () => Promise<unknown>;
  readonly change: () => Promise<unknown>;
  readonly known: string;
}

const register = (): Promise<unknown> =>
  registry.registerWorkerWithInstantNotification('w1', ...FN);
const changes: readonly Change[] = [
  { title: 'a registration', command: 'workers.register', change: register, known: '1 of 1' },
  {
    title: 'notifyReady',
    command: 'workers.register',
    change: () => notifier.notifyReady(),
    known: '1 of 1',
  },
  {
    title: 'notifyUnhealthy',
    command: 'workers.change',
    before: register,
    change: () => notifier.notifyUnhealthy('timeout'),
    known: '0 of 1',
  },
  {
    title: 'notifyHealthy',
    command: 'workers.change',
    before: async () => {
      await register();
      await notifier.notifyUnhealthy('timeout');
    },
    change: () => notifier.notifyHealthy(),
    known: '1 of 1',
  },
  {
    title: 'notifyShuttingDown',
    command: 'workers.change',
    before: register,
    change: () => notifier.notifyShuttingDown(1_000),
    known: '0 of 1',
  },
  {
    title: 'notifyOffline',
    command: 'workers.unregister',
    before: register,
    change: () => notifier.notifyOffline('deploy'),
    known: '0 of 0',
  },
];

/** Starts the watch, and has it follow everything that was told. */
async function watchFrom(before: Change['before']): Promise<string> {
  await status();
  await before?.();
  return counts();
}

describe('what this process told', () => {
  it.each(changes)('is known here when $title resolves, before its news arrive', async (row) => {
    await watchFrom(row.before);
    const deliver = gates.holdNews();
    await row.change();
    expect(await counts()).toBe(row.known);
    await eventually('the news are on their way', () => gates.heldNews > 0);
    deliver();
    expect(await counts()).toBe(row.known);
  });

  it.each(changes)('is known here when $title resolves, after its news arrived', async (row) => {
    const before = await watchFrom(row.before);
    const held = gates.hold(row.command, 'after');
    const change = row.change();
    await held.reached;
    await eventually('the news arrived', async () => (await counts()) !== before);
    expect(await counts()).toBe(row.known);
    held.release();
    await change;
    expect(await counts()).toBe(row.known);
  });

  it.each(changes)('is not undone by a read that began before $title', async (row) => {
    await watchFrom(row.before);
    const deliver = gates.holdNews();
    const held = gates.hold('workers.snapshot', 'after');
    const read = app
      .get(FunctionReadinessWatcher)
      .watch(functionRef(...FN))
      .read();
    await held.reached;
    await row.change();
    held.release();
    await read;
    expect(await counts()).toBe(row.known);
    deliver();
  });

  it('does not undo what another process made of its worker meanwhile', async () => {
    await watchFrom(register);
    const held = gates.hold('workers.change', 'after');
    const change = notifier.notifyUnhealthy('timeout');
    await held.reached;
    const other = (await fleet.start({ options: QUIET })).get(EnhancedFunctionRegistry);
    await other.notifyWorkerHealth(...FN, 'w1', true);
    await eventually('its news arrived', async () => (await counts()) === '1 of 1');
    held.release();
    await change;
    expect(await counts()).toBe('1 of 1');
  });

  it('releases who waits here', async () => {
    const waiting = registry.waitForFunction(...FN, 15_000);
    await eventually('it waits', async () => (await status()).isWaitingForWorker);
    const deliver = gates.holdNews();
    await register();
    await expect(waiting).resolves.toMatchObject({ workerId: 'w1' });
    deliver();
  });

  it('needs no watch', async () => {
    await register();
    expect(app.get(FunctionReadinessWatcher).isWatching(...FN)).toBe(false);
    expect(await counts()).toBe('1 of 1');
  });
});
