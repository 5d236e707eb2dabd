import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { CallClient } from '../../src/execution/caller/call-client.js';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { FunctionsTestingModule, TestFleet } from '../../src/testing/index.js';
import { rejection } from '../harness/caught.js';
import { hosting, Stage } from '../harness/host.js';
import { member } from './member.js';

let fleet: TestFleet;
beforeEach(() => {
  fleet = new TestFleet({ clock: 'frozen' });
});
afterEach(() => fleet.close());

const caller = async (): Promise<EnhancedFunctionRegistry> =>
  (await member(fleet, [], { worker: false })).get(EnhancedFunctionRegistry);

it('a call is answered without the clock being turned', async () => {
  await member(fleet, [hosting('work', () => 'done')]);
  const before = fleet.clock.now();
  await expect((await caller()).call('work')).resolves.toBe('done');
  expect(fleet.clock.now()).toBe(before);
});

it('a deadline comes when the clock says so, and not before', async () => {
  const stage = new Stage();
  await member(fleet, [stage.as('work')]);
  const called = (await caller()).call('work', {}, { timeoutMs: 60_000 });
  let failed: unknown;
  called.catch((error: unknown) => (failed = error));
  await stage.started();
  await fleet.clock.advance(59_999);
  expect(failed).toBeUndefined();
  await fleet.clock.advance(1);
  expect(failed).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  stage.finishAll();
});

it('a handler sees its deadline pass with its caller', async () => {
  const stage = new Stage();
  await member(fleet, [stage.as('work')]);
  const called = rejection((await caller()).call('work', {}, { timeoutMs: 1_000 }));
  const { context } = await stage.started();
  expect(context.deadline).toBe(fleet.clock.now() + 1_000);
  const { signal } = context;
  await fleet.clock.advance(999);
  expect(signal.aborted).toBe(false);
  await fleet.clock.advance(1);
  expect(signal.aborted).toBe(true);
  await called;
  stage.finishAll();
});

it('a wait for a worker ends when the clock says so, and not before', async () => {
  const registry = await caller();
  let failed: unknown;
  void rejection(registry.call('nobody', {}, { readinessTimeoutMs: 10_000 })).then(
    (error) => (failed = error),
  );
  await fleet.clock.advance(9_999);
  expect(failed).toBeUndefined();
  await fleet.clock.advance(1);
  expect(failed).toMatchObject({ code: 'READINESS_TIMEOUT' });
});

it('a failed call is tried again after its pause, to the look of the supervisor', async () => {
  const at: number[] = [];
  const run = (): void => {
    at.push(fleet.clock.now());
    if (at.length < 2) throw new Error('not yet');
  };
  const retry = { maxAttempts: 2, backoffMs: 5_000 };
  await member(fleet, [hosting({ name: 'work', retry }, run)]);
  const called = (await caller()).call('work');
  await fleet.clock.advance(10_000);
  await called;
  const pausedMs = (at[1] ?? 0) - (at[0] ?? 0);
  expect(pausedMs).toBeGreaterThanOrEqual(2_500);
  expect(pausedMs).toBeLessThan(5_100);
});

it('leases are kept as long as time is advanced, however far', async () => {
  await member(fleet, [hosting('work', () => 'still there')], { leaseMs: 300 });
  const registry = await caller();
  await fleet.clock.advance(120_000);
  expect(fleet.spy.of('offline')).toEqual([]);
  await expect(registry.call('work', {}, { ifUnavailable: 'fail' })).resolves.toBe('still there');
});

it('a process that is gone is found dead, and its call runs elsewhere, in no real time', async () => {
  const stage = new Stage();
  const lost = await member(fleet, [stage.as('work')]);
  const called = (await caller()).call('work');
  await stage.started();
  await member(fleet, [hosting('work', (_, { attempt }) => `attempt ${attempt}`)]);
  const startedAt = performance.now();
  await fleet.kill(lost);
  await expect(called).resolves.toBe('attempt 2');
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  stage.finishAll();
});

it('a caller whose lease is long keeps its replies, also between two quarters of it', async () => {
  const stage = new Stage();
  const options = { leaseMs: 3_600_000 };
  await member(fleet, [stage.as('work')], options);
  const app = await member(fleet, [], { ...options, worker: false });
  // One whose reply stream was gone would be told that nobody can know what became of it.
  const called = rejection(
    app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { delivery: 'at-most-once', timeoutMs: 1_000_000 }),
  );
  await stage.started();
  // Fifteen times the life of a reply stream that no beat keeps.
  await fleet.clock.advance(900_000);
  stage.finishAll();
  await expect(called).resolves.toBeUndefined();
});

it('an application can be closed while the clock stands still, and leaves no timer', async () => {
  const own = new TestFleet({ clock: 'frozen' });
  const imports = [FunctionsTestingModule.forRoot({ fleet: own })];
  const providers = [hosting('work', () => 'done')];
  const builder = Test.createTestingModule({ imports, providers });
  const module = await builder.compile();
  await module.init();
  await module.get(EnhancedFunctionRegistry).call('work');
  expect(own.clock.pending).toBeGreaterThan(0);
  await module.close();
  expect(own.clock.pending).toBe(0);
  expect(module.get(CallClient).stats().pending).toBe(0);
  await own.close();
});

it('the clock of a fleet that is closed stands still, and sets no timer', async () => {
  const own = new TestFleet();
  own.clock.every(1, () => undefined);
  await own.close();
  own.clock.after(1, () => undefined);
  expect([own.clock.pending, own.clock.mode]).toEqual([0, 'frozen']);
});
