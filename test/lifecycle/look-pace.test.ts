import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { WorkerCoordinator } from '../../src/index.js';
import { LOOK_INTERVAL_MS, lookIntervalMs } from '../../src/lifecycle/office-candidate.js';
import { Keys } from '../../src/protocol/keys.js';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';

const GAPS = 9;

let fleet: Fleet;
let keys: Keys;
/** When the supervisor looked. */
let looks: number[];

beforeEach(async () => {
  fleet = new Fleet();
  keys = new Keys(fleet.prefix);
  looks = [];
  const caller = await fleet.start({ options: { worker: false } });
  await eventually('it supervises', () => caller.get(WorkerCoordinator).isSupervisor);
  const store = caller.get<Backend>(BACKEND).fleet;
  const look = store.look.bind(store);
  jest.spyOn(store, 'look').mockImplementation((...args) => {
    looks.push(performance.now());
    return look(...args);
  });
});
afterEach(() => fleet.close());

/** Sessions that are judged by their leases alone. */
async function addOthers(count: number): Promise<string[]> {
  const sessions = Array.from({ length: count }, (_, n) => `other-${n}.1`);
  const pipeline = fleet.redis.pipeline();
  for (const session of sessions) pipeline.set(keys.lease(session), '0', 'PX', 60_000);
  pipeline.hset(keys.processes(), Object.fromEntries(sessions.map((one) => [one, 'absent'])));
  await pipeline.exec();
  return sessions;
}

/** The median time between the last looks. */
function pace(): number {
  const last = looks.slice(-GAPS - 1);
  const gaps = last.slice(1).map((at, index) => at - (last[index] ?? NaN));
  return gaps.sort((a, b) => a - b)[GAPS >> 1] ?? NaN;
}

describe('the supervisor', () => {
  it('looks less often at a larger fleet, and as often as before when that is small again', async () => {
    await eventually('it looks', () => looks.length > GAPS);
    const sessions = await addOthers(1_500);
    await eventually('it looks less often', () => pace() >= 1.6 * LOOK_INTERVAL_MS);
    await fleet.redis.hdel(keys.processes(), ...sessions);
    await eventually('and often again', () => pace() < 1.6 * LOOK_INTERVAL_MS);
  });

  it('that looks less often is not asked after by its deputy between two looks', async () => {
    const deputy = await fleet.start({ options: { worker: false } });
    const held = (): Promise<number> => fleet.redis.exists(keys.deputy());
    await eventually('there is a deputy', async () => (await held()) === 1);
    await addOthers(3_000);
    await eventually('it looks less often', () => pace() >= 3.2 * LOOK_INTERVAL_MS);
    const elections = jest.spyOn(deputy.get<Backend>(BACKEND).fleet, 'elect');
    const since = looks.length;
    await eventually('it has looked some times', () => looks.length >= since + 20, 20_000);
    // One for a look that came late, as on a busy machine; not one a look.
    expect(elections.mock.calls.length).toBeLessThan(8);
  });

  it.each([
    [1, 30],
    [1_000, 30],
    [1_001, 60],
    [10_000, 480],
    [1_000_000, 480],
  ])('looks at %d sessions every %d ms', (sessions, intervalMs) => {
    expect(lookIntervalMs(sessions)).toBe(intervalMs);
  });
});
