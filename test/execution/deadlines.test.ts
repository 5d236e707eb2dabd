import { afterEach, describe, expect, it } from '@jest/globals';
import {
  CallCancelledError,
  DeadlineExceededError,
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  isFunctionsError,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

const calls = `nf:{work:default}:calls`;
const waiting = (): Promise<number> => fleet.redis.xlen(fleet.prefix + calls);

/** A worker with one place, taken, and the call that takes it. */
async function withFullWorker() {
  const stage = new Stage();
  const app = await fleet.start({ providers: [stage.as({ name: 'work', concurrency: 1 })] });
  const registry = app.get(EnhancedFunctionRegistry);
  const first = registry.call('work', { n: 1 });
  await stage.started();
  return { stage, app, registry, first };
}

describe('a deadline', () => {
  it('ends a call that was not started in time, and the call never starts', async () => {
    const { stage, registry, first } = await withFullWorker();
    const late = registry.call('work', { n: 2 }, { timeoutMs: 200 });
    await expect(late).rejects.toBeInstanceOf(DeadlineExceededError);
    await eventually('its entry is gone', async () => (await waiting()) === 1);
    stage.runs[0]?.outcome.resolve(1);
    await first;
    const third = registry.call('work', { n: 3 });
    expect((await stage.started(2)).input).toEqual({ n: 3 });
    stage.finishAll();
    await third;
  });

  it('is kept by the worker when the caller is gone and cannot take its call back', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const fields = ['c', '1 1  nobody gone\t{"p":{},"i":null}'];
    const origin = String(Date.now() - 60_000);
    await fleet.redis.xadd(fleet.prefix + calls, '*', ...fields, 'o', origin);
    await eventually('it is dropped', async () => (await waiting()) === 0);
    const next = app.get(EnhancedFunctionRegistry).call('work', { n: 2 });
    expect((await stage.started()).input).toEqual({ n: 2 });
    stage.finishAll();
    await next;
  });

  it('aborts the signal of a running handler, and its late result changes nothing', async () => {
    const reason = createDeferred<unknown>();
    const end = createDeferred();
    const app = await fleet.start({
      providers: [
        hosting('work', async (_input, { signal }) => {
          signal.addEventListener('abort', () => reason.resolve(signal.reason));
          await end.promise;
          return 'late';
        }),
      ],
    });
    const call = app.get(EnhancedFunctionRegistry).call('work', {}, { timeoutMs: 300 });
    await expect(call).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
      message: expect.stringContaining('within 300 ms'),
    });
    expect(isFunctionsError(await reason.promise)).toBe(true);
    end.resolve();
    await eventually('its entry is gone', async () => (await waiting()) === 0);
  });

  it('has aborted the signal of a handler that first looks after it', async () => {
    const aborted = createDeferred<unknown>();
    await fleet.start({
      providers: [
        hosting('work', async (_input, context) => {
          await eventually('the deadline passes', () => Date.now() > context.deadline);
          aborted.resolve(context.signal.reason);
        }),
      ],
    });
    // By hand: a caller would cancel at its deadline, and abort the signal in that way.
    const fields = ['c', '1 300  nobody id\t{"p":{},"i":null}'];
    await fleet.redis.xadd(fleet.prefix + calls, '*', ...fields);
    await expect(aborted.promise).resolves.toBeInstanceOf(DeadlineExceededError);
  });
});

describe('a cancellation', () => {
  it('before the call is made sends nothing', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.call('work');
    const added = await fleet.redis.xinfo('STREAM', fleet.prefix + calls);
    const call = registry.call('work', {}, { signal: AbortSignal.abort() });
    await expect(call).rejects.toBeInstanceOf(CallCancelledError);
    await registry.call('work');
    const after = await fleet.redis.xinfo('STREAM', fleet.prefix + calls);
    const count = (info: unknown): number =>
      Number((info as unknown[])[(info as unknown[]).indexOf('entries-added') + 1]);
    expect(count(after)).toBe(count(added) + 1);
  });

  it('of a call that waits takes it out of the stream', async () => {
    const { stage, registry, first } = await withFullWorker();
    const abort = new AbortController();
    const second = registry.call('work', { n: 2 }, { signal: abort.signal });
    const refused = second.catch((error: unknown) => error);
    await eventually('it waits', async () => (await waiting()) === 2);
    abort.abort('why');
    expect(await refused).toMatchObject({ code: 'CALL_CANCELLED', cause: 'why' });
    await eventually('it is taken out', async () => (await waiting()) === 1);
    stage.finishAll();
    await first;
    expect(stage.runs).toHaveLength(1);
  });

  it('in the tick of its submission takes it out as well', async () => {
    const { stage, registry, first } = await withFullWorker();
    const abort = new AbortController();
    const second = registry.call('work', { n: 2 }, { signal: abort.signal });
    const refused = second.catch((error: unknown) => error);
    abort.abort();
    expect(await refused).toBeInstanceOf(CallCancelledError);
    const third = registry.call('work', { n: 3 });
    stage.finishAll();
    await first;
    expect((await stage.started(2)).input).toEqual({ n: 3 });
    stage.finishAll();
    await third;
  });

  it('of a running call aborts its handler', async () => {
    const { stage, registry, first } = await withFullWorker();
    stage.finishAll();
    await first;
    const abort = new AbortController();
    const second = registry.call('work', { n: 2 }, { signal: abort.signal });
    const refused = second.catch((error: unknown) => error);
    const run = await stage.started(2);
    const aborted = createDeferred();
    run.context.signal.addEventListener('abort', () => aborted.resolve());
    abort.abort();
    expect(await refused).toBeInstanceOf(CallCancelledError);
    await aborted.promise;
    expect(run.context.signal.reason).toBeInstanceOf(CallCancelledError);
    stage.finishAll();
    await eventually('its entry is gone', async () => (await waiting()) === 0);
  });

  it('reaches the handler in another process', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const caller = await fleet.start({ options: { worker: false } });
    const abort = new AbortController();
    const call = caller.get(EnhancedFunctionRegistry).call('work', {}, { signal: abort.signal });
    const refused = call.catch((error: unknown) => error);
    const { context, outcome } = await stage.started();
    const aborted = createDeferred();
    context.signal.addEventListener('abort', () => aborted.resolve());
    abort.abort();
    expect(await refused).toBeInstanceOf(CallCancelledError);
    await aborted.promise;
    outcome.resolve(1);
  });
});

describe('a call without a worker', () => {
  it('survives in the stream until one comes', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    await registry.waitForFunction('work', 'default', 10_000);
    await app.get(FunctionLifecycleNotifier).forFunction('work').notifyShuttingDown(10);
    // Submitted to a worker that stopped reading in the same moment: as a caller does that has not heard yet.
    const replyTo = 'caller-1';
    await fleet.redis.xadd(
      fleet.prefix + calls,
      '*',
      ...['c', `1 60000  ${replyTo} early\t{"p":{"n":1},"i":null}`],
    );
    await fleet.stop(app);
    expect(await waiting()).toBe(1);
    const later = new Stage();
    await fleet.start({ providers: [later.as('work')] });
    const run = await later.started();
    expect(run).toMatchObject({ callId: 'early', input: { n: 1 } });
    expect(run.context.attempt).toBe(1);
    run.outcome.resolve(1);
    expect(stage.runs).toHaveLength(0);
  });
});
