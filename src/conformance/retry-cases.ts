import assert from 'node:assert/strict';
import { entryTime } from '../protocol/call.js';
import { parseDeadLetter } from '../protocol/dead-letter.js';
import type { ConformanceCase } from './conformance-case.js';
import { failure, failureNote, OFFICE_MS, OFFICES, type GivenCall, type Member } from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS } from './patience.js';
import { portCases, type Scene } from './scene.js';

function postpone(worker: Member, call: GivenCall, delayMs: number): Promise<boolean> {
  return worker.say(call, 'retry', failure(), { delayMs, failure: failureNote(call.attempt) });
}

function bury(worker: Member, call: GivenCall): Promise<boolean> {
  return worker.say(call, 'bury', failure(), { failure: failureNote(call.attempt) });
}

/** A worker whose session supervises, and so is told of what is due. */
async function supervising(scene: Scene): Promise<Member> {
  const worker = await scene.worker();
  assert.equal(await worker.backend.fleet.elect(worker.sessionId, OFFICES), 'supervisor');
  return worker;
}

async function due(worker: Member): Promise<string[]> {
  const view = await worker.backend.fleet.look(worker.sessionId, OFFICE_MS, false, true);
  return view?.due.map(({ id }) => id) ?? [];
}

export const retryCases: readonly ConformanceCase[] = [
  ...portCases('At least once, fenced', {
    'a failed call waits for its next attempt, and not longer than that': async (scene) => {
      const { ref } = scene;
      const worker = await supervising(scene);
      const caller = await scene.caller();
      await caller.submit(ref, 'c1', { ttlMs: 30_000 });
      const call = await worker.takeOne(ref);
      const { timestamp } = await worker.beat();
      assert.equal(await postpone(worker, call, 250), true);
      assert.equal(await worker.backend.calls.backlog(ref), 0, 'it is not among the calls');
      assert.deepEqual(await due(worker), []);
      assert.equal(await worker.backend.calls.promote(ref), 0, 'not before its time');
      await becomes('it is due', async () =>
        (await due(worker))[0] === ref.id ? true : undefined,
      );
      assert.ok((await worker.beat()).timestamp - timestamp >= 250, 'not before its time');
      assert.equal(await worker.backend.calls.promote(ref), 1);
      assert.equal(await worker.backend.calls.promote(ref), 0);
      assert.deepEqual(await due(worker), []);
      const again = await worker.takeOne(ref);
      assert.deepEqual([again.callId, again.attempt, again.failures], ['c1', 2, 1]);
      assert.equal(again.deadline, call.deadline);
      assert.equal(again.submittedAt, entryTime(call.entryId));
      const { reply } = await caller.nextReply();
      assert.deepEqual(reply, { kind: 'moved', entryId: again.entryId });
      await caller.hearsNothing();
    },

    'calls come back in the order in which they are due': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      await worker.submitAll(['late', 'soon', 'far'].map((id) => worker.callOf(ref, id)));
      const [late, soon, far] = await worker.take(ref);
      assert.ok(late && soon && far);
      await postpone(worker, late, 500);
      await postpone(worker, soon, 10);
      await postpone(worker, far, 60_000);
      let promoted = 0;
      await becomes('both are due', async () => {
        promoted += await worker.backend.calls.promote(ref);
        return promoted === 2 ? true : undefined;
      });
      const order = (await worker.take(ref)).map(({ callId }) => callId);
      assert.deepEqual(order, ['soon', 'late']);
    },

    'a call that waits for its next attempt can be cancelled': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const entryId = await worker.submit(ref, 'c1');
      await postpone(worker, await worker.takeOne(ref), 0);
      const { calls } = worker.backend;
      assert.equal(await calls.cancel(ref, entryId, 'c1', undefined), 'removed');
      assert.equal(await calls.promote(ref), 0);
      assert.deepEqual(await worker.take(ref), []);
    },

    'a call that fails for the last time is answered, and lies among the dead letters': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      const payload = '{"p":{"a":1},"i":"item","h":{"x":"y"}}';
      await caller.submit(ref, 'c1', { payload });
      const first = await worker.takeOne(ref);
      await postpone(worker, first, 0);
      await becomes(
        'it is due',
        async () => (await worker.backend.calls.promote(ref)) || undefined,
      );
      const call = await worker.takeOne(ref);
      assert.equal(await bury(worker, call), true);
      assert.equal(await bury(worker, call), false);
      const kinds = (await caller.nextReplies(2)).map(({ reply }) => reply.kind);
      assert.deepEqual(kinds, ['moved', 'error']);
      await caller.hearsNothing();
      assert.equal(await worker.backend.calls.backlog(ref), 0);
      const [raw] = await worker.backend.deadLetters.list(ref, '', 10);
      const letter = parseDeadLetter(raw?.id ?? '', raw?.fields ?? []);
      assert.equal(letter.callId, 'c1');
      assert.equal(letter.reason, 'RETRIES_EXHAUSTED');
      assert.equal(letter.attempts, 2);
      assert.equal(letter.submittedAt, entryTime(first.entryId));
      assert.deepEqual(
        [letter.parameters, letter.item, letter.headers],
        [{ a: 1 }, 'item', { x: 'y' }],
      );
      assert.deepEqual(
        letter.failures.map(({ code, attempt, worker: by }) => [code, attempt, by]),
        [
          ['FAILED', 1, 'w'],
          ['FAILED', 2, 'w'],
        ],
      );
    },

    'the last ten failures of a call are kept': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      await worker.submit(ref, 'c1');
      for (let attempt = 1; attempt < 12; attempt += 1) {
        await postpone(worker, await worker.takeOne(ref), 0);
        await becomes(
          'it is due',
          async () => (await worker.backend.calls.promote(ref)) || undefined,
        );
      }
      await bury(worker, await worker.takeOne(ref));
      const [raw] = await worker.backend.deadLetters.list(ref, '', 1);
      const { failures } = parseDeadLetter(raw?.id ?? '', raw?.fields ?? []);
      assert.deepEqual(
        failures.map(({ attempt }) => attempt),
        [3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
      );
    },

    'dead letters are listed page by page, removed, and called again as first attempts': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      const { deadLetters } = worker.backend;
      assert.deepEqual(await deadLetters.list(ref, '', 10), []);
      const ids = ['c1', 'c2', 'c3'];
      await caller.submitAll(ids.map((id) => caller.callOf(ref, id, { ttlMs: 20_000 })));
      for (const call of await worker.take(ref)) await bury(worker, call);
      await caller.nextReplies(3);
      assert.equal(await deadLetters.count(ref), 3);
      const [first, second] = await deadLetters.list(ref, '', 2);
      const [third, none] = await deadLetters.list(ref, second?.id ?? '', 2);
      assert.equal(none, undefined);
      const named = [first, second, third].map((raw) => parseDeadLetter('1-1', raw?.fields ?? []));
      assert.deepEqual(
        named.map(({ callId }) => callId),
        ids,
        'oldest first',
      );
      assert.equal(await deadLetters.remove(ref, [first?.id ?? '', '1-1']), 1);
      const read = begun(worker.reader.read([ref], 1, LONG_BLOCK_MS));
      const entryId = await deadLetters.requeue(ref, second?.id ?? '', undefined);
      const [raw] = await atOnce('who waits for calls gets it', read);
      assert.equal(raw?.entryId, entryId);
      await deadLetters.requeue(ref, third?.id ?? '', 7_000);
      const call = await worker.takeOne(ref);
      assert.deepEqual(
        [call.callId, call.attempt, call.failures, call.ttlMs, call.replyTo],
        ['c3', 1, 0, 7_000, ''],
      );
      assert.equal(call.submittedAt, entryTime(call.entryId));
      assert.equal(await deadLetters.requeue(ref, third?.id ?? '', undefined), undefined);
      assert.equal(await deadLetters.count(ref), 0);
    },
  }),
];
