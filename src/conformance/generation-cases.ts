import assert from 'node:assert/strict';
import { PASSES_AT_ONCE } from '../backend/limits.js';
import { functionRef } from '../protocol/function-ref.js';
import type { ConformanceCase } from './conformance-case.js';
import { given, type GivenCall, type Member } from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS, SHORT_BLOCK_MS } from './patience.js';
import { portCases } from './scene.js';

const bound = { bound: true, payload: '{"p":{},"i":null,"g":7}' };

/** Passes a call on, as a worker of another generation does. */
const passOn = (member: Member, call: GivenCall, delayMs = 0): Promise<boolean> =>
  member.say(call, 'pass', '', { generation: 7, delayMs, replyTo: '' });

export const generationCases: readonly ConformanceCase[] = [
  ...portCases('At least once, fenced', {
    'a call that is passed on is taken again, as the same attempt, while its generation is served':
      async (scene) => {
        const { ref } = scene;
        const worker = await scene.worker();
        const other = await scene.worker();
        const caller = await scene.caller();
        await worker.register(ref, 'new', { generation: 8 });
        await other.register(ref, 'old', { generation: 7 });
        await caller.submit(ref, 'bound', bound);
        const first = await worker.takeOne(ref);
        assert.deepEqual([first.bound, first.passes], [true, 0]);
        const waiting = other.reader.read([ref], 1, LONG_BLOCK_MS);
        assert.equal(await passOn(worker, first), true);
        const [raw] = await atOnce('the other one gets it', waiting);
        assert.ok(raw, 'it gets it');
        const second = given(raw);
        assert.deepEqual(
          [second.callId, second.bound, second.attempt, second.failures, second.passes],
          ['bound', true, 1, 0, 1],
        );
        assert.equal(second.submittedAt, first.submittedAt);
        assert.equal((await caller.nextReply()).reply.kind, 'moved');
        assert.equal(await worker.say(first, 'settle'), false);
        assert.equal(await other.say(second, 'settle'), true);
        assert.equal((await caller.nextReply()).reply.kind, 'result');
      },

    'a call that is passed on comes to one of its generation that waits for a bell, and not to who reads directly':
      async (scene) => {
        const { ref } = scene;
        const pools = ['pool-1'];
        const look = { pools, limit: 10, functions: 64, perFunction: 10, rooms: [], waits: true };
        const passing = await scene.worker();
        const reading = await scene.worker();
        const own = await scene.worker();
        await passing.register(ref, 'new1', { generation: 8 });
        await reading.register(ref, 'new2', { generation: 8 });
        await own.register(ref, 'old', { generation: 7, poolId: 'pool-1' });
        await own.submit(ref, 'bound', bound);
        const first = await passing.takeOne(ref);
        const direct = reading.reader.read([ref], 1, 200);
        await becomes('what rang for it, before somebody else took it, is over', async () => {
          const { rang } = await own.reader.waitForBell(pools, SHORT_BLOCK_MS);
          assert.deepEqual((await own.reader.take(look)).calls, []);
          return rang ? undefined : true;
        });
        const offer = { places: 1, until: Date.now() + LONG_BLOCK_MS };
        const bell = begun(own.reader.waitForBell(pools, LONG_BLOCK_MS, offer));
        await becomes('it waits', async () => (await own.reader.wake()) || undefined);
        await atOnce('the wait ends', bell);
        // It looks and waits again, as whoever was rung for does; its offer holds meanwhile.
        assert.deepEqual((await own.reader.take(look)).calls, []);
        assert.equal(await passOn(passing, first), true);
        const { rang, calls } = await own.reader.waitForBell(pools, LONG_BLOCK_MS);
        assert.equal(rang, false);
        assert.deepEqual(
          calls.map((raw) => [given(raw).callId, given(raw).passes]),
          [['bound', 1]],
        );
        assert.deepEqual(await direct, []);
        assert.equal((await own.reader.pending([ref])).length, 1);
      },

    'a call that was passed on as often as there are workers waits aside, and comes when it is due':
      async (scene) => {
        const { ref } = scene;
        const worker = await scene.worker();
        const supervisor = await (await scene.member()).join();
        const workers = PASSES_AT_ONCE + 2;
        for (let i = 0; i < workers; i += 1)
          await worker.register(ref, `old${i}`, { generation: 7 });
        await worker.submit(ref, 'bound', bound);
        for (let passes = 0; passes < workers; passes += 1) {
          const call = await worker.takeOne(ref);
          assert.equal(call.passes, passes, 'it is back at once');
          await passOn(worker, call, 30);
        }
        await passOn(worker, await worker.takeOne(ref), 30);
        assert.deepEqual(await worker.take(ref), []);
        const call = await becomes('it is back', async () => {
          await supervisor.backend.calls.promote(ref);
          return (await worker.take(ref))[0];
        });
        assert.deepEqual([call.callId, call.attempt, call.passes], ['bound', 1, workers + 1]);
      },

    'a call that is passed on for long waits longer each time, up to a bound': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      await worker.register(ref, 'old', { generation: 7 });
      await worker.submit(ref, 'bound', bound);
      for (let passes = 0; passes < PASSES_AT_ONCE; passes += 1)
        await passOn(worker, await worker.takeOne(ref), 20);
      const waits: number[] = [];
      for (let turn = 0; turn < 3; turn += 1) {
        const call = await worker.takeOne(ref);
        const since = performance.now();
        await passOn(worker, call, turn === 2 ? 600_000 : 40);
        await becomes('it is due', async () => {
          await worker.backend.calls.promote(ref);
          return (await worker.backend.calls.backlog(ref)) > 0 ? true : undefined;
        });
        waits.push(performance.now() - since);
      }
      const [first = 0, second = 0, third = 0] = waits;
      assert.ok(first >= 38 && second >= 78, `twice as long each time: ${String(waits)}`);
      assert.ok(third >= 498 && third < 5_000, `not for ever: ${String(waits)}`);
    },

    'a call whose generation nobody serves any more is answered, and its key is free': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const leaving = await scene.worker();
      const dead = await scene.worker();
      const caller = await scene.caller();
      await worker.register(ref, 'new', { generation: 8 });
      await leaving.register(ref, 'leaving', { generation: 7 });
      await dead.register(ref, 'dead', { generation: 7, leaseMs: 60 });
      const draining = { kind: 'draining', estimatedDowntimeMs: 1 } as const;
      await leaving.backend.workers.change(ref, 'leaving', undefined, draining);
      await becomes('its lease is over', async () => {
        const { stale } = await worker.backend.workers.snapshot(ref);
        return stale.length === 1 ? true : undefined;
      });
      await caller.submit(ref, 'bound', { ...bound, idempotencyKey: 'k' });
      const call = await worker.takeOne(ref);
      assert.equal(await passOn(worker, call), true);
      const { reply } = await caller.nextReply();
      assert.ok(reply.kind === 'error' && reply.verdict === true, 'it is a verdict');
      assert.equal(reply.error.code, 'GENERATION_GONE');
      assert.equal(await worker.backend.calls.backlog(ref), 0);
      assert.equal(await worker.say(call, 'settle'), false);
      await caller.submit(ref, 'again', { idempotencyKey: 'k' });
      assert.equal((await worker.takeOne(ref)).callId, 'again');
    },
  }),

  ...portCases('Ready is an acknowledgement', {
    'a worker is registered, and told, with the generation that it has loaded': async (scene) => {
      const { ref, keys } = scene;
      const worker = await scene.worker();
      await worker.backend.bus.subscribe([keys.channel('ready', ref)]);
      const { record } = await worker.register(ref, 'w', { generation: 7 });
      assert.equal(record.generation, 7);
      const { workers } = await worker.backend.workers.snapshot(ref);
      assert.deepEqual(
        workers.map(({ generation }) => generation),
        [7],
      );
      assert.equal(
        (await worker.news.message(keys.channel('ready', ref), 'ready'))['generation'],
        7,
      );
    },
  }),

  ...portCases('Redis may go away', {
    'the highest generation that a worker has loaded is that of its workflow': async (scene) => {
      const worker = await scene.worker();
      const { workflows } = worker.backend;
      const ref = functionRef('work', 'flow');
      await worker.register(ref, 'one', { generation: 7 });
      await worker.register(ref, 'two', { generation: 5 });
      await worker.register(ref, 'three', { generation: 0 });
      assert.deepEqual(await workflows.current('flow'), { generation: 7, details: 'null' });
      const saved = await workflows.save('flow', '"later"');
      await worker.register(ref, 'four', { generation: 8 });
      assert.deepEqual(await workflows.current('flow'), {
        generation: saved.generation,
        details: '"later"',
      });
    },
  }),
];
