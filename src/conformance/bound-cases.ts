import assert from 'node:assert/strict';
import { encodeProgress, encodeResult, entryTime, partsOf } from '../protocol/call.js';
import { functionRef } from '../protocol/function-ref.js';
import { DEAD_LETTER_CAP, PROGRESS_CAP } from '../backend/limits.js';
import type { ConformanceCase } from './conformance-case.js';
import { failure, failureNote, outcomeOf, type Member } from './member.js';
import { atOnce } from './patience.js';
import { portCases } from './scene.js';

/** A stream may be cut in steps. */
const SLACK = 1_000;

/** How many values of progress come before so many results, of which there are no more. */
async function progressBefore(caller: Member, results: number): Promise<number> {
  const kinds = { p: 0, r: 0 };
  for (let reads = 0; kinds.r < results && reads < 100; reads += 1)
    for (const { reply } of await caller.replies.read(1_000))
      kinds[reply.slice(6, 7) as 'p' | 'r'] += 1;
  assert.equal(kinds.r, results, 'the answer is there');
  return kinds.p;
}

function assertCapped(count: number): void {
  assert.ok(Math.abs(count - PROGRESS_CAP) <= SLACK, `${count} values`);
}

export const boundCases: readonly ConformanceCase[] = [
  ...portCases('Bounded', {
    'a function has no more calls than its backlog allows, waiting and running': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      const calls = ['c1', 'c2', 'c3', 'c4'].map((id) => caller.callOf(ref, id));
      const [one, two, ...refused] = await caller.submitAll(calls, 2);
      assert.deepEqual([typeof one, typeof two], ['string', 'string']);
      assert.deepEqual(refused, [{ backlog: 2 }, { backlog: 2 }]);
      const running = await worker.takeOne(ref);
      const next = caller.callOf(ref, 'c5');
      assert.deepEqual(await caller.submitAll([next], 2), [{ backlog: 2 }], 'running ones count');
      const keyed = caller.callOf(ref, 'c6', { idempotencyKey: 'k' });
      assert.deepEqual(await caller.submitAll([keyed], 2), [{ backlog: 2 }]);
      const again = caller.callOf(ref, 'c7', { again: true });
      const [letIn] = await caller.submitAll([again], 2);
      assert.equal(typeof letIn, 'string', 'what is written again was let in before');
      await worker.say(running, 'settle');
      assert.equal(await worker.backend.calls.backlog(ref), 2);
      await worker.say(await worker.takeOne(ref), 'settle');
      const [place] = await caller.submitAll([next], 2);
      assert.equal(typeof place, 'string', 'a place is free');
    },

    'whoever measures is told how many calls wait and run, and since when': async (scene) => {
      const { ref } = scene;
      const other = functionRef('other', 'x');
      const worker = await scene.worker();
      const caller = await scene.caller();
      const { calls } = worker.backend;
      assert.deepEqual(await calls.pressure([]), []);
      const none = { calls: 0, waiting: 0, since: undefined };
      assert.deepEqual(await calls.pressure([other, ref]), [none, none]);
      const first = await caller.submit(ref, 'c1');
      await caller.submitAll(['c2', 'c3'].map((id) => caller.callOf(ref, id)));
      const since = entryTime(first);
      assert.deepEqual(await calls.pressure([ref]), [{ calls: 3, waiting: 3, since }]);
      const running = await worker.takeOne(ref);
      assert.deepEqual(await calls.pressure([other, ref]), [none, { calls: 3, waiting: 2, since }]);
      await worker.say(running, 'settle');
      const [left] = await calls.pressure([ref]);
      assert.deepEqual([left?.calls, left?.waiting], [2, 2]);
      // A call that is handed over is as old as it was.
      await worker.take(ref);
      await calls.release(ref, worker.sessionId, { kind: 'lost', maxDeliveries: 3 });
      assert.deepEqual(await calls.pressure([ref]), [{ calls: 2, waiting: 2, since: left?.since }]);
    },

    'a reply stream that nobody reads takes no progress above its cap, and still the answer':
      async (scene) => {
        const { ref } = scene;
        const worker = await scene.worker();
        const caller = await scene.caller();
        await caller.submit(ref, 'c1');
        const call = await worker.takeOne(ref);
        const progress = outcomeOf(call, 'progress', encodeProgress('1'));
        // However they are said: many in one go, or each by itself.
        for (let count = 0; count < PROGRESS_CAP; count += 500)
          await worker.sayAll(Array.from({ length: 500 }, () => progress));
        for (let count = 0; count < 2 * SLACK; count += 500)
          await Promise.all(Array.from({ length: 500 }, () => worker.sayAll([progress])));
        await worker.say(call, 'settle', encodeResult('1', 'w'));
        assertCapped(await progressBefore(caller, 1));
      },

    'who shares a call and does not read is told no progress above the cap either': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const reading = await scene.caller();
      const idle = await scene.caller();
      const key = { idempotencyKey: 'k' };
      await reading.submit(ref, 'c1', key);
      await idle.submit(ref, 'c2', key);
      const call = await worker.takeOne(ref);
      const progress = outcomeOf(call, 'progress', encodeProgress('1'));
      for (let count = 0; count < PROGRESS_CAP + 2 * SLACK; count += 500) {
        await worker.sayAll(Array.from({ length: 500 }, () => progress));
        for (let heard = 0; heard < 500;)
          heard += (await atOnce('progress', reading.replies.read(1_000))).length;
        await reading.replies.trim();
      }
      await worker.say(call, 'settle', encodeResult('1', 'w'));
      assertCapped(await progressBefore(idle, 1));
    },

    'dead letters are cut at their cap, the oldest first': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const total = DEAD_LETTER_CAP + 2 * SLACK;
      for (let from = 0; from < total; from += 500) {
        const ids = Array.from({ length: 500 }, (_, index) => `c${from + index}`);
        const calls = ids.map((id) => worker.callOf(ref, id, { replyTo: '' }));
        await worker.submitAll(calls, 1_000_000);
        const more = { failure: failureNote(1) };
        const taken = await worker.take(ref, 500);
        await worker.sayAll(taken.map((call) => outcomeOf(call, 'bury', failure(), more)));
      }
      const { deadLetters } = worker.backend;
      const count = await deadLetters.count(ref);
      assert.ok(count >= DEAD_LETTER_CAP - SLACK && count <= DEAD_LETTER_CAP + SLACK, `${count}`);
      const [oldest] = await deadLetters.list(ref, '', 1);
      assert.ok(partsOf(oldest?.fields ?? []).callId !== 'c0', 'the first one is gone');
    },
  }),
];
