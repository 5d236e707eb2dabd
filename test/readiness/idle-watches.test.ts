import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { CLOCK } from '../../src/backend/tokens.js';
import { systemClock, type Clock } from '../../src/common/clock.js';
import {
  EnhancedFunctionRegistry,
  FunctionReadinessWatcher,
  NotificationManager,
} from '../../src/index.js';
import {
  MAX_IDLE_WATCHES,
  MAX_UNKNOWN_WATCHES,
} from '../../src/readiness/function-readiness-watcher.js';
import { Fleet, redisUrl, rootModule } from '../harness/apps.js';
import { hosting } from '../harness/host.js';

/** How many more there may be until they are counted again. */
const SLACK = 50;
const CHANNELS_PER_WATCH = 4;

let fleet: Fleet;
let app: INestApplicationContext;
let registry: EnhancedFunctionRegistry;
let watcher: FunctionReadinessWatcher;
/** What runs every half minute, at the test's word. */
let sweep: () => void;

beforeEach(async () => {
  fleet = new Fleet();
  const clock: Clock = {
    ...systemClock,
    every(ms, task) {
      if (ms !== 30_000) return systemClock.every(ms, task);
      sweep = task;
      return { cancel: () => undefined };
    },
  };
  const module = await Test.createTestingModule({
    imports: [rootModule({ connection: redisUrl(), keyPrefix: fleet.prefix, worker: false })],
  })
    .overrideProvider(CLOCK)
    .useValue(clock)
    .compile();
  app = await module.init();
  registry = app.get(EnhancedFunctionRegistry);
  watcher = app.get(FunctionReadinessWatcher);
});
afterEach(async () => {
  await app.close();
  await fleet.close();
});

const names = (head: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${head}-${n}`);

/** Fails: with NO_WORKER, or, of hundreds at once on a busy machine, because the first read took too long. */
async function callUnknown(name: string): Promise<void> {
  await expect(registry.call(name, {}, { ifUnavailable: 'fail' })).rejects.toThrow();
}

describe('watches that nobody waits on', () => {
  it('are few of functions that nobody registered, whatever names are called', async () => {
    await fleet.start({ providers: [hosting('known', () => 'done')] });
    const subscribed = (): number => app.get(NotificationManager).stats().channels;
    const others = subscribed();
    await registry.call('known');
    for (const name of names('unknown', 400)) await callUnknown(name);
    const { watches } = watcher.stats();
    expect(watches).toBeLessThanOrEqual(MAX_UNKNOWN_WATCHES + SLACK + 1);
    expect(subscribed() - others).toBe(watches * CHANNELS_PER_WATCH);
    // The flood costs no known function its place, and takes none from the latest of its own.
    expect(watcher.isWatching('known', 'default')).toBe(true);
    expect(watcher.isWatching('unknown-0', 'default')).toBe(false);
    expect(watcher.isWatching('unknown-399', 'default')).toBe(true);
  });

  it('are bounded when all were asked for at once, with the next sweep', async () => {
    await Promise.all(names('unknown', 400).map(callUnknown));
    sweep();
    expect(watcher.stats().watches).toBeLessThanOrEqual(MAX_UNKNOWN_WATCHES);
  });

  it('are bounded also of registered functions; those used least lately go first', async () => {
    const all = names('known', MAX_IDLE_WATCHES + 200);
    const definition = (name: string): string => JSON.stringify({ name, workflowId: 'default' });
    await fleet.redis.mset(
      ...all.flatMap((name) => [
        `${fleet.prefix}nf:{${name}:default}:definition`,
        definition(name),
      ]),
    );
    const look = (name: string): Promise<unknown> =>
      registry.getInstantWorkerStatus(name, 'default').catch(() => undefined);
    const half = MAX_IDLE_WATCHES / 2;
    for (let from = 0; from < all.length; from += 100) {
      await Promise.all(all.slice(from, from + 100).map(look));
      // The first one is asked for again and again.
      if (from < all.length - half) await look('known-0');
    }
    expect(watcher.stats().watches).toBeLessThanOrEqual(MAX_IDLE_WATCHES + 100 + SLACK);
    expect(watcher.isWatching('known-0', 'default')).toBe(true);
    expect(watcher.isWatching('known-1', 'default')).toBe(false);
    expect(watcher.isWatching(all.at(-1) ?? '', 'default')).toBe(true);
  });

  it('do not count those that somebody waits on', async () => {
    const waits = names('awaited', 200).map((name) =>
      watcher.waitForFunction(name, 'default', 60_000),
    );
    for (const wait of waits) wait.catch(() => undefined);
    await Promise.all(names('unknown', 100).map(callUnknown));
    sweep();
    sweep();
    expect(watcher.stats().waiting).toBe(200);
    await fleet.start({ providers: [hosting('awaited-0', () => 1)] });
    await expect(waits[0]).resolves.toMatchObject({ functionName: 'awaited-0' });
  });

  it('are stopped when nobody used them between two sweeps: sooner when nobody registered them', async () => {
    await fleet.start({ providers: [hosting('known', () => 'done')] });
    await registry.call('known');
    await callUnknown('unknown');
    sweep();
    await callUnknown('unknown');
    sweep();
    expect(watcher.isWatching('unknown', 'default')).toBe(true);
    sweep();
    expect(watcher.isWatching('unknown', 'default')).toBe(false);
    expect(watcher.isWatching('known', 'default')).toBe(true);
    for (let n = 3; n < 10; n += 1) sweep();
    await registry.call('known');
    for (let n = 10; n < 20; n += 1) sweep();
    expect(watcher.isWatching('known', 'default')).toBe(true);
    for (let n = 20; n < 30; n += 1) sweep();
    expect(watcher.isWatching('known', 'default')).toBe(false);
  });
});

describe('stopWatching', () => {
  it('tells who waits that the watch was stopped, not that the application ends', async () => {
    const wait = watcher.waitForFunction('resize', 'media', 60_000);
    wait.catch(() => undefined);
    await watcher.stopWatching('resize', 'media');
    await expect(wait).rejects.toMatchObject({
      code: 'CLOSED',
      message: 'The watch of resize (workflow media) is closed: stopWatching() was called.',
    });
  });
});
