import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { EnhancedFunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { Stage } from '../harness/host.js';

const WORK = functionRef('work', 'default');

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;

/** What a process does that finds the group gone, and dies in the moment after. */
async function makeGroupAndDie(
  last: (backend: RedisBackend) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const backend = new RedisBackend(redisUrl(), new Keys(fleet.prefix));
  backend.start();
  await backend.calls.ensureGroups([WORK], 'dead-1.1');
  await last(backend);
  await backend.close();
}

describe('a consumer group that was destroyed, whose maker died before it put back what nobody claimed', () => {
  /** One call runs, and others wait: the worker has no place for them, and does not find out by itself. */
  async function withWaitingCalls(delivery: 'at-least-once' | 'at-most-once') {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as({ name: 'work', concurrency: 1 })] });
    await eventually('it supervises', () => app.get(WorkerCoordinator).isSupervisor);
    const registry = app.get(EnhancedFunctionRegistry);
    const first = registry.call('work', { n: 1 });
    const running = await stage.started();
    const others = [2, 3].map((n) => registry.call('work', { n }, { delivery }));
    const outcomes = Promise.allSettled(others);
    await eventually('they wait', async () => (await fleet.redis.xlen(calls())) === 3);
    await fleet.redis.xgroup('DESTROY', calls(), 'workers');
    return { stage, first, running, outcomes };
  }

  it('has its waiting calls run all the same, and what runs is not run twice', async () => {
    const { stage, first, running, outcomes } = await withWaitingCalls('at-least-once');
    await makeGroupAndDie();
    await eventually('the waiting ones are put back', async () => {
      const left = await fleet.redis.xrange(calls(), '-', '+');
      expect(left.filter(([, fields]) => fields.includes('o'))).toHaveLength(2);
    });
    running.outcome.resolve(1);
    await expect(first).resolves.toBe(1);
    for (const run of [2, 3]) (await stage.started(run)).outcome.resolve(run);
    await expect(outcomes).resolves.toEqual([
      { status: 'fulfilled', value: 2 },
      { status: 'fulfilled', value: 3 },
    ]);
    expect(stage.runs).toHaveLength(3);
    expect(await fleet.redis.exists(`${fleet.prefix}nf:unclaimed`)).toBe(0);
  });

  it('has callers of at-most-once calls told, for nobody knows whether they ran', async () => {
    const { first, running, outcomes } = await withWaitingCalls('at-most-once');
    await makeGroupAndDie();
    const lost = { status: 'rejected', reason: { code: 'WORKER_LOST' } };
    expect(await outcomes).toMatchObject([lost, lost]);
    running.outcome.resolve(1);
    await expect(first).resolves.toBe(1);
  });

  it('leaves them alone until workers had their time to claim', async () => {
    const { stage, first, running } = await withWaitingCalls('at-least-once');
    const before = await fleet.redis.xrange(calls(), '-', '+');
    await makeGroupAndDie(async ({ calls: streams }) => {
      await expect(streams.adopt(WORK)).resolves.toBe(0);
      expect(await fleet.redis.xrange(calls(), '-', '+')).toEqual(before);
    });
    running.outcome.resolve(1);
    await expect(first).resolves.toBe(1);
    for (const run of [2, 3]) (await stage.started(run)).outcome.resolve(run);
  });
});
