import { afterAll, afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Backend } from '../../src/backend/backend.js';
import type { CircuitStore, CircuitTerms } from '../../src/backend/circuit-store.js';
import { parseCircuitRecord, type CircuitRecord } from '../../src/protocol/circuit.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { isMalformed } from '../../src/protocol/notification.js';
import { onMemory, onRedis } from '../conformance/backends.js';
import { uniquePrefix } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { Random } from '../harness/random.js';

const REF = functionRef('work', 'default');
const SEEDS = Array.from({ length: 20 }, (_, index) => index + 1);
const STEPS = 40;
const CALLERS = ['a', 'b', 'c', 'd'];
const LONG_MS = 600_000;

/** One of the two stores, and the generation that its record had last: those of the two differ. */
interface Side {
  readonly store: CircuitStore;
  generation: number;
}

type Step = (side: Side) => Promise<unknown>;

/** Both stores are told the same at random, and have to say the same of it: all but times and generations. */
describe('the circuits of both backends', () => {
  const [memory, redis] = [onMemory(), onRedis()];
  let backends: Backend[];
  let sides: Side[];

  beforeEach(async () => {
    const keys = new Keys(uniquePrefix());
    backends = [await memory.create(keys), await redis.create(keys)];
    for (const backend of backends) backend.start();
    await eventually('both are connected', () => backends.every((one) => one.isConnected()));
    sides = backends.map(({ circuits }) => ({ store: circuits, generation: 0 }));
  });
  afterEach(async () => {
    await Promise.all(backends.map((backend) => backend.close()));
  });
  afterAll(() => Promise.all([memory.close(), redis.close()]));

  const learn = (side: Side, text: string): CircuitRecord => {
    const record = parseCircuitRecord(text);
    if (isMalformed(record)) throw new Error(record.malformed);
    expect(record.generation).toBeGreaterThanOrEqual(side.generation);
    side.generation = record.generation;
    return record;
  };
  const told = ({ state, reason, prober, retryAt }: CircuitRecord): unknown[] => [
    ...[state, reason, prober, retryAt !== undefined],
  ];

  function stepOf(random: Random): Step {
    const caller = random.pick(CALLERS);
    const terms: CircuitTerms = {
      ...{ windowMs: LONG_MS, openMs: random.pick([1, LONG_MS]), settleMs: 0 },
      ...{ minimumCalls: random.pick([1, 20]), failureRate: random.pick([0.2, 0.5, 1]) },
      quorum: random.pick([0, 0.5, 1]),
    };
    const calls = 1 + random.below(20);
    const failures = random.pick([0, random.below(calls + 1), calls]);
    const isOld = random.below(8) === 0;
    const verdict = random.pick(['keep', 'success', 'failure', 'none'] as const);
    const forMs = random.pick([1, LONG_MS, undefined]);
    const order = random.pick([
      { kind: 'open', reason: 'by hand', forMs } as const,
      { kind: 'close' } as const,
      { kind: 'reset' } as const,
    ]);
    const read = async (side: Side, reading: Promise<{ record: string }>): Promise<unknown[]> =>
      told(learn(side, (await reading).record));
    return random.pick<Step>([
      (side) => {
        const generation = side.generation - (isOld ? 1 : 0);
        return read(side, side.store.report(REF, { caller, generation, calls, failures, terms }));
      },
      async (side) => {
        const { granted, record } = await side.store.probe(REF, caller, LONG_MS, undefined);
        return [granted, ...told(learn(side, record))];
      },
      (side) => {
        const generation = side.generation - (isOld ? 1 : 0);
        return read(
          side,
          side.store.conclude(REF, generation, verdict, verdict === 'keep' ? LONG_MS : 1),
        );
      },
      (side) => read(side, side.store.order(REF, order)),
      (side) => read(side, side.store.read(REF, undefined)),
      (side) => side.store.counts(REF, terms),
    ]);
  }

  /** What is short is over: on both clocks. */
  async function letShortTimesPass(): Promise<void> {
    for (const { store } of sides)
      await eventually('its time is up', async () => {
        const { record, timestamp } = await store.read(REF, undefined);
        const { retryAt } = parseCircuitRecord(record) as CircuitRecord;
        return retryAt === undefined || retryAt <= timestamp || retryAt > timestamp + LONG_MS / 2;
      });
  }

  it.each(SEEDS)('say the same, seed %i', async (seed) => {
    const random = new Random(seed);
    for (let count = 0; count < STEPS; count += 1) {
      const step = stepOf(random);
      const [ofMemory, ofRedis] = [await step(sides[0] as Side), await step(sides[1] as Side)];
      expect({ count, told: ofRedis }).toEqual({ count, told: ofMemory });
      await letShortTimesPass();
    }
  });
});
