import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  ClosedError,
  DrainingError,
  EnhancedFunctionRegistry,
  WorkerCoordinator,
  type FunctionsOptions,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { News } from '../harness/news.js';

// Its own: connections are looked at by their names.
let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(() => fleet.close());

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;
const times = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

async function withWorker(options: FunctionsOptions = {}, concurrency = 100) {
  fleet = new Fleet(server.url);
  const stage = new Stage();
  const worker = await fleet.start({
    providers: [stage.as({ name: 'work', concurrency })],
    options,
  });
  const caller = await fleet.start({ options: { worker: false } });
  return { stage, worker, registry: caller.get(EnhancedFunctionRegistry) };
}

/** Waits until a worker has stopped reading, whatever it still runs. */
async function untilDraining(fn = 'work'): Promise<void> {
  await eventually('the shutdown is in the registry', async () => {
    const records = await fleet.redis.hvals(`${fleet.prefix}nf:{${fn}:default}:workers`);
    expect(records).toEqual([expect.stringContaining('"draining"')]);
  });
}

describe('a drain', () => {
  it('lets running calls finish, and their callers get the results', async () => {
    const { stage, worker, registry } = await withWorker({ drainTimeoutMs: 10_000 });
    const running = times(5).map((n) => registry.call('work', { n }));
    await stage.started(5);
    const stopped = fleet.stop(worker);
    await untilDraining();
    expect(stage.runs.map(({ context }) => context.signal.aborted)).not.toContain(true);
    for (const { input, outcome } of stage.runs) outcome.resolve(input['n']);
    await stopped;
    await expect(Promise.all(running)).resolves.toEqual(times(5));
    expect(stage.runs.map(({ context }) => context.attempt)).toEqual([1, 1, 1, 1, 1]);
  });

  it('takes nothing new: what comes during it runs elsewhere', async () => {
    const { stage, worker, registry } = await withWorker();
    const running = registry.call('work');
    const { outcome } = await stage.started();
    const stopped = fleet.stop(worker);
    await untilDraining();
    await fleet.redis.xadd(calls(), '*', ...['c', '1 60000  nobody id\t{"p":{},"i":null}']);
    const other = new Stage();
    await fleet.start({ providers: [other.as('work')] });
    const run = await other.started();
    expect(run.callId).toBe('id');
    run.outcome.resolve(1);
    outcome.resolve('mine');
    await stopped;
    await expect(running).resolves.toBe('mine');
    expect(stage.runs).toHaveLength(1);
  });

  it('hands back at its limit what did not finish, aborts it, and it runs elsewhere', async () => {
    const { stage, worker, registry } = await withWorker({ drainTimeoutMs: 300 });
    const call = registry.call('work', { n: 1 });
    const first = await stage.started();
    const drained = worker.get(WorkerCoordinator).drain();
    await expect(drained).resolves.toEqual({ finished: 0, handedBack: 1 });
    expect(first.context.signal.reason).toBeInstanceOf(DrainingError);
    const other = new Stage();
    await fleet.start({ providers: [other.as('work')] });
    const second = await other.started();
    expect(second.callId).toBe(first.callId);
    // Handed back by a living worker: no delivery was lost.
    expect(second.context.attempt).toBe(1);
    second.outcome.resolve('elsewhere');
    await expect(call).resolves.toBe('elsewhere');
    first.outcome.resolve('too late');
    await fleet.stop(worker);
    expect(stage.runs).toHaveLength(1);
    expect(other.runs).toHaveLength(1);
  });

  it('tells an at-most-once caller that its call did not finish, and runs it nowhere else', async () => {
    const { stage, worker, registry } = await withWorker({ drainTimeoutMs: 200 });
    const call = registry
      .call('work', {}, { delivery: 'at-most-once' })
      .catch((error: unknown) => error);
    await stage.started();
    await worker.get(WorkerCoordinator).drain();
    expect(await call).toMatchObject({ code: 'WORKER_LOST' });
    expect(await fleet.redis.xlen(calls())).toBe(0);
  });

  it('leaves what waits behind its running calls to others, untouched', async () => {
    const { stage, worker, registry } = await withWorker({}, 2);
    const all = times(10).map((n) => registry.call('work', { n }));
    await stage.started(2);
    const stopped = fleet.stop(worker);
    await untilDraining();
    stage.finishAll('old');
    await stopped;
    expect(stage.runs).toHaveLength(2);
    const other = new Stage();
    await fleet.start({ providers: [other.as('work')] });
    await other.started(8);
    other.finishAll('new');
    const results = await Promise.all(all);
    expect(results.filter((result) => result === 'old')).toHaveLength(2);
    expect(results.filter((result) => result === 'new')).toHaveLength(8);
    const ids = [...stage.runs, ...other.runs].map(({ callId }) => callId);
    expect(new Set(ids).size).toBe(10);
  });

  it('lets a running handler call other functions until it ends', async () => {
    fleet = new Fleet(server.url);
    await fleet.start({ providers: [hosting('other', () => 'answered')] });
    const go = createDeferred();
    const started = createDeferred();
    const registry = createDeferred<EnhancedFunctionRegistry>();
    const worker = await fleet.start({
      providers: [
        hosting('work', async () => {
          started.resolve();
          await go.promise;
          return (await registry.promise).call('other');
        }),
      ],
    });
    registry.resolve(worker.get(EnhancedFunctionRegistry));
    const caller = await fleet.start({ options: { worker: false } });
    const call = caller.get(EnhancedFunctionRegistry).call('work');
    await started.promise;
    const stopped = fleet.stop(worker);
    await untilDraining();
    go.resolve();
    await expect(call).resolves.toBe('answered');
    await stopped;
  });

  it('is done once however often it is asked for', async () => {
    const { worker } = await withWorker();
    const news = await News.listen(server.url, fleet.prefix, News.channelsOf('work'));
    const coordinator = worker.get(WorkerCoordinator);
    const reports = await Promise.all([coordinator.drain(), coordinator.drain()]);
    await fleet.stop(worker);
    expect(reports[0]).toBe(reports[1]);
    await news.next('offline');
    expect(news.of('shutdown')).toHaveLength(1);
    expect(news.of('offline')).toHaveLength(1);
    news.close();
  });

  it('leaves the process able to call others until it closes', async () => {
    const { worker, stage } = await withWorker();
    await fleet.start({ providers: [hosting('other', () => 'yes')] });
    const registry = worker.get(EnhancedFunctionRegistry);
    await worker.get(WorkerCoordinator).drain();
    await expect(registry.call('other')).resolves.toBe('yes');
    expect(stage.runs).toHaveLength(0);
  });

  it('refuses a registration that comes after it', async () => {
    const { worker } = await withWorker();
    await worker.get(WorkerCoordinator).drain();
    await expect(
      worker.get(EnhancedFunctionRegistry).registerWorker('w-2', 'work', 'default'),
    ).rejects.toBeInstanceOf(ClosedError);
  });
});

describe('coordinateShutdown', () => {
  it('drains one function, and the others of the process go on', async () => {
    fleet = new Fleet(server.url);
    const stage = new Stage();
    const app = await fleet.start({
      providers: [stage.as('work'), hosting('other', () => 'alive')],
      options: { workerId: 'w-1' },
    });
    const caller = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    const call = caller.call('work');
    const { outcome } = await stage.started();
    const report = app.get(EnhancedFunctionRegistry).coordinateShutdown('work', 'default', 'w-1');
    await untilDraining();
    await expect(caller.call('other')).resolves.toBe('alive');
    outcome.resolve('finished');
    await expect(call).resolves.toBe('finished');
    await expect(report).resolves.toEqual({ finished: 1, handedBack: 0 });
    await expect(caller.call('work', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
    await expect(caller.call('other')).resolves.toBe('alive');
    expect(app.get(WorkerCoordinator).state).toBe('active');
    const consumers = await fleet.redis.xinfo('CONSUMERS', calls(), 'workers');
    expect(consumers).toEqual([]);
  });

  it('can be followed by a new registration of the same worker', async () => {
    fleet = new Fleet(server.url);
    const app = await fleet.start({
      providers: [hosting('work', () => 1)],
      options: { workerId: 'w-1' },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.coordinateShutdown('work', 'default', 'w-1');
    const waiting = registry.call('work');
    await registry.registerWorkerWithInstantNotification('w-1', 'work', 'default');
    await expect(waiting).resolves.toBe(1);
  });

  it('of a worker that is not registered says so', async () => {
    const { worker } = await withWorker();
    await expect(
      worker.get(EnhancedFunctionRegistry).coordinateShutdown('work', 'default', 'nobody'),
    ).rejects.toMatchObject({ code: 'WORKER_NOT_REGISTERED' });
  });
});

describe('a closed application', () => {
  const ours = async (): Promise<string[]> =>
    String(await fleet.redis.client('LIST'))
      .split('\n')
      .filter((line) => line.includes('name=nestjs-functions:'));

  it('leaves no lease, record, hosted set, consumer, subscription or connection behind', async () => {
    fleet = new Fleet(server.url);
    const names = times(5).map((n) => `f${n}`);
    const stop = await fleet.start({ providers: names.map((name) => hosting(name, () => name)) });
    const registry = stop.get(EnhancedFunctionRegistry);
    await Promise.all(names.map((name) => registry.call(name)));
    expect(await ours()).toHaveLength(4);
    await fleet.stop(stop);
    const keys = await fleet.keys();
    expect(keys.filter((key) => /:(lease|hosted|workers)$|:supervisor$/.test(key))).toEqual([]);
    expect(await fleet.redis.hlen(`${fleet.prefix}nf:processes`)).toBe(0);
    for (const name of names) {
      const stream = `${fleet.prefix}nf:{${name}:default}:calls`;
      expect(await fleet.redis.xinfo('CONSUMERS', stream, 'workers')).toEqual([]);
      expect(await fleet.redis.xlen(stream)).toBe(0);
    }
    await eventually('the connections are gone', async () => (await ours()).length === 0);
    expect(await fleet.redis.pubsub('CHANNELS', `${fleet.prefix}*`)).toEqual([]);
    const replies = keys.filter((key) => key.endsWith(':replies'));
    const lifetimes = await Promise.all(replies.map((key) => fleet.redis.pttl(key)));
    expect(Math.min(...lifetimes)).toBeGreaterThan(0);
  });

  it('settles its own pending calls with a ClosedError', async () => {
    const { stage, worker } = await withWorker();
    const caller = await fleet.start({ options: { worker: false } });
    const call = caller.get(EnhancedFunctionRegistry).call('work');
    const settled = call.catch((error: unknown) => error);
    await stage.started();
    await fleet.stop(caller);
    expect(await settled).toBeInstanceOf(ClosedError);
    stage.finishAll();
    await fleet.stop(worker);
  });
});

describe('connections', () => {
  it('are four at the most for fifty functions that are hosted, called and watched', async () => {
    fleet = new Fleet(server.url);
    const names = times(50).map((n) => `f${n}`);
    const app = await fleet.start({ providers: names.map((name) => hosting(name, () => name)) });
    const registry = app.get(EnhancedFunctionRegistry);
    await expect(Promise.all(names.map((name) => registry.call(name)))).resolves.toEqual(names);
    const list = String(await fleet.redis.client('LIST')).match(/name=nestjs-functions:\w+/g);
    expect([...(list ?? [])].sort()).toEqual(
      ['calls', 'commands', 'replies', 'subscriber'].map((role) => `name=nestjs-functions:${role}`),
    );
  });

  it('are three for a process that only calls', async () => {
    fleet = new Fleet(server.url);
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    const waiting = registry.call('work', {}, { readinessTimeoutMs: 100 });
    await expect(waiting).rejects.toMatchObject({ code: 'READINESS_TIMEOUT' });
    const list = String(await fleet.redis.client('LIST')).match(/name=nestjs-functions:\w+/g);
    expect([...(list ?? [])].sort()).toEqual(
      ['commands', 'replies', 'subscriber'].map((role) => `name=nestjs-functions:${role}`),
    );
  });
});
