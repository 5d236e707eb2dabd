import { createHook } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { TestClock } from 'nestjs-functions/testing';
import type { Timer } from '../../src/common/clock.js';
import { createDeferred } from '../harness/deferred.js';

describe('a frozen clock', () => {
  let clock: TestClock;
  let told: string[];
  let startedAt: number;
  beforeEach(() => {
    clock = new TestClock('frozen');
    told = [];
    startedAt = clock.now();
  });
  const tell = (name: string) => () => void told.push(`${name}@${clock.now() - startedAt}`);

  it('starts at the present time, and stands still', async () => {
    expect(Math.abs(startedAt - Date.now())).toBeLessThan(1_000);
    clock.after(0, tell('a'));
    await setImmediate();
    expect(clock.now()).toBe(startedAt);
    expect(told).toEqual([]);
  });

  it('runs what becomes due, each at its time, in its order, and nothing before', async () => {
    clock.after(30, tell('c'));
    clock.after(10, tell('a'));
    clock.after(20, tell('b'));
    clock.after(20, tell('b2'));
    await clock.advance(29);
    expect(told).toEqual(['a@10', 'b@20', 'b2@20']);
    expect(clock.now() - startedAt).toBe(29);
    await clock.advance(1);
    expect(told.at(-1)).toBe('c@30');
    expect(clock.pending).toBe(0);
  });

  it('runs what is periodic again and again', async () => {
    const timer = clock.every(10, tell('x'));
    await clock.advance(35);
    expect(told).toEqual(['x@10', 'x@20', 'x@30']);
    timer.cancel();
    await clock.advance(35);
    expect(told).toHaveLength(3);
    expect(clock.pending).toBe(0);
  });

  it('does not run what was cancelled, be it by what ran before', async () => {
    const later = clock.after(20, tell('later'));
    clock.after(10, () => later.cancel());
    await clock.advance(30);
    expect(told).toEqual([]);
  });

  it('runs what was set by what ran, when it is due', async () => {
    clock.after(10, () => clock.after(10, tell('nested')));
    await clock.advance(20);
    expect(told).toEqual(['nested@20']);
  });

  it('lets happen what follows from a step before the next one', async () => {
    clock.after(10, () => void setImmediate().then(tell('follows')));
    clock.after(20, tell('next'));
    await clock.advance(20);
    expect(told).toEqual(['follows@10', 'next@20']);
  });

  it('waits as long as something is under way', async () => {
    let turns = 0;
    const busy = new TestClock('frozen', () => (turns += 1) < 50);
    await busy.settle();
    expect(turns).toBeGreaterThanOrEqual(50);
  });

  it('lets begin what was begun just now, before time passes', async () => {
    const begun = createDeferred();
    void begun.promise.then(() => clock.after(10, tell('a')));
    begun.resolve();
    await clock.advance(10);
    expect(told).toEqual(['a@10']);
  });

  it('advances once after the other', async () => {
    clock.every(10, tell('x'));
    await Promise.all([clock.advance(10), clock.advance(10)]);
    expect(told).toEqual(['x@10', 'x@20']);
    expect(clock.now() - startedAt).toBe(20);
  });

  it('goes on after a task that throws, which who advanced is told', async () => {
    clock.after(10, () => {
      throw new Error('bad task');
    });
    clock.after(20, tell('good'));
    await expect(clock.advance(20)).rejects.toThrow('bad task');
    await clock.advance(20);
    expect(told).toEqual(['good@20']);
  });

  it('ticks at once', () => {
    clock.after(10, () => clock.after(5, tell('a')));
    clock.tick(20);
    expect(told).toEqual(['a@15']);
    expect(clock.now() - startedAt).toBe(20);
  });

  it('stalls: what was due then runs once, and late', () => {
    clock.every(10, tell('x'));
    clock.stall(35);
    expect(told).toEqual(['x@35']);
    clock.tick(10);
    expect(told).toEqual(['x@35', 'x@45']);
  });

  it('can be set, and no time passes', async () => {
    clock.after(10, () => void told.push('a'));
    clock.shift(3_600_000);
    expect(clock.now() - startedAt).toBe(3_600_000);
    expect(told).toEqual([]);
    await clock.advance(10);
    expect(told).toEqual(['a']);
    clock.shift(-7_200_000);
    expect(clock.now() - startedAt).toBe(-3_599_990);
  });

  it.each([-1, NaN, Infinity, '5' as never])('refuses to advance by %p', (ms) => {
    expect(() => clock.advance(ms)).toThrow(/0 or more/);
    expect(() => clock.tick(ms)).toThrow(/0 or more/);
    expect(() => clock.stall(ms)).toThrow(/0 or more/);
  });
});

describe('a running clock', () => {
  it('runs what is due as time passes', async () => {
    const clock = new TestClock();
    const due = createDeferred();
    const startedAt = Date.now();
    clock.after(20, () => due.resolve());
    await due.promise;
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(18);
    expect(clock.mode).toBe('running');
  });

  it('runs what is due first first, whenever it was set', async () => {
    const clock = new TestClock();
    const told: string[] = [];
    const last = createDeferred();
    clock.after(12, () => last.resolve());
    clock.after(8, () => told.push('8'));
    clock.after(4, () => told.push('4'));
    await last.promise;
    expect(told).toEqual(['4', '8']);
  });

  it('passes faster when it is advanced, and goes on from there', async () => {
    const clock = new TestClock();
    const before = clock.now();
    let rang = false;
    clock.after(60_000, () => (rang = true));
    await clock.advance(60_000);
    expect(rang).toBe(true);
    const passed = clock.now() - before;
    expect(passed).toBeGreaterThanOrEqual(60_000);
    expect(passed).toBeLessThan(62_000);
    const soon = createDeferred();
    clock.after(5, () => soon.resolve());
    await soon.promise;
  });

  it('can be frozen, and resumed', async () => {
    const clock = new TestClock();
    const rang = createDeferred();
    clock.after(5, () => rang.resolve());
    clock.freeze();
    const at = clock.now();
    const host = createDeferred();
    setTimeout(() => host.resolve(), 9);
    await host.promise;
    expect(clock.now()).toBe(at);
    expect(clock.pending).toBe(1);
    clock.resume();
    await rang.promise;
    expect(clock.pending).toBe(0);
  });

  it.each([
    ['it is frozen', (clock: TestClock) => clock.freeze()],
    ['it is closed', (clock: TestClock) => clock.close()],
    ['the last task is cancelled', (_: TestClock, { cancel }: Timer) => cancel()],
  ])('leaves no timer of the host when %s', async (_, end) => {
    const timers = new Set<number>();
    const hook = createHook({
      init: (id, type) => void (type === 'Timeout' && timers.add(id)),
      destroy: (id) => void timers.delete(id),
    }).enable();
    const clock = new TestClock();
    const timer = clock.after(60_000, () => undefined);
    const set = timers.size;
    end(clock, timer);
    await setImmediate();
    hook.disable();
    expect([set, timers.size]).toEqual([1, 0]);
  });
});
