import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import {
  DeadLetters,
  EnhancedFunctionRegistry,
  FunctionReadinessWatcher,
  NotificationManager,
  type FunctionContext,
} from '../../src/index.js';
import { rejection } from '../harness/caught.js';
import { rootModule } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { hosting, Stage } from '../harness/host.js';
import { MemoryFleet } from './memory-fleet.js';

let fleet: MemoryFleet;
beforeEach(() => {
  fleet = new MemoryFleet();
});
afterEach(() => fleet.close());

const caller = (): Promise<INestApplicationContext> => fleet.start({ options: { worker: false } });
const registryOf = (app: INestApplicationContext): EnhancedFunctionRegistry =>
  app.get(EnhancedFunctionRegistry);

describe('applications on one memory', () => {
  it('call each other', async () => {
    await fleet.start({
      providers: [hosting<{ a: number; b: number }>('add', ({ a, b }) => a + b)],
    });
    const registry = registryOf(await caller());
    await expect(registry.call('add', { a: 1, b: 2 })).resolves.toBe(3);
  });

  it('are workers of their own, also those of one module', async () => {
    const app = await caller();
    const options = { connection: fleet.connection };
    const module = rootModule(options, { providers: [hosting('work', () => 1)] });
    const workers = await Promise.all(
      [1, 2].map(() => NestFactory.createApplicationContext(module, { logger: false })),
    );
    const status = await registryOf(app).getInstantWorkerStatus('work', 'default');
    expect(status).toMatchObject({ workers: 2 });
    await Promise.all(workers.map((worker) => worker.close()));
  });

  it('wait for a worker that starts later', async () => {
    const app = await caller();
    const waiting = registryOf(app).call('late', {});
    const watched = app.get(FunctionReadinessWatcher).waitForFunction('late', 'default');
    await fleet.start({ providers: [hosting('late', () => 'there')], options: { workerId: 'w' } });
    await expect(waiting).resolves.toBe('there');
    expect(await watched).toMatchObject({ workerId: 'w' });
  });

  it('share nothing with those on another memory', async () => {
    await fleet.start({ providers: [hosting('work', () => 1)] });
    const elsewhere = new MemoryFleet();
    const registry = registryOf(await elsewhere.start({ options: { worker: false } }));
    expect(await rejection(registry.call('work', {}, { ifUnavailable: 'fail' }))).toMatchObject({
      code: 'NO_WORKER',
    });
    await elsewhere.close();
  });

  it('share nothing with those under another key prefix', async () => {
    await fleet.start({ providers: [hosting('work', () => 1)], options: { keyPrefix: 'a:' } });
    const registry = registryOf(await fleet.start({ options: { worker: false, keyPrefix: 'b:' } }));
    expect(await rejection(registry.call('work', {}, { ifUnavailable: 'fail' }))).toMatchObject({
      code: 'NO_WORKER',
    });
  });

  it('find nothing of what was there before the last of them was closed', async () => {
    const fail = (): never => {
      throw new Error('no');
    };
    const failing = hosting({ name: 'work', retry: { maxAttempts: 2, backoffMs: 1 } }, fail);
    const first = await fleet.start({ providers: [failing] });
    expect(await rejection(registryOf(first).call('work'))).toMatchObject({
      code: 'HANDLER_FAILED',
    });
    expect(await first.get(DeadLetters).count('work', 'default')).toBe(1);
    const second = await fleet.start();
    await fleet.stop(first);
    expect(await second.get(DeadLetters).count('work', 'default')).toBe(1);
    await fleet.stop(second);
    const third = await fleet.start();
    expect(await third.get(DeadLetters).count('work', 'default')).toBe(0);
  });

  it('hand a call over when its application is gone without a word', async () => {
    const stage = new Stage();
    const lost = await fleet.start({ providers: [stage.as('work')] });
    const registry = registryOf(await caller());
    const called = registry.call('work', {});
    await stage.started();
    await fleet.start({ providers: [hosting('work', (_, { attempt }) => `attempt ${attempt}`)] });
    // What the end of a process leaves: connections closed, and nothing said.
    await lost.get<Backend>(BACKEND).close();
    await expect(called).resolves.toBe('attempt 2');
    stage.finishAll();
  });

  it('drain: a shutdown lets a running call finish', async () => {
    const stage = new Stage();
    const worker = await fleet.start({ providers: [stage.as('work')] });
    const called = registryOf(await caller()).call('work', {});
    await stage.started();
    const closed = fleet.stop(worker);
    stage.finishAll('in time');
    await expect(called).resolves.toBe('in time');
    await closed;
  });

  it('reach the running handler with a cancellation', async () => {
    const aborted = createDeferred<unknown>();
    const started = createDeferred();
    const run = async (_: unknown, { signal }: FunctionContext): Promise<void> => {
      signal.addEventListener('abort', () => aborted.resolve(signal.reason));
      started.resolve();
      await aborted.promise;
    };
    await fleet.start({ providers: [hosting('work', run)] });
    const abort = new AbortController();
    const called = rejection(registryOf(await caller()).call('work', {}, { signal: abort.signal }));
    await started.promise;
    abort.abort();
    expect(await called).toMatchObject({ code: 'CALL_CANCELLED' });
    expect(await aborted.promise).toMatchObject({ code: 'CALL_CANCELLED' });
  });

  it('let timers have their turn while calls follow each other without a pause', async () => {
    await fleet.start({ providers: [hosting('echo', () => 1)] });
    const registry = registryOf(await caller());
    await registry.call('echo');
    let fired = false;
    setTimeout(() => (fired = true), 1);
    let calls = 0;
    for (; !fired && calls < 2_000; calls += 1) await registry.call('echo');
    expect(fired).toBe(true);
  });

  it('hear patterns of channels', async () => {
    const app = await caller();
    const heard = createDeferred<string>();
    await app
      .get(NotificationManager)
      .subscribePattern('function:ready:*', ({ channel }) => heard.resolve(channel));
    await fleet.start({ providers: [hosting('work', () => 1)] });
    expect(await heard.promise).toBe('function:ready:work:default');
  });
});
