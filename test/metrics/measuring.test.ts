import { afterEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionsMetrics,
  WorkflowNotifier,
  type FleetMetrics,
  type FunctionContext,
  type FunctionMetrics,
} from '../../src/index.js';
import { pause, systemClock } from '../../src/common/clock.js';
import { CallProbes } from '../../src/execution/call-probes.js';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

jest.setTimeout(60_000);

let fleet: Fleet;
afterEach(() => fleet.close());

const registry = (app: INestApplicationContext): EnhancedFunctionRegistry =>
  app.get(EnhancedFunctionRegistry);

/** Everything that a watch says, the last word first. */
function watching(app: INestApplicationContext): {
  last: () => FleetMetrics | undefined;
  of: (name: string) => FunctionMetrics | undefined;
  end: () => void;
} {
  let last: FleetMetrics | undefined;
  const subscription = app
    .get(FunctionsMetrics)
    .watch()
    .subscribe((metrics) => (last = metrics));
  return {
    last: () => last,
    of: (name) => last?.functions.find(({ functionName }) => functionName === name),
    end: () => subscription.unsubscribe(),
  };
}

/** What a promise fails with. */
const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'nothing',
    (error: unknown) => error,
  );

/** A value once it is there, and fits. */
async function once<T>(what: string, find: () => T | undefined, fits: (value: T) => boolean) {
  let found: T | undefined;
  await eventually(what, () => {
    found = find();
    return found !== undefined && fits(found);
  });
  return found as T;
}

const isMeasuring = (app: INestApplicationContext): boolean =>
  app.get(CallProbes).caller !== undefined && app.get(CallProbes).worker !== undefined;

const hasProbe = (app: INestApplicationContext): boolean =>
  app.get(CallProbes).caller !== undefined || app.get(CallProbes).worker !== undefined;

describe.each(['redis', 'memory'])('what is measured on %s', (kind) => {
  const connection = (): { connection?: string } =>
    kind === 'redis' ? {} : { connection: `memory://${fleet.prefix.replace(':', '')}` };

  it('are calls and runs, errors by code, retries and latencies of both sides', async () => {
    fleet = new Fleet();
    const handle = (input: { kind?: string }, context: FunctionContext): unknown => {
      if (input.kind === 'broken') throw new FunctionError('BROKEN', 'it is');
      if (input.kind === 'flaky' && context.attempt === 1) throw new Error('once');
      return pause(systemClock, 20);
    };
    const retry = { maxAttempts: 2, backoffMs: 10, retryIf: (e: Error) => e.message === 'once' };
    await fleet.start({
      options: connection(),
      providers: [hosting({ name: 'work', retry } as never, handle)],
    });
    const caller = await fleet.start({ options: { worker: false, ...connection() } });
    const watch = watching(caller);
    await eventually('both measure', () => isMeasuring(caller) && watch.of('work') !== undefined);
    for (let i = 0; i < 5; i += 1) await registry(caller).call('work');
    await failure(registry(caller).call('work', { kind: 'broken' }));
    await registry(caller).call('work', { kind: 'flaky' });
    await failure(registry(caller).call('work', {}, { timeoutMs: -1 }));
    const noWorker = registry(caller).call('nobody', {}, { ifUnavailable: 'fail' });
    expect(await failure(noWorker)).toMatchObject({ code: 'NO_WORKER' });

    const work = await once(
      'all is told',
      () => watch.of('work'),
      ({ calls, runs }) => calls >= 7 && runs >= 8 && watch.of('nobody') !== undefined,
    );
    expect(work).toMatchObject({ calls: 7, runs: 8 });
    expect(work).toMatchObject({
      callErrors: { BROKEN: 1 },
      runErrors: { BROKEN: 1, HANDLER_FAILED: 1 },
      retries: 1,
      handOvers: 0,
      pending: 0,
      running: 0,
      waiting: 0,
      backlog: { calls: 0, waiting: 0, oldestMs: 0 },
    });
    expect(work.roundTrip.count).toBe(7);
    expect(work.run.count).toBe(8);
    expect(work.queue.count).toBe(8);
    expect(work.wait.count).toBe(7);
    expect(work.run.p90Ms).toBeGreaterThan(18);
    expect(work.roundTrip.p90Ms).toBeGreaterThanOrEqual(work.run.p50Ms);
    expect(watch.of('nobody')).toMatchObject({ calls: 1, runs: 0, callErrors: { NO_WORKER: 1 } });
    expect(watch.last()).toMatchObject({ dropped: 0 });
    watch.end();
  });

  it('is what is under way: calls that run, wait in Redis, and wait for a worker', async () => {
    fleet = new Fleet();
    const stage = new Stage();
    await fleet.start({
      options: connection(),
      providers: [stage.as({ name: 'held', concurrency: 1 })],
    });
    const caller = await fleet.start({ options: { worker: false, ...connection() } });
    const watch = watching(caller);
    await eventually('both measure', () => isMeasuring(caller) && watch.of('held') !== undefined);
    const calls = [1, 2, 3].map(() => registry(caller).call('held'));
    const unheard = failure(registry(caller).call('missing', {}, { readinessTimeoutMs: 4_000 }));
    await stage.started();
    const held = await once(
      'it is told',
      () => watch.of('held'),
      ({ backlog }) =>
        (backlog?.oldestMs ?? 0) > 500 && (watch.of('missing')?.oldestWaitMs ?? 0) > 500,
    );
    expect(held).toMatchObject({ pending: 3, running: 1, waiting: 0 });
    expect(held.backlog).toMatchObject({ calls: 3 });
    expect(held.queued + (held.backlog?.waiting ?? 0)).toBe(2);
    expect(watch.of('missing')).toMatchObject({ waiting: 1, calls: 0 });
    for (let run = 1; run <= 3; run += 1) (await stage.started(run)).outcome.resolve('x');
    await Promise.all(calls);
    expect(await unheard).toMatchObject({ code: 'READINESS_TIMEOUT' });
    watch.end();
  });
});

describe('measuring', () => {
  it('goes on exactly while somebody listens, and for ten seconds more', async () => {
    fleet = new Fleet();
    const worker = await fleet.start({ providers: [hosting('work', () => 1)] });
    const caller = await fleet.start({ options: { worker: false } });
    await registry(caller).call('work');
    expect([isMeasuring(worker), isMeasuring(caller)]).toEqual([false, false]);
    const { functions } = await caller.get(FunctionsMetrics).snapshot();
    expect(functions).toMatchObject([{ functionName: 'work', calls: 0, runs: 0 }]);
    expect([isMeasuring(worker), isMeasuring(caller)]).toEqual([true, true]);
    await eventually('it ends', () => ![worker, caller].some(hasProbe), 20_000);
  });

  it('counts from zero, under a higher epoch, when it begins anew', async () => {
    fleet = new Fleet();
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const metrics = app.get(FunctionsMetrics);
    const first = await metrics.snapshot();
    await registry(app).call('work');
    await eventually('it ends', () => !isMeasuring(app), 20_000);
    const second = await metrics.snapshot({ functionName: 'work' });
    const [before, after] = [first, second].map(({ functions }) => functions[0]?.processes[0]);
    expect(after).toMatchObject({ calls: 0, runs: 0 });
    expect(after?.since).toBeGreaterThan(before?.since ?? Infinity);
  });

  it('counts a call once that workers of another generation passed on', async () => {
    fleet = new Fleet();
    const stage = new Stage();
    await fleet.start({
      options: { concurrency: 1 },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const caller = await fleet.start({ options: { worker: false } });
    const group = await registry(caller).atGeneration('flow');
    await caller.get(WorkflowNotifier).notifySaved('flow', 'new');
    const later = await fleet.start({
      providers: [hosting({ name: 'a', workflowId: 'flow' }, () => 'new')],
    });
    const watch = watching(caller);
    await eventually('it measures', () => isMeasuring(later) && watch.of('a') !== undefined);
    const calls = [group.call('a'), group.call('a')];
    await stage.started();
    await eventually('one is put aside', async () => {
      return (await fleet.redis.exists(`${fleet.prefix}nf:{a:flow}:aside`)) === 1;
    });
    for (let run = 1; run <= 2; run += 1) (await stage.started(run)).outcome.resolve('x');
    await Promise.all(calls);
    const told = await once(
      'all is told',
      () => watch.of('a'),
      ({ run, calls }) => run.count === 2 && calls === 2,
    );
    expect(told).toMatchObject({ runs: 2, handOvers: 0 });
    watch.end();
  });
});
