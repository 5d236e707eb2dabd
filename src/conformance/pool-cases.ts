import assert from 'node:assert/strict';
import type { Offer, PoolRead } from '../backend/call-streams.js';
import { functionRef } from '../protocol/function-ref.js';
import type { ConformanceCase } from './conformance-case.js';
import { isGroupGone } from './hand-over-cases.js';
import { given, type Member } from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS, SHORT_BLOCK_MS } from './patience.js';
import { portCases, type Scene } from './scene.js';

const POOL = 'pool-1';
const refs = ['f1', 'f2', 'f3'].map((name) => functionRef(name, 'default'));
const [f1, f2, f3] = refs as [(typeof refs)[0], (typeof refs)[0], (typeof refs)[0]];

/** A process that hears of its calls through the bell. */
async function pooled(scene: Scene): Promise<Member> {
  const worker = await (await (await scene.member()).join()).reads(...refs);
  for (const ref of refs) await worker.register(ref, worker.processId, { poolId: POOL });
  return worker;
}

function offerOf(places: number): Offer | undefined {
  return places === 0 ? undefined : { places, until: Date.now() + LONG_BLOCK_MS };
}

const LOOK: PoolRead = { pools: [POOL], limit: 100, functions: 64, perFunction: 10, rooms: [] };

async function take(
  worker: Member,
  more: Partial<PoolRead> = {},
): Promise<{ names: string[]; more: boolean }> {
  const taken = await worker.reader.take({ ...LOOK, ...more });
  return { names: taken.calls.map(({ ref }) => ref.functionName).sort(), more: taken.more };
}

/** Whether the bell rings for a process that waits for it. */
async function rings(worker: Member, blockMs = SHORT_BLOCK_MS): Promise<boolean> {
  return (await worker.reader.waitForBell([POOL], blockMs)).rang;
}

export const poolCases: readonly ConformanceCase[] = [
  ...portCases('No missed wake-up', {
    'the bell rings for a call of any function, and wakes who waits': async (scene) => {
      const worker = await pooled(scene);
      assert.deepEqual(await take(worker), { names: [], more: false });
      assert.equal(await worker.reader.isDue([POOL, 'another']), false);
      const bell = begun(worker.reader.waitForBell([POOL, 'another'], LONG_BLOCK_MS));
      await (await scene.member()).submit(f2, 'c1');
      assert.equal((await atOnce('the bell rings', bell)).rang, true);
      assert.equal(await worker.reader.isDue(['another']), false);
      assert.equal(await worker.reader.isDue(['another', POOL]), true);
      assert.deepEqual(await take(worker), { names: ['f2'], more: false });
    },

    'the bell rings for calls that came before anybody waited, and before there was a bell': async (
      scene,
    ) => {
      const caller = await scene.member();
      await caller.submit(f1, 'early');
      const worker = await pooled(scene);
      assert.ok(await rings(worker, LONG_BLOCK_MS), 'before there was a bell');
      assert.deepEqual(await take(worker), { names: ['f1'], more: false });
      await caller.submit(f3, 'c2');
      assert.ok(await rings(worker, LONG_BLOCK_MS), 'before anybody waited');
      assert.deepEqual(await take(worker), { names: ['f3'], more: false });
    },

    'who cannot take everything leaves the rest to the next one': async (scene) => {
      const first = await pooled(scene);
      const second = await pooled(scene);
      const caller = await scene.member();
      await caller.submitAll([f1, f1, f1, f2, f3].map((ref, n) => caller.callOf(ref, `c${n}`)));
      assert.ok(await rings(first, LONG_BLOCK_MS));
      assert.deepEqual(await take(first, { limit: 2 }), { names: ['f1', 'f2'], more: true });
      assert.ok(await rings(second, LONG_BLOCK_MS), 'it is told that there is more');
      const rest = await take(second);
      assert.deepEqual(rest.names, ['f1', 'f1', 'f3']);
      assert.deepEqual(await take(second), { names: [], more: false });
      assert.equal(await rings(second), false, 'nothing is left');
    },

    'a function that has no place is passed over': async (scene) => {
      const worker = await pooled(scene);
      await worker.submitAll([f1, f2, f2, f2].map((ref, n) => worker.callOf(ref, `c${n}`)));
      const rooms = [
        { ref: f1, room: 0 },
        { ref: f2, room: 2 },
      ];
      assert.deepEqual(await take(worker, { rooms }), { names: ['f2', 'f2'], more: true });
      assert.deepEqual(await take(worker), { names: ['f1', 'f2'], more: false });
    },

    'who waits for the bell is woken, also without a call': async (scene) => {
      const worker = await pooled(scene);
      const bell = begun(worker.reader.waitForBell([POOL], LONG_BLOCK_MS));
      await becomes('it is woken', async () => (await worker.reader.wake()) || undefined);
      assert.equal((await atOnce('the wait ends', bell)).rang, false);
    },

    'calls are given to who waits within its offer, or it takes them, each once': async (scene) => {
      const worker = await pooled(scene);
      const caller = await scene.member();
      for (const places of [0, 2, 10]) {
        assert.deepEqual(await take(worker), { names: [], more: false });
        const bell = begun(worker.reader.waitForBell([POOL], LONG_BLOCK_MS, offerOf(places)));
        const ids = [f1, f2, f3, f3].map((ref, n) => caller.callOf(ref, `c${places}-${n}`));
        await caller.submitAll(ids);
        const { rang, calls } = await atOnce('it is told', bell);
        assert.ok(rang || calls.length > 0);
        assert.ok(calls.length <= places, `${calls.length} calls for ${places} places`);
        const got = [...calls, ...(await worker.reader.withdraw())];
        const rest = await worker.reader.take(LOOK);
        const names = [...got, ...rest.calls].map(({ ref }) => ref.functionName).sort();
        assert.deepEqual(names, ['f1', 'f2', 'f3', 'f3']);
        const owned = await worker.reader.pending(refs);
        assert.equal(owned.length, 4, 'it owns all that it got');
        for (const call of owned) await worker.say(given(call), 'settle');
      }
    },

    'an offer holds on after the wait until it is taken back': async (scene) => {
      const worker = await pooled(scene);
      const caller = await scene.member();
      const endWait = async (): Promise<void> => {
        // Without a token of a call that was taken since.
        assert.deepEqual((await take(worker)).names, []);
        const bell = begun(worker.reader.waitForBell([POOL], LONG_BLOCK_MS, offerOf(5)));
        await becomes('it is woken', async () => (await worker.reader.wake()) || undefined);
        assert.deepEqual(await atOnce('the wait ends', bell), { rang: false, calls: [] });
      };
      await endWait();
      await caller.submit(f1, 'taken');
      assert.deepEqual((await take(worker)).names, ['f1'], 'by a look');
      await endWait();
      await caller.submit(f2, 'withdrawn');
      const got = [...(await worker.reader.withdraw()), ...(await worker.reader.take(LOOK)).calls];
      assert.deepEqual(
        got.map(({ ref }) => ref.functionName),
        ['f2'],
        'by itself',
      );
      await endWait();
      await caller.submit(f3, 'pending');
      const before = await worker.reader.pending([f3]);
      const after = await worker.reader.take(LOOK);
      assert.equal(before.length + after.calls.length, 1, 'by a look at what is pending');
    },

    'a call that is handed over rings the bell': async (scene) => {
      const first = await pooled(scene);
      const second = await pooled(scene);
      await first.submit(f1, 'c1');
      assert.deepEqual((await take(first)).names, ['f1']);
      await rings(second);
      const lost = { kind: 'lost', maxDeliveries: 3 } as const;
      await second.backend.calls.release(f1, first.sessionId, lost);
      assert.ok(await rings(second, LONG_BLOCK_MS));
      assert.deepEqual((await take(second)).names, ['f1']);
    },

    'the last worker of a pool that leaves a function takes its bell away': async (scene) => {
      const first = await pooled(scene);
      const second = await pooled(scene);
      const leave = (worker: Member): Promise<boolean> =>
        worker.backend.workers.unregister(f1, worker.processId, {}, 'left');
      await leave(first);
      await first.submit(f1, 'c1');
      assert.deepEqual((await take(second)).names, ['f1'], 'one is left');
      await leave(second);
      await first.submit(f1, 'c2');
      assert.deepEqual((await take(second)).names, []);
      await second.register(f1, second.processId, { poolId: POOL });
      assert.ok(await rings(second, LONG_BLOCK_MS));
      assert.deepEqual((await take(second)).names, ['f1']);
    },
  }),

  ...portCases(
    'No missed wake-up',
    {
      'what one pool had is told although the group of a function in the next one is gone': async (
        scene,
      ) => {
        const { ref } = scene;
        const worker = await (await (await scene.member()).join()).reads(f1, ref);
        await worker.register(f1, worker.processId, { poolId: POOL });
        await worker.register(ref, worker.processId, { poolId: 'another' });
        await scene.destroyGroup();
        await worker.submitAll([f1, ref].map((to, n) => worker.callOf(to, `c${n}`)));
        const both = { pools: [POOL, 'another'] };
        const first = await take(worker, both).catch(() => undefined);
        assert.deepEqual(first, { names: ['f1'], more: true }, 'the look does not fail');
        await assert.rejects(take(worker, both), isGroupGone);
      },
    },
    'destroyGroup',
  ),
];
