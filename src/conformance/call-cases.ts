import assert from 'node:assert/strict';
import type { RawCall } from '../backend/call-streams.js';
import { encodeProgress, encodeResult, entryTime } from '../protocol/call.js';
import { functionRef } from '../protocol/function-ref.js';
import { Keys } from '../protocol/keys.js';
import type { ConformanceCase } from './conformance-case.js';
import { failure, given, LEASE_MS, outcomeOf } from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS, SHORT_BLOCK_MS } from './patience.js';
import { portCases } from './scene.js';

export const callCases: readonly ConformanceCase[] = [
  ...portCases('No missed wake-up', {
    'a read that waits gets a call the moment it is added': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.member();
      const other = functionRef('other', 'x');
      await worker.reads(other);
      const read = begun(worker.reader.read([other, ref], 1, LONG_BLOCK_MS));
      await caller.submit(ref, 'c1');
      const [raw] = await atOnce('the call is delivered', read);
      assert.equal(raw && given(raw).callId, 'c1');
    },

    'who waits longest is served first': async (scene) => {
      const { ref } = scene;
      const workers = [];
      for (let n = 0; n < 5; n += 1) workers.push(await scene.worker());
      const caller = await scene.member();
      // In another order each time: it is not that of their connections.
      for (const line of [
        workers,
        workers.toReversed(),
        [...workers.slice(2), ...workers.slice(0, 2)],
      ]) {
        const reads: Promise<RawCall[]>[] = [];
        for (const { reader, backend } of line) {
          reads.push(begun(reader.read([ref], 1, LONG_BLOCK_MS)));
          // What was sent before it has come by the time that it is answered.
          await backend.ping();
          await backend.ping();
        }
        const ids = line.map((_, index) => `c${index}`);
        for (const id of ids) await caller.submit(ref, id);
        const served = await atOnce('all are served', Promise.all(reads));
        assert.deepEqual(
          served.map(([raw]) => raw && given(raw).callId),
          ids,
        );
      }
    },

    'a caller that waits gets its reply the moment it is written': async (scene) => {
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submit(scene.ref, 'c1');
      const call = await worker.takeOne(scene.ref);
      const read = begun(caller.replies.read(LONG_BLOCK_MS));
      await worker.say(call, 'settle');
      const replies = await atOnce('the reply is delivered', read);
      assert.deepEqual(
        replies.map(({ callId }) => callId),
        ['c1'],
      );
    },

    'calls that were added before the group was made are read by it': async (scene) => {
      const caller = await scene.member();
      await caller.submit(scene.ref, 'early');
      const worker = await scene.worker();
      assert.equal((await worker.takeOne(scene.ref)).callId, 'early');
    },

    'a read that waits ends when it is woken, and when its time is up': async (scene) => {
      const { ref } = scene;
      const { reader } = await scene.worker();
      assert.equal(await reader.wake(), false, 'nobody waits yet');
      const read = begun(reader.read([ref], 1, LONG_BLOCK_MS));
      await becomes('the read is woken', async () => (await reader.wake()) || undefined);
      assert.deepEqual(await atOnce('the woken read ends', read), []);
      assert.deepEqual(
        await atOnce('it ends by itself', reader.read([ref], 1, SHORT_BLOCK_MS)),
        [],
      );
    },
  }),

  ...portCases('Every call settles exactly once at its caller', {
    'a call travels to its worker as it was given': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      const payload = '{"p":{"text":"a\\u0000b, ünïcode 😀"},"i":[1,null],"h":{"a":"b"}}';
      const entryId = await caller.submit(ref, 'c1', {
        payload,
        ttlMs: 1_234,
        delivery: 'at-most-once',
        again: true,
      });
      const call = await worker.takeOne(ref);
      assert.deepEqual(
        {
          entryId: call.entryId,
          callId: call.callId,
          replyTo: call.replyTo,
          payload: call.payload,
          ttlMs: call.ttlMs,
          delivery: call.delivery,
          again: call.again,
          attempt: call.attempt,
          failures: call.failures,
          idempotencyKey: call.idempotencyKey,
        },
        {
          entryId,
          callId: 'c1',
          replyTo: caller.processId,
          payload,
          ttlMs: 1_234,
          delivery: 'at-most-once',
          again: true,
          attempt: 1,
          failures: 0,
          idempotencyKey: undefined,
        },
      );
      assert.deepEqual(call.raw.ref, ref);
    },

    'every call is delivered to one consumer, once, in the order of submission': async (scene) => {
      const { ref } = scene;
      const workers = [await scene.worker(), await scene.worker(), await scene.worker()];
      const caller = await scene.member();
      const ids = Array.from({ length: 60 }, (_, index) => `c${index}`);
      await caller.submitAll(ids.slice(0, 30).map((id) => caller.callOf(ref, id)));
      for (const id of ids.slice(30)) await caller.submit(ref, id);
      const delivered: string[] = [];
      for (let turn = 0; delivered.length < ids.length && turn < 100; turn += 1) {
        const worker = workers[turn % workers.length];
        for (const call of (await worker?.take(ref, 7)) ?? []) delivered.push(call.callId);
      }
      assert.deepEqual(delivered, ids);
      for (const worker of workers) assert.deepEqual(await worker.take(ref), []);
    },

    'a settle answers and removes the call, and a second one changes nothing': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submit(ref, 'c1');
      const call = await worker.takeOne(ref);
      assert.equal(await worker.backend.calls.backlog(ref), 1);
      assert.equal(await worker.say(call, 'settle', encodeResult('{"a":1}', 'w')), true);
      assert.equal(await worker.backend.calls.backlog(ref), 0);
      assert.equal(await worker.say(call, 'settle', encodeResult('{"a":2}', 'w')), false);
      assert.equal(await worker.say(call, 'settle', failure()), false);
      const { callId, reply } = await caller.nextReply();
      assert.deepEqual(
        { callId, reply },
        {
          callId: 'c1',
          reply: { kind: 'result', data: { a: 1 }, workerId: 'w' },
        },
      );
      await caller.hearsNothing();
    },

    'what is said of calls in one go is carried out in its order': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submitAll(['c1', 'c2'].map((id) => caller.callOf(ref, id)));
      const [one, two] = await worker.take(ref);
      assert.ok(one && two);
      const concluded = await worker.sayAll([
        outcomeOf(one, 'progress', encodeProgress('1')),
        outcomeOf(one, 'progress', encodeProgress('2')),
        outcomeOf(one, 'answer', encodeResult('"early"', 'w')),
        outcomeOf(two, 'settle', failure()),
        outcomeOf(one, 'discard', '', { replyTo: '' }),
        outcomeOf({ ...two, entryId: '1-1' }, 'settle', failure()),
      ]);
      assert.deepEqual(concluded, { lost: [5], again: [], why: '' });
      const told = (await caller.nextReplies(4)).map(
        ({ callId, reply }) => `${callId} ${reply.kind}`,
      );
      assert.deepEqual(told, ['c1 progress', 'c1 progress', 'c1 result', 'c2 error']);
      await caller.hearsNothing();
      assert.equal(await worker.backend.calls.backlog(ref), 0);
    },

    'an answer that comes before the end keeps the call with its worker': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      await caller.submit(ref, 'c1');
      const call = await worker.takeOne(ref);
      assert.equal(await worker.say(call, 'answer'), true);
      assert.equal((await caller.nextReply()).reply.kind, 'result');
      const pending = await worker.reader.pending([ref]);
      assert.deepEqual(
        pending.map(({ entryId }) => entryId),
        [call.entryId],
      );
      assert.equal(await worker.say(call, 'discard', '', { replyTo: '' }), true);
      assert.deepEqual(await worker.reader.pending([ref]), []);
      assert.equal(await worker.backend.calls.backlog(ref), 0);
      await caller.hearsNothing();
    },

    'a caller that is gone costs nothing: its call is settled, and no stream made': async (
      scene,
    ) => {
      const worker = await scene.worker();
      const gone = await scene.member();
      await gone.submit(scene.ref, 'c1');
      assert.equal(await worker.say(await worker.takeOne(scene.ref), 'settle'), true);
      assert.equal(await worker.backend.calls.backlog(scene.ref), 0);
      await gone.listens();
      await gone.hearsNothing();
    },

    'replies of one process are not heard by another': async (scene) => {
      const worker = await scene.worker();
      const one = await scene.caller();
      const other = await scene.caller();
      await one.submit(scene.ref, 'c1');
      await worker.say(await worker.takeOne(scene.ref), 'settle');
      assert.equal((await one.nextReply()).callId, 'c1');
      await other.hearsNothing();
    },

    'replies that were read, and dropped from the stream, do not come again': async (scene) => {
      const worker = await scene.worker();
      const caller = await scene.caller();
      for (const id of ['c1', 'c2']) {
        await caller.submit(scene.ref, id);
        await worker.say(await worker.takeOne(scene.ref), 'settle');
        assert.equal((await caller.nextReply()).callId, id);
        await caller.replies.trim();
      }
      await caller.hearsNothing();
    },

    'calls under one key prefix are not seen under another': async (scene) => {
      const worker = await scene.worker();
      const stranger = await scene.member(new Keys(`${scene.keys.prefix}x:`));
      await stranger.submit(scene.ref, 'c1');
      assert.deepEqual(await worker.take(scene.ref), []);
      assert.equal(await worker.backend.calls.backlog(scene.ref), 0);
    },
  }),

  ...portCases('No call starts after its deadline', {
    "an entry's id is its time on the store's clock": async (scene) => {
      const member = await (await scene.caller()).join();
      const { timestamp: before } = await member.beat();
      const entryId = await member.submit(scene.ref, 'c1');
      const { timestamp: after } = await member.beat();
      assert.ok(entryTime(entryId) >= before && entryTime(entryId) <= after, entryId);
      assert.ok(member.session.epoch <= before, 'the epoch is a time of the same clock');
      const { timestamp } = await member.backend.workers.snapshot(scene.ref);
      assert.ok(timestamp >= after);
    },

    "a call's time runs while it is on its way, and goes on running when it is handed over": async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { timestamp } = await worker.beat(LEASE_MS);
      const sentAt = timestamp - 10_000;
      await worker.submit(ref, 'slow', { ttlMs: 60_000, sentAt });
      await worker.submit(ref, 'quick', { ttlMs: 60_000, sentAt: timestamp });
      const lost = { kind: 'lost', maxDeliveries: 3 } as const;
      for (let attempt = 1; attempt <= 2; attempt += 1) {
        const [slow, quick] = await worker.take(ref);
        assert.ok(slow && quick);
        assert.equal(slow.deadline, sentAt + 60_000, `attempt ${attempt}`);
        assert.equal(slow.submittedAt, sentAt);
        assert.ok(quick.deadline >= timestamp + 60_000, 'less than a second is no delay');
        await worker.backend.calls.release(ref, worker.sessionId, lost);
      }
    },

    'a waiting call that is cancelled is taken out': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { calls } = worker.backend;
      const entryId = await worker.submit(ref, 'c1');
      assert.equal(await calls.cancel(ref, entryId, 'c1', undefined), 'removed');
      assert.deepEqual(await worker.take(ref), []);
      assert.equal(await calls.backlog(ref), 0);
      assert.equal(await calls.cancel(ref, entryId, 'c1', undefined), 'unknown');
    },

    'the worker of a running call hears of its cancellation': async (scene) => {
      const { ref, keys } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      const entryId = await caller.submit(ref, 'c1');
      const call = await worker.takeOne(ref);
      assert.equal(await caller.backend.calls.cancel(ref, entryId, 'c1', undefined), 'running');
      const told = await worker.news.message(keys.control(worker.sessionId), 'cancel');
      assert.equal(told['callId'], 'c1');
      assert.equal(
        await worker.say(call, 'settle', failure()),
        true,
        'it is its worker that ends it',
      );
    },
  }),
];
