import { afterEach, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

const callsOf = (name: string): string => `${fleet.prefix}nf:{${name}:default}:calls`;

/** Calls of a function that workers hold: delivered and not settled. */
async function held(name: string): Promise<number> {
  const [count] = (await fleet.redis.xpending(callsOf(name), 'workers')) as [number];
  return count;
}

const times = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe('concurrency', () => {
  it('of a function is reached and never exceeded, and the rest waits in Redis', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as({ name: 'work', concurrency: 3 })] });
    const registry = app.get(EnhancedFunctionRegistry);
    const calls = times(20).map(() => registry.call('work'));
    for (const n of times(20)) {
      const run = await stage.started(n + 1);
      expect(stage.open).toBeLessThanOrEqual(3);
      // One more is held while the settle of an ended one is on its way.
      expect(await held('work')).toBeLessThanOrEqual(4);
      if (n >= 2) run.outcome.resolve(n);
    }
    expect(stage.peak).toBe(3);
    stage.finishAll();
    await Promise.all(calls);
  });

  it('of a process is reached and never exceeded over all its functions', async () => {
    const stage = new Stage();
    const names = ['a', 'b', 'c', 'd'];
    const app = await fleet.start({
      providers: names.map((name) => stage.as(name)),
      options: { concurrency: 3 },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const calls = times(40).map((n) => registry.call(names[n % 4] ?? ''));
    for (const n of times(40)) {
      const run = await stage.started(n + 1);
      expect(stage.open).toBeLessThanOrEqual(3);
      // The stated prefetch: at most one call per function beyond the places.
      const heldNow = await Promise.all(names.map(held));
      expect(Math.max(...heldNow)).toBeLessThanOrEqual(3 + 1);
      expect(heldNow.reduce((sum, count) => sum + count)).toBeLessThanOrEqual(3 + names.length);
      if (n >= 2) run.outcome.resolve(n);
    }
    expect(stage.peak).toBe(3);
    stage.finishAll();
    await Promise.all(calls);
  });

  it('serves every function in turn while a process is full', async () => {
    const stage = new Stage();
    const names = ['a', 'b', 'c', 'd'];
    const app = await fleet.start({
      providers: names.map((name) => stage.as(name)),
      options: { concurrency: 1 },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const flood = times(30).map(() => registry.call('a'));
    const others = ['b', 'c', 'd'].map((name) => registry.call(name));
    const order: string[] = [];
    for (const n of times(33)) {
      const run = await stage.started(n + 1);
      order.push(run.context.functionName);
      run.outcome.resolve(n);
    }
    await Promise.all([...flood, ...others]);
    // Not behind the 30 of the flooded one.
    for (const name of ['b', 'c', 'd']) expect(order.indexOf(name)).toBeLessThan(16);
  });

  it('of a slow function with one place stops nobody else', async () => {
    const slow = new Stage();
    const app = await fleet.start({
      providers: [
        slow.as({ name: 'slow', concurrency: 1 }),
        hosting<{ n: number }>('quick', ({ n }) => n),
      ],
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const stuck = times(5).map(() => registry.call('slow'));
    await slow.started();
    for (const n of times(20)) await expect(registry.call('quick', { n })).resolves.toBe(n);
    expect(slow.runs).toHaveLength(1);
    expect(await held('slow')).toBe(1);
    for (const n of times(5)) (await slow.started(n + 1)).outcome.resolve(n);
    expect(await Promise.all(stuck)).toEqual(times(5));
  });

  it('lets a waiting call start when a place frees, long before a blocked read would end', async () => {
    const slow = new Stage();
    const app = await fleet.start({
      providers: [slow.as({ name: 'slow', concurrency: 1 }), hosting('quick', () => 1)],
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const calls = times(6).map(() => registry.call('slow'));
    const begun = Date.now();
    for (const n of times(6)) {
      const { outcome } = await slow.started(n + 1);
      // It is read for others meanwhile: from here on a read waits that leaves this function out.
      await registry.call('quick');
      outcome.resolve(n);
    }
    await Promise.all(calls);
    // Each of five hand-overs would have taken 2 s, the time that a read blocks.
    expect(Date.now() - begun).toBeLessThan(6_000);
  });

  it('spreads over the workers of a function', async () => {
    const stages = times(3).map(() => new Stage());
    for (const stage of stages)
      await fleet.start({ providers: [stage.as({ name: 'work', concurrency: 2 })] });
    const caller = await fleet.start({ options: { worker: false } });
    const calls = times(6).map(() => caller.get(EnhancedFunctionRegistry).call('work'));
    await Promise.all(stages.map((stage) => stage.started(2)));
    expect(stages.map((stage) => stage.open)).toEqual([2, 2, 2]);
    for (const stage of stages) stage.finishAll();
    await Promise.all(calls);
  });

  it('lets nothing of a settled call behind: the stream is empty and no consumer owes anything', async () => {
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const registry = app.get(EnhancedFunctionRegistry);
    await Promise.all(times(300).map(() => registry.call('work')));
    await eventually('the stream is empty', async () => {
      expect(await fleet.redis.xlen(callsOf('work'))).toBe(0);
      expect(await held('work')).toBe(0);
    });
  });
});
