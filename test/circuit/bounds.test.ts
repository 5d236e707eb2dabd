import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import type { Backend } from '../../src/backend/backend.js';
import { CIRCUIT_REPORT_MS } from '../../src/backend/limits.js';
import { BACKEND, CLOCK } from '../../src/backend/tokens.js';
import { CIRCUIT_DEFAULTS } from '../../src/circuit/circuit-options.js';
import type { Timer } from '../../src/common/clock.js';
import {
  EnhancedFunctionRegistry,
  FunctionCircuits,
  NotificationManager,
  type CircuitOptions,
} from '../../src/index.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { TestClock } from '../../src/testing/test-clock.js';
import { rootModule, uniquePrefix } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { codeOf } from '../harness/caught.js';
import { hosting } from '../harness/host.js';

/** Notes how long each timer is to run. */
class NotingClock extends TestClock {
  readonly timers: number[] = [];

  override after(ms: number, run: () => void): Timer {
    this.timers.push(ms);
    return super.after(ms, run);
  }
}

let clock: NotingClock;
let app: INestApplicationContext;

beforeEach(() => {
  clock = new NotingClock('frozen');
});
afterEach(async () => {
  await app.close();
  if (clock.pending > 0) throw new Error(`${clock.pending} timers are left behind`);
});

async function start(circuit: boolean | CircuitOptions): Promise<FunctionCircuits> {
  const connection = `memory://${uniquePrefix().replace(':', '')}`;
  const options = { connection, circuit, supervise: false };
  const broken = hosting('broken', () => {
    throw new Error('broken');
  });
  const module = await Test.createTestingModule({
    imports: [rootModule(options, { providers: [hosting('work', () => 'done'), broken] })],
  })
    .overrideProvider(CLOCK)
    .useValue(clock)
    .setLogger(new CapturingLogger())
    .compile();
  app = await module.init();
  return app.get(FunctionCircuits);
}

/** What was asked for is answered. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
}

const ref = (name: string): ReturnType<typeof functionRef> => functionRef(name, 'default');
const counted = async (name: string): Promise<number> =>
  (await app.get<Backend>(BACKEND).circuits.counts(ref(name), CIRCUIT_DEFAULTS)).calls;

it('a report has a timer for 250 ms from the first call that is counted, and nothing has one without', async () => {
  await start(true);
  const registry = app.get(EnhancedFunctionRegistry);
  const circuit = registry.getCircuit('work');
  const reports = (): number => clock.timers.filter((ms) => ms === CIRCUIT_REPORT_MS).length;
  for (const round of [1, 2]) {
    await registry.call('work');
    await registry.call('work');
    await settle();
    expect(reports()).toBe(round);
    clock.tick(CIRCUIT_REPORT_MS - 1);
    await settle();
    expect(await counted('work')).toBe(2 * (round - 1));
    clock.tick(1);
    await settle();
    expect(await counted('work')).toBe(2 * round);
    clock.tick(1_000);
    await settle();
    expect(reports()).toBe(round);
  }
  expect(circuit.state).toBe('closed');
});

it('a report that might open it goes at once, then 25, 50 and 100 ms later while it opens nothing', async () => {
  await start({ minimumCalls: 4 });
  const registry = app.get(EnhancedFunctionRegistry);
  const fail = async (count: number): Promise<void> => {
    for (let call = 0; call < count; call += 1)
      expect(await codeOf(registry.call('broken'))).toBe('HANDLER_FAILED');
    await settle();
  };
  await fail(3);
  expect(await counted('broken')).toBe(0);
  await fail(1);
  expect(await counted('broken')).toBe(4);
  let reported = 4;
  for (const gapMs of [25, 50, 100]) {
    clock.tick(gapMs - 1);
    await fail(1);
    expect(await counted('broken')).toBe(reported);
    clock.tick(1);
    await fail(1);
    reported += 2;
    expect(await counted('broken')).toBe(reported);
  }
});

it('without circuits there is neither a timer nor a subscription for them', async () => {
  const circuits = await start(false);
  const registry = app.get(EnhancedFunctionRegistry);
  await registry.call('work');
  await settle();
  expect(clock.timers).not.toContain(CIRCUIT_REPORT_MS);
  // The four of the function, the presence of the process, and what it hears of listeners.
  expect(app.get(NotificationManager).stats().channels).toBe(6);
  expect(circuits.of(ref('work'), undefined)).toBeUndefined();
});

it('a closed circuit that nobody uses is forgotten, with its subscription; an open one, or one that is held, is not', async () => {
  const circuits = await start(true);
  const registry = app.get(EnhancedFunctionRegistry);
  const unused = circuits.of(ref('unused'), undefined);
  const held = registry.getCircuit('held');
  const open = circuits.of(ref('open'), undefined);
  await open?.order((store) =>
    store.order(ref('open'), { kind: 'open', reason: 'x', forMs: undefined }),
  );
  await settle();
  const { channels } = app.get(NotificationManager).stats();
  clock.tick(299_000);
  await settle();
  expect(circuits.of(ref('unused'), undefined)).toBe(unused);
  clock.tick(301_000);
  await settle();
  expect(app.get(NotificationManager).stats().channels).toBe(channels - 1);
  expect(circuits.of(ref('unused'), undefined)).not.toBe(unused);
  expect(circuits.of(ref('open'), undefined)).toBe(open);
  await held.close();
  expect(held.state).toBe('closed');
});

it('there are 2,000 circuits at the most', async () => {
  const circuits = await start(true);
  const first = circuits.of(ref('f0'), undefined);
  for (let count = 1; count <= 2_000; count += 1) circuits.of(ref(`f${count}`), undefined);
  await settle();
  expect(app.get(NotificationManager).stats().channels).toBeLessThanOrEqual(2_010);
  expect(circuits.of(ref('f0'), undefined)).not.toBe(first);
});
