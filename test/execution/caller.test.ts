import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import type { Backend } from '../../src/backend/backend.js';
import type { CallStreams } from '../../src/backend/call-streams.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { BACKEND, KEYS } from '../../src/backend/tokens.js';
import { CallClient } from '../../src/execution/caller/call-client.js';
import { BackendUnavailableError, EnhancedFunctionRegistry } from '../../src/index.js';
import type { Keys } from '../../src/protocol/keys.js';
import { Fleet, redisUrl, rootModule } from '../harness/apps.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

let fleet: Fleet;
const closers: (() => unknown)[] = [];

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await fleet.close();
});

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;

async function startCaller(): Promise<EnhancedFunctionRegistry> {
  return (await fleet.start({ options: { worker: false } })).get(EnhancedFunctionRegistry);
}

describe("a caller's signal", () => {
  it('has no listener left after calls that succeeded, failed and expired', async () => {
    const fail = (): never => {
      throw new Error('no');
    };
    const silent = (): Promise<never> => new Promise(() => undefined);
    await fleet.start({
      providers: [hosting('work', () => 1), hosting('fail', fail), hosting('silent', silent)],
      options: { drainTimeoutMs: 0 },
    });
    const registry = await startCaller();
    const { signal } = new AbortController();
    for (let n = 0; n < 20; n += 1) {
      await registry.call('work', {}, { signal });
      await expect(registry.call('fail', {}, { signal })).rejects.toThrow('no');
    }
    await expect(registry.call('silent', {}, { signal, timeoutMs: 50 })).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
    });
    await expect(
      registry.call('nobody', {}, { signal, readinessTimeoutMs: 10 }),
    ).rejects.toMatchObject({ code: 'READINESS_TIMEOUT' });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('has no listener left after it cancelled', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const registry = await startCaller();
    const cancel = new AbortController();
    const outcome = registry.call('work', {}, { signal: cancel.signal });
    outcome.catch(() => undefined);
    await stage.started();
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    expect(getEventListeners(cancel.signal, 'abort')).toEqual([]);
    stage.finishAll();
  });
});

/** An application that calls, with some steps of its backend's calls replaced. */
async function startOverriding(
  own: (calls: CallStreams) => Partial<CallStreams>,
): Promise<INestApplicationContext> {
  const wrap = (backend: Backend): Backend =>
    overriding(backend, { calls: overriding(backend.calls, own(backend.calls)) });
  const module = await Test.createTestingModule({
    imports: [rootModule({ keyPrefix: fleet.prefix, worker: false })],
  })
    .overrideProvider(BACKEND)
    .useFactory({
      factory: (keys: Keys) => wrap(new RedisBackend(redisUrl(), keys)),
      inject: [KEYS],
    })
    .compile();
  const app = await module.init();
  closers.push(() => app.close());
  return app;
}

describe('a call that is not known to be written yet', () => {
  let told: Deferred<void>;
  let cancels: number;
  let registry: EnhancedFunctionRegistry;

  beforeEach(async () => {
    told = createDeferred();
    cancels = 0;
    const app = await startOverriding((streams) => ({
      submit: async (...args) => {
        const results = await streams.submit(...args);
        await told.promise;
        return results;
      },
      cancel: (...args) => {
        cancels += 1;
        return streams.cancel(...args);
      },
    }));
    registry = app.get(EnhancedFunctionRegistry);
  });

  const aTurnLater = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('is left alone when it is answered before: a handler goes on that has returned', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const outcome = registry.call('work');
    const { context } = await stage.started();
    context.return('early');
    expect(await outcome).toBe('early');
    told.resolve();
    await aTurnLater();
    expect(cancels).toBe(0);
    stage.finishAll();
  });

  it('is left alone when it has failed before', async () => {
    const fail = (): never => {
      throw new Error('no');
    };
    await fleet.start({ providers: [hosting('work', fail)] });
    await expect(registry.call('work')).rejects.toThrow('no');
    told.resolve();
    await aTurnLater();
    expect(cancels).toBe(0);
  });

  it('is taken back when it was given up before', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const cancel = new AbortController();
    const outcome = registry.call('work', {}, { signal: cancel.signal });
    const { context } = await stage.started();
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    expect(cancels).toBe(0);
    told.resolve();
    await eventually('its handler is told', () => context.signal.aborted);
    expect(cancels).toBe(1);
    stage.finishAll();
  });
});

describe('a call that was handed over before it is known to be written', () => {
  it('is taken back from where it is by then', async () => {
    const [first, second] = [new Stage(), new Stage()];
    const told = createDeferred();
    const app = await startOverriding((streams) => ({
      submit: async (...args) => {
        const results = await streams.submit(...args);
        await told.promise;
        return results;
      },
    }));
    const worker = await fleet.start({
      providers: [first.as('work')],
      options: { drainTimeoutMs: 0 },
    });
    const cancel = new AbortController();
    const seen = createDeferred();
    const outcome = app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { signal: cancel.signal, onProgress: () => seen.resolve() });
    outcome.catch(() => undefined);
    await first.started();
    await fleet.start({ providers: [second.as('work')] });
    await fleet.stop(worker);
    const { context } = await second.started();
    // It comes behind the news of the call's new place.
    context.progress('seen');
    await seen.promise;
    told.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('its second run is told', () => context.signal.aborted);
    first.finishAll();
    second.finishAll();
  });
});

describe('a call whose write was cut off after Redis carried it out', () => {
  /** A caller whose first write of a call is cut off, and how many were begun. */
  async function startCut(): Promise<{ app: INestApplicationContext; writes: () => number }> {
    let writes = 0;
    const app = await startOverriding((streams) => ({
      submit: async (...args) => {
        writes += 1;
        const first = writes === 1;
        const results = await streams.submit(...args);
        return first ? [new BackendUnavailableError('submit', 'the test')] : results;
      },
    }));
    return { app, writes: () => writes };
  }

  it('is not written again when it must run at most once: its outcome is unknown', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const { app, writes } = await startCut();
    const registry = app.get(EnhancedFunctionRegistry);
    await expect(registry.call('work', {}, { delivery: 'at-most-once' })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
    });
    await stage.started();
    stage.finishAll();
    // Longer than a call that may be written again waits for it; on another caller, in the same stream.
    const other = await startCaller();
    const last = other.call('work');
    await stage.started(2);
    stage.finishAll();
    await last;
    await eventually(
      'nothing is in the stream',
      async () => (await fleet.redis.xlen(calls())) === 0,
    );
    expect(writes()).toBe(1);
    expect(stage.runs).toHaveLength(2);
  });

  it('is written again otherwise, and runs once where it runs already', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const { app, writes } = await startCut();
    const outcome = app.get(EnhancedFunctionRegistry).call('work');
    await eventually('it is written again', () => writes() === 2);
    await stage.started();
    stage.finishAll('once');
    await expect(outcome).resolves.toBe('once');
    expect(stage.runs).toHaveLength(1);
  });
});

describe('a connection for replies that is half-open', () => {
  it('is made anew by the caller, and the answer comes', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work'), hosting('ping', () => 'pong')] });
    const proxy = await TcpProxy.start(redisUrl());
    closers.push(() => proxy.close());
    const options = { worker: false, connection: proxy.url, leaseMs: 60_000 };
    const app = await fleet.start({ options });
    const registry = app.get(EnhancedFunctionRegistry);
    // The connection for replies is the last that a caller opens.
    await registry.call('ping');
    const outcome = registry.call('work', {}, { timeoutMs: 15_000 });
    await stage.started();
    proxy.holdNewest();
    stage.finishAll('there');
    await expect(outcome).resolves.toBe('there');
  });
});

describe('a caller that was cancelled', () => {
  it('reaches its call where it was handed over to', async () => {
    const [first, second] = [new Stage(), new Stage()];
    const worker = await fleet.start({
      providers: [first.as('work')],
      options: { drainTimeoutMs: 0 },
    });
    const registry = await startCaller();
    const cancel = new AbortController();
    const outcome = registry.call('work', {}, { signal: cancel.signal });
    outcome.catch(() => undefined);
    await first.started();
    await fleet.start({ providers: [second.as('work')] });
    await fleet.stop(worker);
    const run = await second.started();
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('its second run is told', () => run.context.signal.aborted);
    expect(run.context.signal.reason).toMatchObject({ code: 'CALL_CANCELLED' });
    first.finishAll();
    second.finishAll();
  });

  it('takes its call out of the stream where it was handed over to and nobody has it', async () => {
    const stage = new Stage();
    const worker = await fleet.start({
      providers: [stage.as('work')],
      options: { drainTimeoutMs: 0 },
    });
    const registry = await startCaller();
    const cancel = new AbortController();
    const outcome = registry.call('work', {}, { signal: cancel.signal });
    outcome.catch(() => undefined);
    await stage.started();
    const [before] = await fleet.redis.xrange(calls(), '-', '+');
    await fleet.stop(worker);
    const [after] = await fleet.redis.xrange(calls(), '-', '+');
    expect(after?.[0]).not.toBe(before?.[0]);
    // In the order of the stream: when a later reply has come, the caller knows of the move.
    await fleet.start({ providers: [hosting('ping', () => 'pong')] });
    await registry.call('ping');
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually(
      'it is out of the stream',
      async () => (await fleet.redis.xlen(calls())) === 0,
    );
    stage.finishAll();
  });
});

describe('a call that was handed over', () => {
  it('keeps its first deadline', async () => {
    const [first, second] = [new Stage(), new Stage()];
    // What a deadline counted anew would be later by. (From a second on it would count from when the call was sent.)
    const drainTimeoutMs = 800;
    const worker = await fleet.start({
      providers: [first.as('work')],
      options: { drainTimeoutMs },
    });
    const registry = await startCaller();
    const outcome = registry.call('work', {}, { timeoutMs: 60_000 });
    const { context } = await first.started();
    await fleet.start({ providers: [second.as('work')] });
    await fleet.stop(worker);
    const again = await second.started();
    expect(again.callId).toBe(context.callId);
    expect(Math.abs(again.context.deadline - context.deadline)).toBeLessThan(drainTimeoutMs / 2);
    second.finishAll('done');
    await expect(outcome).resolves.toBe('done');
    first.finishAll();
  });
});

describe('progress', () => {
  it('is not sent after return(), when nobody waits for it any more', async () => {
    const returned = hosting('work', (_input, context) => {
      context.progress('before');
      context.return('answer');
      context.progress('after');
    });
    await fleet.start({ providers: [returned, hosting('ping', () => 'pong')] });
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    const told: unknown[] = [];
    const onProgress = (value: unknown): void => void told.push(value);
    await expect(registry.call('work', {}, { onProgress })).resolves.toBe('answer');
    await eventually('the call is settled', async () => (await fleet.redis.xlen(calls())) === 0);
    // Behind everything that was sent before it.
    await registry.call('ping');
    expect(told).toEqual(['before']);
    // The answer itself may come once more with the end, when that came before Redis had confirmed it.
    expect(caller.get(CallClient).stats().late).toBeLessThanOrEqual(1);
  });
});

function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      if (name in own) return own[name as keyof T];
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function'
        ? (value as (...args: unknown[]) => unknown).bind(target)
        : value;
    },
  });
}
