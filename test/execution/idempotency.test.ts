import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry, FunctionError } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const key = { idempotencyKey: 'order-7', timeoutMs: 15_000 };

async function caller(): Promise<EnhancedFunctionRegistry> {
  return (await fleet.start({ options: { worker: false } })).get(EnhancedFunctionRegistry);
}

async function stagedWorker(): Promise<Stage> {
  const stage = new Stage();
  await fleet.start({ providers: [stage.as('work')] });
  return stage;
}

describe('two calls with one idempotencyKey', () => {
  it('run once and both get the result, from two processes at once', async () => {
    const stage = await stagedWorker();
    const [one, two] = [await caller(), await caller()];
    const first = one.call('work', {}, key);
    const { outcome } = await stage.started();
    const second = two.call('work', {}, key);
    await eventually('both wait', async () => {
      const [once] = (await fleet.keys()).filter((name) => name.includes(':once:'));
      const fields = await fleet.redis.hkeys(once ?? '');
      expect(fields.filter((field) => field.startsWith('w:'))).toHaveLength(2);
    });
    outcome.resolve('done once');
    await expect(Promise.all([first, second])).resolves.toEqual(['done once', 'done once']);
    expect(stage.runs).toHaveLength(1);
  });

  it('run once and both get the result, in one tick of one process', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    await one.waitForFunction('work', 'default', 10_000);
    const both = Promise.all([one.call('work', {}, key), one.call('work', {}, key)]);
    (await stage.started()).outcome.resolve('done once');
    await expect(both).resolves.toEqual(['done once', 'done once']);
    expect(stage.runs).toHaveLength(1);
  });

  it('run once and both get the result, one after the other', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    const first = one.call('work', {}, key);
    (await stage.started()).outcome.resolve({ id: 7 });
    await expect(first).resolves.toEqual({ id: 7 });
    await expect((await caller()).call('work', {}, key)).resolves.toEqual({ id: 7 });
    expect(stage.runs).toHaveLength(1);
  });

  it('share progress', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    const heard: unknown[][] = [[], []];
    const calls = heard.map((mine) =>
      one.call('work', {}, { ...key, onProgress: (value) => mine.push(value) }),
    );
    const run = await stage.started();
    run.context.progress(1);
    run.outcome.resolve('end');
    await Promise.all(calls);
    expect(heard).toEqual([[1], [1]]);
  });

  it('both get an answer of context.return(), and a third one later', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    const calls = [one.call('work', {}, key), one.call('work', {}, key)];
    const run = await stage.started();
    run.context.return('early');
    await expect(Promise.all(calls)).resolves.toEqual(['early', 'early']);
    await expect(one.call('work', {}, key)).resolves.toBe('early');
    run.outcome.resolve('ignored');
    expect(stage.runs).toHaveLength(1);
  });

  it('both get the error, which is not kept: a third one runs', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    const calls = [one.call('work', {}, key), one.call('work', {}, key)];
    const settled = Promise.allSettled(calls);
    (await stage.started()).outcome.reject(new FunctionError('NO', 'failed'));
    expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    const third = one.call('work', {}, key);
    (await stage.started(2)).outcome.resolve('third');
    await expect(third).resolves.toBe('third');
  });

  it('go on for the one when the other is cancelled, and end when both are', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    const aborts = [new AbortController(), new AbortController()];
    const calls = aborts.map(({ signal }) =>
      one.call('work', {}, { ...key, signal }).catch((error: unknown) => error),
    );
    const { context } = await stage.started();
    await eventually('both wait', async () => {
      const [once] = (await fleet.keys()).filter((name) => name.includes(':once:'));
      expect(await fleet.redis.hlen(once ?? '')).toBe(4);
    });
    aborts[0]?.abort();
    expect(await calls[0]).toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('one waits', async () => {
      const [once] = (await fleet.keys()).filter((name) => name.includes(':once:'));
      expect(await fleet.redis.hlen(once ?? '')).toBe(3);
    });
    expect(context.signal.aborted).toBe(false);
    aborts[1]?.abort();
    expect(await calls[1]).toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('the handler hears of it', () => context.signal.aborted);
    stage.finishAll();
  });

  it('both get the result of the next owner when their worker is lost', async () => {
    const stage = await stagedWorker();
    const one = await caller();
    const calls = [one.call('work', {}, key), one.call('work', {}, key)];
    await stage.started();
    await condemnAll(fleet);
    const run = await stage.started(2);
    expect(run.context.attempt).toBe(2);
    run.outcome.resolve('next owner');
    await expect(Promise.all(calls)).resolves.toEqual(['next owner', 'next owner']);
    stage.finishAll();
  });

  it('are other calls in another function, or with another key', async () => {
    let runs = 0;
    const work = hosting('work', () => (runs += 1));
    const other = hosting('other', () => (runs += 1));
    await fleet.start({ providers: [work, other] });
    const one = await caller();
    await one.call('work', {}, key);
    await one.call('other', {}, key);
    await one.call('work', {}, { ...key, idempotencyKey: 'order-8' });
    expect(runs).toBe(3);
  });

  it('run again when the result was kept long enough', async () => {
    let runs = 0;
    await fleet.start({
      providers: [hosting('work', () => (runs += 1))],
      options: { idempotencyTtlMs: 1_000 },
    });
    const one = await caller();
    await expect(one.call('work', {}, key)).resolves.toBe(1);
    const [once] = (await fleet.keys()).filter((name) => name.includes(':once:'));
    expect(await fleet.redis.pttl(once ?? '')).toBeLessThanOrEqual(1_000);
    await fleet.redis.pexpire(once ?? '', 0);
    await expect(one.call('work', {}, key)).resolves.toBe(2);
  });
});

describe('an idempotencyKey', () => {
  it.each([[''], ['x'.repeat(257)], [7], [null]])('that is none is refused: %p', async (bad) => {
    const one = await caller();
    await expect(one.call('work', {}, { idempotencyKey: bad as string })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it.each([['a:b{c}'], ['*'], ['画像 😀'], ['x'.repeat(256)]])(
    'may be any text: %p',
    async (odd) => {
      let runs = 0;
      await fleet.start({ providers: [hosting('work', () => (runs += 1))] });
      const one = await caller();
      const options = { idempotencyKey: odd };
      await expect(one.call('work', {}, options)).resolves.toBe(1);
      await expect(one.call('work', {}, options)).resolves.toBe(1);
    },
  );
});
