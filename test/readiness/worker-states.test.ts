import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  FunctionReadinessWatcher,
  NotificationManager,
  type InstantWorkerStatus,
  type WorkerInfo,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { killSubscribers } from '../harness/kill-subscribers.js';

const FN = ['resize', 'media'] as const;

let redis: StartedRedis;
let fleet: Fleet;
let caller: EnhancedFunctionRegistry;
let watcher: FunctionReadinessWatcher;
let notifications: NotificationManager;
let workers: EnhancedFunctionRegistry;
let notifier: FunctionLifecycleNotifier;

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  fleet = new Fleet(redis.url);
  // Neither polling nor a heartbeat may help.
  const app = await fleet.start({ options: { worker: false, pollIntervalMs: 60_000 } });
  caller = app.get(EnhancedFunctionRegistry);
  watcher = app.get(FunctionReadinessWatcher);
  notifications = app.get(NotificationManager);
  const worker = await fleet.start({ options: { leaseMs: 60_000 } });
  workers = worker.get(EnhancedFunctionRegistry);
  notifier = worker.get(FunctionLifecycleNotifier).forFunction(...FN, 'w1');
});
afterEach(() => fleet.close());

/** A wait that is looked at. */
function wait(): { outcome: Promise<WorkerInfo>; released: () => boolean } {
  const outcome = watcher.waitForFunction(...FN, 15_000);
  let released = false;
  outcome.then(
    () => (released = true),
    () => undefined,
  );
  return { outcome, released: () => released };
}

async function status(): Promise<InstantWorkerStatus> {
  return caller.getInstantWorkerStatus(...FN);
}

/** Waits until everything that was published up to now was heard by the caller's watch. */
async function heard(): Promise<void> {
  const mark = `${fleet.prefix}mark`;
  await new Promise<void>((resolve, reject) => {
    notifications
      .subscribe('mark', () => resolve())
      .then(() => fleet.redis.publish(mark, '{"pattern":"mark","data":1}'))
      .catch(reject);
  });
  await notifications.unsubscribe('mark');
}

describe('a waiter', () => {
  it('is not released by an unhealthy worker, and is by one that is healthy again', async () => {
    await workers.registerWorker('w1', ...FN);
    await notifier.notifyUnhealthy('timeout');
    await status();
    const waiting = wait();
    await notifier.notifyUnhealthy('still');
    await heard();
    expect(waiting.released()).toBe(false);
    expect(await status()).toEqual({
      available: false,
      workers: 1,
      healthyWorkers: 0,
      isWaitingForWorker: true,
    });
    await notifier.notifyHealthy();
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
    expect(await status()).toEqual({
      available: true,
      workers: 1,
      healthyWorkers: 1,
      isWaitingForWorker: false,
    });
  });

  it('is not released by a draining worker, even if it says that it is healthy', async () => {
    await workers.registerWorker('w1', ...FN);
    await notifier.notifyShuttingDown(2_000);
    await status();
    const waiting = wait();
    await notifier.notifyHealthy();
    await heard();
    expect(waiting.released()).toBe(false);
    expect(await status()).toMatchObject({ available: false, workers: 1, healthyWorkers: 0 });
    await workers.registerWorker('w2', ...FN);
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w2' });
  });

  it('is released by a worker that announced its leaving and is ready again', async () => {
    await workers.registerWorker('w1', ...FN);
    await status();
    await notifier.notifyShuttingDown(2_000);
    await heard();
    const waiting = wait();
    await notifier.notifyReady();
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
  });

  it('is not released by a ready of an older life that comes late', async () => {
    await status();
    const late: string[] = [];
    const recorder = new Redis(redis.url);
    const channel = `${fleet.prefix}function:ready:resize:media`;
    recorder.on('message', (_channel, text) => late.push(text));
    await recorder.subscribe(channel);
    await workers.registerWorker('w1', ...FN);
    await eventually('its ready was recorded', () => late.length === 1);
    await workers.unregisterWorker('w1', ...FN);
    recorder.disconnect();
    await heard();
    const waiting = wait();
    // Remembered as gone; then, after another read of the registry, not known at all.
    await fleet.redis.publish(channel, late[0] ?? '');
    await heard();
    expect(waiting.released()).toBe(false);
    const log = await CommandLog.start(redis.url);
    const back = new Promise<void>((resolve) => {
      notifications.on('connected', () => resolve());
    });
    await killSubscribers(fleet.redis);
    await back;
    await eventually('it was read again', async () => {
      return (await log.mentioning('{resize:media}')).some(({ args }) => isSnapshot(args));
    });
    log.close();
    await heard();
    await fleet.redis.publish(channel, late[0] ?? '');
    await heard();
    expect(waiting.released()).toBe(false);
    expect(await status()).toMatchObject({ available: false, workers: 0 });
    await workers.registerWorker('w1', ...FN);
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
  });

  it('is not released by what a stranger publishes that is no notification', async () => {
    await status();
    const waiting = wait();
    const channel = `${fleet.prefix}function:ready:resize:media`;
    for (const text of ['ready', '{}', '{"pattern":"x","data":{"type":"ready"}}'])
      await fleet.redis.publish(channel, text);
    await heard();
    expect(waiting.released()).toBe(false);
    await workers.registerWorker('w1', ...FN);
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
  });

  it('gets the worker that is healthy when others are not', async () => {
    await workers.registerWorker('w1', ...FN);
    await workers.registerWorker('w2', ...FN);
    await notifier.notifyUnhealthy('timeout');
    await expect(watcher.waitForFunction(...FN)).resolves.toMatchObject({ workerId: 'w2' });
    expect(await status()).toMatchObject({ workers: 2, healthyWorkers: 1 });
  });
});

describe('getInstantWorkerStatus', () => {
  it('reads the registry on the first question, before anybody watched', async () => {
    await workers.registerWorker('w1', ...FN);
    await workers.registerWorker('w2', ...FN);
    await workers.markWorkerUnhealthy('w2', ...FN);
    expect(watcher.isWatching(...FN)).toBe(false);
    expect(await status()).toEqual({
      available: true,
      workers: 2,
      healthyWorkers: 1,
      isWaitingForWorker: false,
    });
    expect(watcher.isWatching(...FN)).toBe(true);
  });

  it('answers a thousand questions about a watched function without a Redis command', async () => {
    await workers.registerWorker('w1', ...FN);
    await status();
    const log = await CommandLog.start(redis.url);
    for (let n = 0; n < 1_000; n += 1) expect((await status()).available).toBe(true);
    await Promise.all(Array.from({ length: 1_000 }, () => status()));
    // Heartbeats and the supervisor's looks go on; none of them names the function.
    const commands = await log.mentioning('resize');
    log.close();
    expect(commands).toEqual([]);
  });

  it('also when the function has no worker at all', async () => {
    await status();
    const log = await CommandLog.start(redis.url);
    await Promise.all(Array.from({ length: 1_000 }, () => status()));
    const commands = await log.mentioning('resize');
    log.close();
    expect(commands).toEqual([]);
    expect(await status()).toEqual({
      available: false,
      workers: 0,
      healthyWorkers: 0,
      isWaitingForWorker: false,
    });
  });

  it('asks once or twice when a thousand ask for the first time at once', async () => {
    await workers.registerWorker('w1', ...FN);
    const log = await CommandLog.start(redis.url);
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => status()));
    const commands = await log.mentioning('resize:media');
    log.close();
    expect(answers.every(({ available }) => available)).toBe(true);
    expect(commands.filter(({ name }) => name === 'subscribe')).toHaveLength(1);
    // A script that the server has not seen yet is sent twice: by hash, then as text.
    expect(commands.filter(({ name }) => name.startsWith('eval')).length).toBeLessThanOrEqual(3);
  });

  it('follows a worker through its whole life from notifications alone', async () => {
    await status();
    const log = await CommandLog.start(redis.url);
    const seen: string[] = [];
    const steps: (readonly [string, () => Promise<unknown>])[] = [
      ['ready', () => workers.registerWorker('w1', ...FN)],
      ['unhealthy', () => notifier.notifyUnhealthy('timeout')],
      ['healthy', () => notifier.notifyHealthy()],
      ['draining', () => notifier.notifyShuttingDown(1_000)],
      ['offline', () => notifier.notifyOffline('deploy')],
    ];
    for (const [name, step] of steps) {
      await step();
      await heard();
      const { workers: count, healthyWorkers } = await status();
      seen.push(`${name}: ${healthyWorkers} of ${count}`);
    }
    const scripts = (await log.mentioning(`{resize:media}`)).filter(({ name }) =>
      name.startsWith('eval'),
    );
    log.close();
    expect(seen).toEqual([
      'ready: 1 of 1',
      'unhealthy: 0 of 1',
      'healthy: 1 of 1',
      'draining: 0 of 1',
      'offline: 0 of 0',
    ]);
    // The five changes of the worker (each perhaps sent again as text), and no read of the caller.
    expect(scripts.every(({ args }) => !isSnapshot(args))).toBe(true);
  });
});

/** The snapshot script is the only one with the keys of workers and definition alone. */
function isSnapshot(args: readonly string[]): boolean {
  return args[1] === '2' && (args[3] ?? '').endsWith(':definition');
}
