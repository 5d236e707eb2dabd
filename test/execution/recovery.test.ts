import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import {
  EnhancedFunctionRegistry,
  isFunctionsError,
  WorkerCoordinator,
  type FunctionContext,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

jest.setTimeout(40_000);

// Its own: connections are killed by kind, it is emptied and restarted.
let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(() => fleet.close());

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;
const times = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

/** A worker that counts the runs of each call, and a caller. */
async function withCounter() {
  fleet = new Fleet(server.url);
  const runs = new Map<string, number>();
  const count = ({ n }: { n: number }, { callId }: FunctionContext): number => {
    runs.set(callId, (runs.get(callId) ?? 0) + 1);
    return n;
  };
  const worker = await fleet.start({
    providers: [hosting('work', count)],
    options: { leaseMs: 600 },
  });
  const caller = await fleet.start({ options: { worker: false, leaseMs: 600 } });
  return { runs, worker, registry: caller.get(EnhancedFunctionRegistry) };
}

/** Breaks every connection with that role. */
async function killConnections(role: string): Promise<number> {
  const list = String(await fleet.redis.client('LIST')).split('\n');
  const ids = list
    .filter((line) => new RegExp(`name=nestjs-functions:${role}[: ]`).test(line))
    .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '');
  for (const id of ids) await fleet.redis.client('KILL', 'ID', Number(id));
  return ids.length;
}

describe('while calls come', () => {
  it.each(['calls', 'replies'])(
    'the connection that reads %s is killed five times: each call runs exactly once',
    async (role) => {
      const { runs, registry } = await withCounter();
      const made: Promise<number>[] = [];
      for (const round of times(5)) {
        for (const n of times(40)) {
          made.push(registry.call<number>('work', { n: round * 40 + n }));
          if (n % 4 === 0) await new Promise(setImmediate);
          if (n === 20)
            await eventually('it is killed', async () => (await killConnections(role)) > 0);
        }
      }
      expect(await Promise.all(made)).toEqual(times(200));
      expect(runs.size).toBe(200);
      expect(Math.max(...runs.values())).toBe(1);
    },
  );

  it('the command connections are killed: each call is answered, and runs once', async () => {
    const { runs, registry } = await withCounter();
    const made: Promise<number>[] = [];
    for (const n of times(120)) {
      made.push(registry.call<number>('work', { n }));
      if (n % 4 === 0) await new Promise(setImmediate);
      if (n % 30 === 15) await killConnections('commands');
    }
    expect(await Promise.all(made)).toEqual(times(120));
    // A call whose write was cut off may have been written: it is written again, and may run again.
    expect([...runs.values()].filter((count) => count > 2)).toEqual([]);
  });
});

describe('a stream that somebody tampers with', () => {
  it.each([
    ['XGROUP DESTROY', () => fleet.redis.xgroup('DESTROY', calls(), 'workers')],
    ['DEL of the stream', () => fleet.redis.del(calls())],
    [
      'DEL and a string in its place, removed again',
      async () => {
        await fleet.redis.set(calls(), 'x');
        await fleet.redis.del(calls());
      },
    ],
  ])('is read again after %s', async (_what, tamper) => {
    const { registry } = await withCounter();
    await expect(registry.call('work', { n: 1 })).resolves.toBe(1);
    await tamper();
    await expect(registry.call('work', { n: 2 })).resolves.toBe(2);
    await expect(registry.call('work', { n: 3 })).resolves.toBe(3);
  });

  it('does not start a running call a second time when its group was destroyed', async () => {
    fleet = new Fleet(server.url);
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const registry = app.get(EnhancedFunctionRegistry);
    const first = registry.call('work', { n: 1 });
    await stage.started();
    await fleet.redis.xgroup('DESTROY', calls(), 'workers');
    const second = registry.call('work', { n: 2 });
    const run = await stage.started(2);
    expect(run.input).toEqual({ n: 2 });
    stage.finishAll();
    await expect(Promise.all([first, second])).resolves.toEqual(['done', 'done']);
    expect(stage.runs).toHaveLength(2);
    await eventually('both are removed', async () => (await fleet.redis.xlen(calls())) === 0);
  });

  it('whose running call is deleted under its worker: the caller is told by its deadline', async () => {
    fleet = new Fleet(server.url);
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const call = app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { timeoutMs: 1_000 })
      .catch((error: unknown) => error);
    const { outcome } = await stage.started();
    await fleet.redis.del(calls());
    outcome.resolve('of a call that is no more');
    expect(await call).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    const later = app.get(EnhancedFunctionRegistry).call('work');
    (await stage.started(2)).outcome.resolve('fine');
    await expect(later).resolves.toBe('fine');
  });
});

describe('ownership', () => {
  it('of a call that was handed over: the settle of the old owner changes nothing', async () => {
    fleet = new Fleet(server.url);
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const call = app.get(EnhancedFunctionRegistry).call('work');
    const { outcome } = await stage.started();
    // As a supervisor does it: under a new entry id, out of the old owner's reach.
    const [[id, fields]] = (await fleet.redis.xrange(calls(), '-', '+')) as [[string, string[]]];
    await fleet.redis
      .multi()
      .xack(calls(), 'workers', id)
      .xdel(calls(), id)
      .xadd(calls(), '*', ...fields, 'a', '2')
      .exec();
    const second = await stage.started(2);
    outcome.resolve('of the old owner');
    await new Promise(setImmediate);
    expect(await fleet.redis.xlen(calls())).toBe(1);
    second.outcome.resolve('of the new owner');
    await expect(call).resolves.toBe('of the new owner');
    expect(second.context.attempt).toBe(2);
  });
});

describe('Redis', () => {
  it('emptied by FLUSHALL: later calls work, and the ones that were out are answered', async () => {
    const { registry, worker } = await withCounter();
    await expect(registry.call('work', { n: 1 })).resolves.toBe(1);
    const registered = createDeferred();
    worker.get(WorkerCoordinator).on('registered', () => registered.resolve());
    await fleet.redis.flushall();
    const during = times(20).map((n) => registry.call('work', { n }, { timeoutMs: 15_000 }));
    await registered.promise;
    await expect(registry.call('work', { n: 2 })).resolves.toBe(2);
    await expect(Promise.all(during)).resolves.toEqual(times(20));
  });

  it('killed and restarted empty: what was called meanwhile runs, or fails typed by its deadline', async () => {
    const { registry, runs } = await withCounter();
    await expect(registry.call('work', { n: 1 })).resolves.toBe(1);
    await server.kill('SIGKILL');
    const patient = times(20).map((n) => registry.call('work', { n }, { timeoutMs: 20_000 }));
    const hasty = registry.call('work', { n: 99 }, { timeoutMs: 300 }).catch((e: unknown) => e);
    const once = registry
      .call('work', { n: 98 }, { timeoutMs: 20_000, delivery: 'at-most-once' })
      .catch((error: unknown) => error);
    expect(await hasty).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    await server.restart();
    await expect(Promise.all(patient)).resolves.toEqual(times(20));
    const outcome = await once;
    expect(outcome === 98 || isFunctionsError(outcome)).toBe(true);
    await expect(registry.call('work', { n: 3 })).resolves.toBe(3);
    expect([...runs.values()].filter((count) => count > 1)).toEqual([]);
    expect(await registry.getAvailableWorkers('work', 'default')).toHaveLength(1);
  });

  it('gone while an application closes holds it up for some seconds at the most', async () => {
    const { worker } = await withCounter();
    await server.kill('SIGKILL');
    const begun = Date.now();
    await fleet.stop(worker);
    // A container has 30 s until it is killed, and the running calls want some of them.
    expect(Date.now() - begun).toBeLessThan(8_000);
    await server.restart();
  });
});

describe('the reply stream', () => {
  it('is trimmed once its caller has read and is quiet', async () => {
    const { registry } = await withCounter();
    await Promise.all(times(50).map((n) => registry.call('work', { n })));
    const keys = (await fleet.keys()).filter((key) => key.endsWith(':replies'));
    expect(keys).toHaveLength(1);
    await eventually('it is empty', async () => (await fleet.redis.xlen(keys[0] ?? '')) === 0);
    expect(await fleet.redis.pttl(keys[0] ?? '')).toBeGreaterThan(0);
  });

  it('stays short under a load that never ends', async () => {
    const { registry } = await withCounter();
    const lengths: number[] = [];
    for (const _ of times(10)) {
      await Promise.all(times(500).map((n) => registry.call('work', { n })));
      const [key = ''] = (await fleet.keys()).filter((name) => name.endsWith(':replies'));
      lengths.push(await fleet.redis.xlen(key));
    }
    expect(Math.max(...lengths)).toBeLessThan(3_000);
  });
});
