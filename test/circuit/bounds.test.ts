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
import { rootModule, uniquePrefix } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { hosting } from '../harness/host.js';
import { ManualClock } from '../harness/manual-clock.js';

/** Notes how long each timer is to run. */
class NotingClock extends ManualClock {
  readonly timers: number[] = [];

  override after(ms: number, run: () => void): Timer {
    this.timers.push(ms);
    return super.after(ms, run);
  }
}

let clock: NotingClock;
let app: INestApplicationContext;

beforeEach(() => {
  clock = new NotingClock();
});
afterEach(async () => {
  await app.close();
  if (clock.pending > 0) throw new Error(`${clock.pending} timers are left behind`);
});

async function start(circuit: boolean | CircuitOptions): Promise<FunctionCircuits> {
  const connection = `memory://${uniquePrefix().replace(':', '')}`;
  const options = { connection, circuit, supervise: false };
  const module = await Test.createTestingModule({
    imports: [rootModule(options, { providers: [hosting('work', () => 'done')] })],
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

it('a report has a timer for 250 ms from the first call that is counted, and nothing has one without', async () => {
  await start(true);
  const registry = app.get(EnhancedFunctionRegistry);
  const circuit = registry.getCircuit('work');
  const reports = (): number => clock.timers.filter((ms) => ms === CIRCUIT_REPORT_MS).length;
  const counted = async (): Promise<number> =>
    (await app.get<Backend>(BACKEND).circuits.counts(ref('work'), CIRCUIT_DEFAULTS)).calls;
  for (const round of [1, 2]) {
    await registry.call('work');
    await registry.call('work');
    await settle();
    expect(reports()).toBe(round);
    clock.advance(CIRCUIT_REPORT_MS - 1);
    await settle();
    expect(await counted()).toBe(2 * (round - 1));
    clock.advance(1);
    await settle();
    expect(await counted()).toBe(2 * round);
    clock.advance(1_000);
    await settle();
    expect(reports()).toBe(round);
  }
  expect(circuit.state).toBe('closed');
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
  clock.advance(299_000);
  await settle();
  expect(circuits.of(ref('unused'), undefined)).toBe(unused);
  clock.advance(301_000);
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
