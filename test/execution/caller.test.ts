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

describe('a call whose write was cut off after Redis carried it out', () => {
  /** A caller whose first write of a call is cut off, and how many were begun. */
  async function startCut(): Promise<{ app: INestApplicationContext; writes: () => number }> {
    let writes = 0;
    const wrap = (backend: Backend): Backend => {
      const submit: CallStreams['submit'] = async (...args) => {
        writes += 1;
        const first = writes === 1;
        const results = await backend.calls.submit(...args);
        return first ? [new BackendUnavailableError('submit', 'the test')] : results;
      };
      const port = overriding(backend.calls, { submit });
      return overriding(backend, { calls: port });
    };
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
