import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND, CLOCK } from '../../src/backend/tokens.js';
import { EnhancedFunctionRegistry, type FunctionsOptions } from '../../src/index.js';
import { rootModule, uniquePrefix } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { hosting, Stage } from '../harness/host.js';
import { ManualClock } from '../harness/manual-clock.js';

let clock: ManualClock;
let connection: string;
let apps: INestApplicationContext[];
beforeEach(() => {
  clock = new ManualClock();
  connection = `memory://${uniquePrefix().replace(':', '')}`;
  apps = [];
});
afterEach(async () => {
  const closed = Promise.all(apps.map((app) => app.close()));
  let open = true;
  void closed.finally(() => (open = false));
  while (open) await pass(10);
  if (clock.pending > 0) throw new Error(`${clock.pending} timers are left behind`);
});

async function start(
  providers: Type<unknown>[] = [],
  options: FunctionsOptions = {},
): Promise<INestApplicationContext> {
  const module = await Test.createTestingModule({
    imports: [rootModule({ connection, ...options }, { providers })],
  })
    .overrideProvider(CLOCK)
    .useValue(clock)
    .setLogger(new CapturingLogger())
    .compile();
  const app = await module.init();
  apps.push(app);
  return app;
}

const caller = async (): Promise<EnhancedFunctionRegistry> =>
  (await start([], { worker: false })).get(EnhancedFunctionRegistry);

/** Time passes, and what it brings about happens. */
async function pass(ms: number, stepMs = 10): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    clock.advance(stepMs);
    for (let turn = 0; turn < 4; turn += 1) await setImmediate();
  }
}

it('a call is answered without the clock being turned', async () => {
  await start([hosting('work', () => 'done')]);
  const before = clock.now();
  await expect((await caller()).call('work')).resolves.toBe('done');
  expect(clock.now()).toBe(before);
});

it('a deadline comes when the clock says so, and not before', async () => {
  const stage = new Stage();
  await start([stage.as('work')]);
  const called = (await caller()).call('work', {}, { timeoutMs: 60_000 });
  let failed: unknown;
  called.catch((error: unknown) => (failed = error));
  await stage.started();
  await pass(59_990);
  expect(failed).toBeUndefined();
  await pass(10);
  expect(failed).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  stage.finishAll();
});

it('a failed call is tried again after its pause, to the look of the supervisor', async () => {
  const at: number[] = [];
  const run = (): void => {
    at.push(clock.now());
    if (at.length < 2) throw new Error('not yet');
  };
  await start([hosting({ name: 'work', retry: { maxAttempts: 2, backoffMs: 5_000 } }, run)]);
  const called = (await caller()).call('work');
  await pass(10_000);
  await called;
  const pausedMs = (at[1] ?? 0) - (at[0] ?? 0);
  expect(pausedMs).toBeGreaterThanOrEqual(2_500);
  expect(pausedMs).toBeLessThan(7_600);
});

it('a process that is gone is found dead, and its call runs elsewhere, in no real time', async () => {
  const stage = new Stage();
  const lost = await start([stage.as('work')]);
  const called = (await caller()).call('work');
  await stage.started();
  await start([hosting('work', (_, { attempt }) => `attempt ${attempt}`)]);
  const startedAt = performance.now();
  await lost.get<Backend>(BACKEND).close();
  await pass(3_000);
  await expect(called).resolves.toBe('attempt 2');
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  stage.finishAll();
});

it('a caller whose lease is long keeps its replies, also between two quarters of it', async () => {
  const stage = new Stage();
  const options = { leaseMs: 3_600_000 };
  await start([stage.as('work')], options);
  const app = await start([], { ...options, worker: false });
  // One whose reply stream was gone would be told that nobody can know what became of it.
  const delivery = 'at-most-once';
  const timeoutMs = 1_000_000;
  const called = app
    .get(EnhancedFunctionRegistry)
    .call('work', {}, { delivery, timeoutMs })
    .catch(String);
  await stage.started();
  // Fifteen times the life of a reply stream that no beat keeps.
  await pass(900_000, 250);
  stage.finishAll();
  await expect(called).resolves.toBe('done');
});
