import assert from 'node:assert/strict';
import { encodeResult } from '../protocol/call.js';
import type { ConformanceCase } from './conformance-case.js';
import { failure, type Member } from './member.js';
import { becomes } from './patience.js';
import { portCases } from './scene.js';

const KEY = 'a key: {with} any * characters';
const shared = { idempotencyKey: KEY };

async function told(caller: Member, count: number): Promise<string[]> {
  const replies = await caller.nextReplies(count);
  return replies.map(({ callId, reply }) => `${callId} ${reply.kind}`).sort();
}

export const sharedCases: readonly ConformanceCase[] = [
  ...portCases('At least once, fenced', {
    'calls with one key run once, and all get the result, now and later': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const one = await scene.caller();
      const other = await scene.caller();
      const entryId = await one.submit(ref, 'a', shared);
      assert.equal(await other.submit(ref, 'b', shared), entryId, 'it joins the one that is out');
      assert.equal(await worker.backend.calls.backlog(ref), 1);
      const call = await worker.takeOne(ref);
      assert.equal(call.idempotencyKey, KEY);
      assert.equal(await worker.say(call, 'settle'), true);
      assert.deepEqual(await told(one, 1), ['a result']);
      assert.deepEqual(await told(other, 1), ['b result']);
      assert.equal(await other.submit(ref, 'c', shared), 'answered');
      assert.deepEqual(await told(other, 1), ['c result']);
      assert.deepEqual(await worker.take(ref), []);
      assert.equal(await worker.say(call, 'settle'), false);
      await one.hearsNothing();
    },

    'calls with another key, or without one, run by themselves': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      for (const [id, key] of [
        ['a', 'k1'],
        ['b', 'k2'],
        ['c', undefined],
        ['d', undefined],
      ] as const)
        await worker.submit(ref, id, { idempotencyKey: key });
      assert.equal((await worker.take(ref)).length, 4);
    },

    'a failure is told to all who wait, and the next call with the key runs': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submit(ref, 'a', shared);
      await caller.submit(ref, 'b', shared);
      await worker.say(await worker.takeOne(ref), 'settle', failure());
      assert.deepEqual(await told(caller, 2), ['a error', 'b error']);
      await caller.submit(ref, 'c', shared);
      assert.equal((await worker.takeOne(ref)).callId, 'c');
    },

    'a result answers for as long as it is kept': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submit(ref, 'a', shared);
      const once = { key: KEY, keepMs: 1_000 };
      await worker.say(await worker.takeOne(ref), 'settle', encodeResult('1', 'w'), { once });
      assert.deepEqual(await told(caller, 1), ['a result']);
      await caller.hearsNothing();
      assert.equal(await caller.submit(ref, 'b', shared), 'answered', 'it is kept so far');
      let count = 0;
      await becomes(
        'the result is forgotten',
        async () => {
          const [submitted] = await caller.submitAll([caller.callOf(ref, `c${count++}`, shared)]);
          return submitted === 'answered' ? undefined : true;
        },
        5_000,
      );
      assert.equal((await worker.takeOne(ref)).callId, `c${count - 1}`);
    },

    'a shared call goes on when one leaves it, and is taken out when nobody is left': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { calls } = worker.backend;
      const entryId = await worker.submit(ref, 'a', shared);
      await worker.submit(ref, 'b', shared);
      assert.equal(await calls.cancel(ref, entryId, 'a', KEY), 'shared');
      assert.equal(await calls.backlog(ref), 1);
      assert.equal(await calls.cancel(ref, entryId, 'b', KEY), 'removed');
      assert.equal(await calls.backlog(ref), 0);
      assert.equal(await calls.cancel(ref, entryId, 'b', KEY), 'unknown');
    },

    'who shares a call that is handed over learns its new place, and who shares one that is given up, the reason':
      async (scene) => {
        const { ref } = scene;
        const worker = await scene.worker();
        const one = await scene.caller();
        const other = await scene.caller();
        await one.submit(ref, 'a', shared);
        await other.submit(ref, 'b', shared);
        await worker.takeOne(ref);
        const lost = { kind: 'lost', maxDeliveries: 2 } as const;
        await worker.backend.calls.release(ref, worker.sessionId, lost);
        assert.deepEqual(await told(one, 1), ['a moved']);
        assert.deepEqual(await told(other, 1), ['b moved']);
        const call = await worker.takeOne(ref);
        assert.equal(
          await other.submit(ref, 'c', shared),
          call.entryId,
          'the next one joins it there',
        );
        await worker.backend.calls.release(ref, worker.sessionId, lost);
        assert.deepEqual(await told(one, 1), ['a error']);
        assert.deepEqual(await told(other, 2), ['b error', 'c error']);
        await other.submit(ref, 'd', shared);
        assert.equal((await worker.takeOne(ref)).callId, 'd');
      },

    'progress and an early answer of a shared call reach all who share it': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submit(ref, 'a', shared);
      await caller.submit(ref, 'b', shared);
      const call = await worker.takeOne(ref);
      await worker.say(call, 'progress', '{"k":"p","d":1}');
      await worker.say(call, 'answer');
      assert.deepEqual(await told(caller, 4), ['a progress', 'a result', 'b progress', 'b result']);
      await worker.say(call, 'discard', '');
      await caller.hearsNothing();
    },
  }),
];
