import assert from 'node:assert/strict';
import { isRefused } from '../common/errors.js';
import { entryTime } from '../protocol/call.js';
import { parseDeadLetter } from '../protocol/dead-letter.js';
import type { ConformanceCase } from './conformance-case.js';
import {
  OFFICE_MS,
  OFFICES,
  failure,
  given,
  type GivenCall,
  type GivenReply,
  type Member,
} from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS, SHORT_BLOCK_MS } from './patience.js';
import { portCases, type Scene } from './scene.js';

const MAX_DELIVERIES = 3;

/** A caller, its call, and the worker that runs it. */
async function running(
  scene: Scene,
  more: Parameters<Member['submit']>[2] = {},
): Promise<{ caller: Member; worker: Member; call: GivenCall }> {
  const worker = await scene.worker();
  const caller = await scene.caller();
  await caller.submit(scene.ref, 'c1', more);
  return { caller, worker, call: await worker.takeOne(scene.ref) };
}

function lose(
  scene: Scene,
  by: Member,
  whose: Member,
): ReturnType<Member['backend']['calls']['release']> {
  const lost = { kind: 'lost', maxDeliveries: MAX_DELIVERIES } as const;
  return by.backend.calls.release(scene.ref, whose.sessionId, lost);
}

export const isGroupGone = (error: unknown): boolean => isRefused(error, 'NOGROUP');

function codeOf({ reply }: GivenReply): string {
  return reply.kind === 'error' ? reply.error.code : reply.kind;
}

export const handOverCases: readonly ConformanceCase[] = [
  ...portCases('At least once, fenced', {
    'a call whose worker is lost runs elsewhere, as a further attempt of the same call': async (
      scene,
    ) => {
      const { caller, worker, call } = await running(scene, { ttlMs: 45_000 });
      const next = await scene.worker();
      const read = begun(next.reader.read([scene.ref], 1, LONG_BLOCK_MS));
      const released = await lose(scene, next, worker);
      assert.deepEqual(released, { requeued: 1, answered: 0, deadLettered: 0 });
      const [raw] = await atOnce('it is delivered to the next worker', read);
      assert.ok(raw && raw.entryId !== call.entryId, 'under another entry id');
      const again = given(raw);
      assert.deepEqual(
        { id: again.callId, attempt: again.attempt, failures: again.failures },
        { id: 'c1', attempt: 2, failures: 0 },
      );
      assert.equal(again.submittedAt, entryTime(call.entryId), 'its first submission is kept');
      assert.equal(again.deadline, call.deadline, 'and its deadline');
      const { reply } = await caller.nextReply();
      assert.deepEqual(reply, { kind: 'moved', entryId: again.entryId }, 'its caller learns it');
    },

    'the settle of a worker that lost its call changes nothing': async (scene) => {
      const { caller, worker, call } = await running(scene);
      const next = await scene.worker();
      await lose(scene, next, worker);
      assert.equal((await caller.nextReply()).reply.kind, 'moved');
      for (const kind of ['settle', 'answer', 'bury', 'discard'] as const)
        assert.equal(await worker.say(call, kind, failure()), false, `${kind} is refused`);
      assert.equal(await worker.say(call, 'retry', failure(), { delayMs: 0 }), false);
      await caller.hearsNothing();
      assert.equal(await next.say(await next.takeOne(scene.ref), 'settle'), true);
      assert.equal((await caller.nextReply()).reply.kind, 'result');
      await caller.hearsNothing();
    },

    'a worker that is lost loses all that it held, and what others hold stays theirs': async (
      scene,
    ) => {
      const { ref } = scene;
      const lost = await scene.worker();
      const other = await scene.worker();
      const ids = Array.from({ length: 450 }, (_, index) => `c${index}`);
      await lost.submitAll(ids.map((id) => lost.callOf(ref, id)));
      await lost.take(ref, 440);
      const [kept] = await other.take(ref, 1);
      assert.ok(kept);
      assert.equal((await lose(scene, other, lost)).requeued, 440);
      assert.deepEqual(await lost.reader.pending([ref]), []);
      assert.equal(await other.say(kept, 'settle'), true);
      const left = await other.take(ref, 1_000);
      const expected = [...ids.slice(441), ...ids.slice(0, 440)];
      assert.deepEqual(
        left.map(({ callId }) => callId),
        expected,
        'behind those that waited, in their order',
      );
      assert.equal((await lose(scene, other, lost)).requeued, 0, 'once');
    },

    'a call that must run at most once is answered, and not run again': async (scene) => {
      const { caller, worker, call } = await running(scene, { delivery: 'at-most-once' });
      const released = await lose(scene, worker, worker);
      assert.deepEqual(released, { requeued: 0, answered: 1, deadLettered: 0 });
      const answer = await caller.nextReply();
      assert.equal(codeOf(answer), 'WORKER_LOST');
      assert.ok(answer.reply.kind === 'error' && answer.reply.verdict, "the library's own word");
      assert.deepEqual(await worker.take(scene.ref), []);
      assert.equal(await worker.backend.calls.backlog(scene.ref), 0);
      assert.equal(await worker.say(call, 'settle'), false);
      await caller.hearsNothing();
    },

    'a call that lost its worker too often goes to the dead letters': async (scene) => {
      const { ref } = scene;
      const { caller, worker } = await running(scene);
      for (let loss = 1; loss < MAX_DELIVERIES; loss += 1) {
        assert.equal((await lose(scene, worker, worker)).requeued, 1);
        assert.equal((await caller.nextReply()).reply.kind, 'moved');
        assert.equal((await worker.takeOne(ref)).attempt, loss + 1);
      }
      assert.deepEqual(await lose(scene, worker, worker), {
        requeued: 0,
        answered: 0,
        deadLettered: 1,
      });
      assert.equal(codeOf(await caller.nextReply()), 'MAX_DELIVERIES');
      assert.equal(await worker.backend.calls.backlog(ref), 0);
      const [raw] = await worker.backend.deadLetters.list(ref, '', 10);
      const letter = parseDeadLetter(raw?.id ?? '', raw?.fields ?? []);
      assert.equal(letter.callId, 'c1');
      assert.equal(letter.reason, 'MAX_DELIVERIES');
      assert.equal(letter.attempts, MAX_DELIVERIES);
      assert.deepEqual(
        letter.failures.map(({ code, attempt }) => `${code} ${attempt}`),
        ['WORKER_LOST 1', 'WORKER_LOST 2', 'WORKER_LOST 3'],
      );
    },

    'a call that is handed over can be cancelled under the id that its caller was told': async (
      scene,
    ) => {
      const { caller, worker } = await running(scene);
      await lose(scene, worker, worker);
      const { reply } = await caller.nextReply();
      assert.ok(reply.kind === 'moved');
      const { calls } = caller.backend;
      assert.equal(await calls.cancel(scene.ref, reply.entryId, 'c1', undefined), 'removed');
      assert.deepEqual(await worker.take(scene.ref), []);
    },

    'what one session of a process holds goes to its next one': async (scene) => {
      const { ref } = scene;
      const { caller, worker, call } = await running(scene);
      const next = await scene.worker();
      const raws = await worker.backend.calls.inherit(ref, worker.sessionId, next.sessionId);
      assert.deepEqual(
        raws.map(({ entryId }) => entryId),
        [call.entryId],
      );
      assert.equal((await lose(scene, next, worker)).requeued, 0, 'it is not the old one’s');
      assert.equal((await next.reader.pending([ref])).length, 1);
      assert.equal(await next.say(call, 'settle'), true);
      assert.equal((await caller.nextReply()).reply.kind, 'result');
    },
  }),

  ...portCases('Drain', {
    'a call that is handed back runs elsewhere at once, and lost no worker': async (scene) => {
      const { ref } = scene;
      const { caller, worker, call } = await running(scene);
      let held = call;
      for (let time = 0; time <= MAX_DELIVERIES; time += 1) {
        const entries = [{ entryId: held.entryId, started: true }];
        const back = { kind: 'handed-back', entries } as const;
        const released = await worker.backend.calls.release(ref, worker.sessionId, back);
        assert.deepEqual(released, { requeued: 1, answered: 0, deadLettered: 0 });
        assert.equal((await caller.nextReply()).reply.kind, 'moved');
        assert.equal(await worker.say(held, 'settle'), false, 'it is not its own any more');
        const again = await worker.takeOne(ref);
        assert.notEqual(again.entryId, held.entryId);
        assert.equal(again.attempt, 1);
        held = again;
      }
      assert.equal(await worker.say(held, 'settle'), true);
    },

    'a call that must run at most once is handed back unless it has started': async (scene) => {
      const { ref } = scene;
      const { caller, worker, call } = await running(scene, { delivery: 'at-most-once' });
      const release = (entry: GivenCall, started: boolean): Promise<unknown> =>
        worker.backend.calls.release(ref, worker.sessionId, {
          kind: 'handed-back',
          entries: [{ entryId: entry.entryId, started }],
        });
      await release(call, false);
      assert.equal((await caller.nextReply()).reply.kind, 'moved');
      const again = await worker.takeOne(ref);
      await release(again, true);
      assert.equal(codeOf(await caller.nextReply()), 'WORKER_LOST');
      assert.deepEqual(await worker.take(ref), []);
    },

    'a process hands back what is its own, and nothing else': async (scene) => {
      const { ref } = scene;
      const { worker, call } = await running(scene);
      const other = await scene.worker();
      const released = await other.backend.calls.release(ref, other.sessionId, {
        kind: 'handed-back',
        entries: [{ entryId: call.entryId, started: false }],
      });
      assert.equal(released.requeued, 0);
      assert.equal(await worker.say(call, 'settle'), true);
    },

    'a reader that is closed takes nothing any more': async (scene) => {
      const { ref } = scene;
      const leaving = await scene.worker();
      const staying = await scene.worker();
      const read = begun(leaving.reader.read([ref], 10, LONG_BLOCK_MS));
      const ended = read.then(
        (calls) => calls.length,
        () => 0,
      );
      assert.deepEqual(await staying.reader.read([ref], 1, SHORT_BLOCK_MS), []);
      await leaving.reader.close();
      await staying.submit(ref, 'c1');
      assert.equal(await atOnce('the read of the closed one ends', ended), 0);
      assert.equal((await staying.takeOne(ref)).callId, 'c1');
      await assert.rejects(leaving.reader.read([ref], 1, 0));
    },
  }),

  ...portCases(
    'Redis may go away',
    {
      'a group that was destroyed is made again: what is claimed goes on, the rest is put back':
        async (scene) => {
          const { ref, keys } = scene;
          const claiming = await scene.worker();
          const dead = await scene.worker();
          const caller = await scene.caller();
          await claiming.register(ref, 'w1');
          await dead.register(ref, 'w2');
          const ids = ['claimed', 'held', 'once', 'waiting'];
          for (const id of ids)
            await caller.submit(ref, id, id === 'once' ? { delivery: 'at-most-once' } : {});
          const claimed = await claiming.takeOne(ref);
          await dead.take(ref, 2);
          await scene.destroyGroup();
          await assert.rejects(claiming.take(ref), isGroupGone);
          const { calls } = claiming.backend;
          assert.deepEqual(await calls.ensureGroups([ref], claiming.sessionId), [ref]);
          const told = await dead.news.message(keys.control(dead.sessionId), 'regrouped');
          assert.equal(told['functionId'], ref.id);
          await calls.claim(ref, claiming.sessionId, [claimed.entryId]);
          assert.equal(await calls.adopt(ref), 0, 'there is time to claim');
          const { fleet } = claiming.backend;
          await fleet.elect(claiming.sessionId, OFFICES);
          await becomes('the time to claim is over', async () => {
            const view = await fleet.look(claiming.sessionId, OFFICE_MS, true, true);
            return view?.unclaimed[0]?.id === ref.id ? true : undefined;
          });
          assert.equal(await calls.adopt(ref), 3);
          const view = await fleet.look(claiming.sessionId, OFFICE_MS, true, true);
          assert.deepEqual(view?.unclaimed, [], 'it is done');
          assert.equal(await calls.adopt(ref), 0);
          const replies = await caller.nextReplies(3);
          assert.deepEqual(replies.map((one) => `${one.callId} ${codeOf(one)}`).sort(), [
            'held moved',
            'once WORKER_LOST',
            'waiting moved',
          ]);
          const back = await claiming.take(ref);
          assert.deepEqual(
            back.map(({ callId }) => callId),
            ['held', 'waiting'],
          );
          assert.equal(await claiming.say(claimed, 'settle'), true);
        },
    },
    'destroyGroup',
  ),

  ...portCases(
    'Redis may go away',
    {
      'who was forgotten learns it, caller and worker': async (scene) => {
        const { ref } = scene;
        const worker = await scene.worker();
        const caller = await scene.caller();
        await worker.register(ref);
        await caller.submit(ref, 'c1');
        assert.equal(await caller.replies.ensure(), false);
        assert.equal((await worker.beat()).verdict, 'alive');
        await scene.forget();
        assert.equal((await worker.beat()).verdict, 'forgotten');
        assert.equal(await caller.replies.ensure(), true, 'its calls are to be written again');
        assert.equal(await caller.replies.ensure(), false);
        await assert.rejects(worker.take(ref), isGroupGone);
        await worker.join();
        await worker.reads(ref);
        await worker.register(ref);
        await caller.submit(ref, 'c1', { again: true });
        await worker.say(await worker.takeOne(ref), 'settle');
        assert.equal((await caller.nextReply()).callId, 'c1');
      },
    },
    'forget',
  ),
];
