import { getEventListeners } from 'node:events';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { CLOCK } from '../../src/backend/tokens.js';
import { systemClock, type Clock } from '../../src/common/clock.js';
import { EnhancedFunctionRegistry, FunctionReadinessWatcher } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet, rootModule } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend } from '../harness/gated-backend.js';

const FN = ['resize', 'media'] as const;
const CHANNELS = ['function:ready', 'function:shutdown', 'function:offline', 'worker:health'].map(
  (head) => `${head}:resize:media`,
);

let redis: StartedRedis;
let fleet: Fleet;
let opened: INestApplicationContext[] = [];

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(() => {
  fleet = new Fleet(redis.url);
});
afterEach(async () => {
  await Promise.all(opened.map((app) => app.close()));
  opened = [];
  await fleet.close();
});

async function startCaller(): Promise<INestApplicationContext> {
  return fleet.start({ options: { worker: false } });
}

async function startWorkers(): Promise<EnhancedFunctionRegistry> {
  return (await fleet.start()).get(EnhancedFunctionRegistry);
}

async function subscribers(): Promise<number[]> {
  const counts = await fleet.redis.pubsub('NUMSUB', ...CHANNELS.map((name) => fleet.prefix + name));
  return CHANNELS.map((_name, index) => Number(counts[index * 2 + 1]));
}

function codeOf(wait: Promise<unknown>): Promise<unknown> {
  return wait.then(
    () => 'resolved',
    (error: unknown) => (error as { code?: unknown }).code,
  );
}

/** Counts timers that run once and have neither run nor been cancelled. */
function countingClock(): Clock & { readonly pending: Set<object> } {
  const pending = new Set<object>();
  return {
    pending,
    now: () => systemClock.now(),
    elapsed: () => systemClock.elapsed(),
    every: (ms, task) => systemClock.every(ms, task),
    after(ms, task) {
      const key = {};
      pending.add(key);
      const timer = systemClock.after(ms, () => {
        pending.delete(key);
        task();
      });
      return {
        cancel: () => {
          pending.delete(key);
          timer.cancel();
        },
      };
    },
  };
}

describe('a thousand waiters', () => {
  it('share one subscription and a read or two, and one ready releases them all', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    const log = await CommandLog.start(redis.url);
    const waits = Array.from({ length: 1_000 }, () => watcher.waitForFunction(...FN, 15_000));
    await eventually('they all wait on the subscription', async () => {
      expect(await subscribers()).toEqual([1, 1, 1, 1]);
      expect(watcher.stats()).toMatchObject({ watches: 1, waiting: 1_000 });
    });
    await workers.registerWorker('w1', ...FN);
    const released = await Promise.all(waits);
    expect(new Set(released.map(({ workerId }) => workerId))).toEqual(new Set(['w1']));
    expect(watcher.stats().waiting).toBe(0);
    const commands = await log.mentioning('resize:media');
    log.close();
    expect(commands.filter(({ name }) => name === 'subscribe')).toHaveLength(1);
    // Besides the subscription: the read of the watch, the group, and the worker's registration.
    expect(commands.filter(({ name }) => name.startsWith('eval')).length).toBeLessThanOrEqual(7);
  });

  it('each end at their own timeout or signal, and the others wait on', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    const abort = new AbortController();
    const short = codeOf(watcher.waitForFunction(...FN, 20));
    const cancelled = codeOf(
      watcher.waitForFunction(...FN, { timeoutMs: 15_000, signal: abort.signal }),
    );
    const long = watcher.waitForFunction(...FN, 15_000);
    await expect(short).resolves.toBe('READINESS_TIMEOUT');
    expect(watcher.stats().waiting).toBe(2);
    abort.abort();
    await expect(cancelled).resolves.toBe('CALL_CANCELLED');
    expect(watcher.stats().waiting).toBe(1);
    await workers.registerWorker('w1', ...FN);
    await expect(long).resolves.toEqual({
      functionName: 'resize',
      workflowId: 'media',
      workerId: 'w1',
      epoch: expect.any(Number),
    });
  });
});

describe('how a wait ends', () => {
  it('a timeout, a cancellation and nobody there are three different errors', async () => {
    const caller = await startCaller();
    const registry = caller.get(EnhancedFunctionRegistry);
    const abort = new AbortController();
    const wait = codeOf(registry.waitForFunction(...FN, { signal: abort.signal }));
    abort.abort(new Error('the user left'));
    expect([
      await codeOf(registry.waitForFunction(...FN, 10)),
      await wait,
      await codeOf(registry.call('resize', {}, { workflowId: 'media', ifUnavailable: 'fail' })),
    ]).toEqual(['READINESS_TIMEOUT', 'CALL_CANCELLED', 'NO_WORKER']);
  });

  it('the timeout says how long and why, for a function nobody knows and for one that is unwell', async () => {
    const caller = await startCaller();
    const watcher = caller.get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    await caller.get(EnhancedFunctionRegistry).getInstantWorkerStatus(...FN);
    await expect(watcher.waitForFunction(...FN, 10)).rejects.toThrow(
      /resize \(workflow media\).*10 ms.*no worker ever registered/s,
    );
    await workers.registerWorker('w1', ...FN);
    await workers.markWorkerUnhealthy('w1', ...FN, 'disk full');
    await eventually('the reason is known', async () => {
      await expect(watcher.waitForFunction(...FN, 10)).rejects.toThrow(
        /w1 is unhealthy \(disk full\)/,
      );
    });
  });

  it('the cancellation carries the reason of the signal', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const abort = new AbortController();
    const reason = new Error('the user left');
    const wait = watcher.waitForFunction(...FN, { signal: abort.signal });
    abort.abort(reason);
    await expect(wait).rejects.toMatchObject({ code: 'CALL_CANCELLED', cause: reason });
  });

  it('a signal that is aborted already ends it at once, with a worker there or not', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    const signal = AbortSignal.abort();
    expect(await codeOf(watcher.waitForFunction(...FN, { signal }))).toBe('CALL_CANCELLED');
    await workers.registerWorker('w1', ...FN);
    await watcher.waitForFunction(...FN);
    expect(await codeOf(watcher.waitForFunction(...FN, { signal }))).toBe('CALL_CANCELLED');
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('a timeout of 0 asks memory only: a known worker, or a timeout', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    expect(await codeOf(watcher.waitForFunction(...FN, 0))).toBe('READINESS_TIMEOUT');
    await workers.registerWorker('w1', ...FN);
    await watcher.waitForFunction(...FN);
    await expect(watcher.waitForFunction(...FN, 0)).resolves.toMatchObject({ workerId: 'w1' });
  });

  it.each([
    ['NaN', Number.NaN],
    ['negative', -1],
    ['infinite', Number.POSITIVE_INFINITY],
    ['longer than a timer holds', 2 ** 31],
    ['a text', '5'],
    ['null', null],
    ['an object with a timeout of NaN', { timeoutMs: Number.NaN }],
    ['an object with a signal that is none', { signal: {} }],
  ])('a timeout that is %s is refused before anything is watched', async (_, timeout) => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    expect(await codeOf(watcher.waitForFunction(...FN, timeout as number))).toBe(
      'INVALID_ARGUMENT',
    );
    expect(watcher.isWatching(...FN)).toBe(false);
    expect(await subscribers()).toEqual([0, 0, 0, 0]);
  });

  it.each([
    ['', 'media'],
    ['resize', ''],
    ['x'.repeat(10_000), 'media'],
    [7 as unknown as string, 'media'],
  ])('the names (%j, %j) are refused', async (functionName, workflowId) => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    expect(await codeOf(watcher.waitForFunction(functionName, workflowId))).toBe('INVALID_NAME');
  });

  const endings: (readonly [
    string,
    (parts: {
      app: INestApplicationContext;
      workers: EnhancedFunctionRegistry;
      abort: AbortController;
    }) => Promise<unknown>,
    string,
  ])[] = [
    ['a worker', ({ workers }) => workers.registerWorker('w1', ...FN), 'resolved'],
    ['its signal', ({ abort }) => Promise.resolve(abort.abort()), 'CALL_CANCELLED'],
    ['its timeout', () => Promise.resolve(), 'READINESS_TIMEOUT'],
    ['stopWatching', ({ app }) => app.get(FunctionReadinessWatcher).stopWatching(...FN), 'CLOSED'],
    ['the end of the application', ({ app }) => app.close(), 'CLOSED'],
  ];

  it.each(endings)('by %s leaves no timer and no listener behind', async (_, end, code) => {
    const clock = countingClock();
    const module = await Test.createTestingModule({
      imports: [rootModule({ connection: redis.url, keyPrefix: fleet.prefix, worker: false })],
    })
      .overrideProvider(CLOCK)
      .useValue(clock)
      .compile();
    opened.push(module);
    const app = await module.init();
    const watcher = app.get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    const abort = new AbortController();
    await app.get(EnhancedFunctionRegistry).getInstantWorkerStatus(...FN);
    await eventually('the start has ended', () => clock.pending.size === 0);
    const timeoutMs = code === 'READINESS_TIMEOUT' ? 20 : 15_000;
    const waits = Array.from({ length: 5 }, () =>
      codeOf(watcher.waitForFunction(...FN, { timeoutMs, signal: abort.signal })),
    );
    expect(getEventListeners(abort.signal, 'abort')).toHaveLength(5);
    expect(clock.pending.size).toBe(5);
    await end({ app, workers, abort });
    expect(await Promise.all(waits)).toEqual(Array(5).fill(code));
    expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
    expect(clock.pending.size).toBe(0);
    expect(watcher.stats().waiting).toBe(0);
  });
});

describe('stopWatching', () => {
  it('settles who waits, ends the subscription, and says whether there was one', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    expect(watcher.isWatching(...FN)).toBe(false);
    expect(await watcher.stopWatching(...FN)).toBe(false);
    const waits = [1, 2].map(() => codeOf(watcher.waitForFunction(...FN)));
    await eventually('it is subscribed', async () => {
      expect(await subscribers()).toEqual([1, 1, 1, 1]);
    });
    expect(watcher.isWatching(...FN)).toBe(true);
    expect(await watcher.stopWatching(...FN)).toBe(true);
    expect(await Promise.all(waits)).toEqual(['CLOSED', 'CLOSED']);
    expect(watcher.isWatching(...FN)).toBe(false);
    expect(await subscribers()).toEqual([0, 0, 0, 0]);
  });

  it('does not end the watch of another workflow, and the function can be watched again', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    const other = watcher.waitForFunction('resize', 'other');
    const first = codeOf(watcher.waitForFunction(...FN));
    await watcher.stopWatching(...FN);
    expect(await first).toBe('CLOSED');
    const second = watcher.waitForFunction(...FN);
    await workers.registerWorker('w1', ...FN);
    await workers.registerWorker('w2', 'resize', 'other');
    await expect(second).resolves.toMatchObject({ workerId: 'w1' });
    await expect(other).resolves.toMatchObject({ workerId: 'w2' });
  });

  it.each([
    ['before its subscription is sent', 'before'],
    ['before the acknowledgement is known', 'after'],
  ] as const)('leaves no subscription behind when it comes %s', async (_, stage) => {
    const gates = new GatedBackend();
    const caller = await gates.start(redis.url, { keyPrefix: fleet.prefix, worker: false });
    opened.push(caller);
    const watcher = caller.get(FunctionReadinessWatcher);
    const held = gates.hold('bus.subscribe', stage);
    const wait = codeOf(watcher.waitForFunction(...FN));
    await held.reached;
    expect(await watcher.stopWatching(...FN)).toBe(true);
    expect(await wait).toBe('CLOSED');
    held.release();
    await eventually('the subscription is taken back', async () => {
      expect(gates.answered('bus.subscribe')).toBeGreaterThan(0);
      expect(await subscribers()).toEqual([0, 0, 0, 0]);
    });
    expect(watcher.isWatching(...FN)).toBe(false);
  });

  it('and a new watch at the same time end with the new one subscribed', async () => {
    const watcher = (await startCaller()).get(FunctionReadinessWatcher);
    const workers = await startWorkers();
    const first = codeOf(watcher.waitForFunction(...FN));
    const stopped = watcher.stopWatching(...FN);
    const second = watcher.waitForFunction(...FN, 15_000);
    await stopped;
    expect(await first).toBe('CLOSED');
    await eventually('the new one is subscribed', async () => {
      expect(await subscribers()).toEqual([1, 1, 1, 1]);
    });
    await workers.registerWorker('w1', ...FN);
    await expect(second).resolves.toMatchObject({ workerId: 'w1' });
  });
});

describe('the end of the application', () => {
  it('settles every waiter of every function with CLOSED, and refuses new ones', async () => {
    const caller = await startCaller();
    const watcher = caller.get(FunctionReadinessWatcher);
    const waits = Array.from({ length: 100 }, (_value, n) =>
      codeOf(watcher.waitForFunction(`fn-${n % 10}`, 'media')),
    );
    await fleet.stop(caller);
    expect(new Set(await Promise.all(waits))).toEqual(new Set(['CLOSED']));
    expect(await codeOf(watcher.waitForFunction(...FN))).toBe('CLOSED');
    expect(watcher.stats()).toEqual({ watches: 0, waiting: 0, polling: 0 });
  });
});
