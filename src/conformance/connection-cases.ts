import assert from 'node:assert/strict';
import type { CallReader, ReplyReader } from '../backend/call-streams.js';
import { isFunctionsError, isRefused } from '../common/errors.js';
import { functionRef } from '../protocol/function-ref.js';
import type { ConformanceCase } from './conformance-case.js';
import { given } from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS, SHORT_BLOCK_MS } from './patience.js';
import { portCases } from './scene.js';

/** Breaks a reader's connection while it waits, and waits for the next one. */
async function reset(reader: CallReader | ReplyReader, read: Promise<unknown>): Promise<void> {
  const before = reader.connections();
  assert.ok(before > 0, 'it counts the first one');
  reader.reset();
  await assert.rejects(atOnce('the wait ends', read), (error) =>
    isFunctionsError(error, 'BACKEND_UNAVAILABLE'),
  );
  await atOnce('it connects anew', reader.whenConnected());
  await becomes('it counts the connection', () =>
    Promise.resolve(reader.connections() > before || undefined),
  );
}

export const connectionCases: readonly ConformanceCase[] = [
  ...portCases('Redis may go away', {
    'a read of calls that is reset ends, counts a new connection, and loses nothing': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.member();
      const { reader } = worker;
      await caller.submit(ref, 'before');
      const held = await worker.takeOne(ref);
      await reset(reader, begun(reader.read([ref], 1, LONG_BLOCK_MS)));
      const pending = (await reader.pending([ref])).map((raw) => given(raw).callId);
      assert.deepEqual(pending, ['before'], 'it is told what it has');
      assert.equal(await worker.say(held, 'settle'), true);
      await caller.submit(ref, 'after');
      // It may have been delivered into the connection that was broken: then it is pending.
      const after = await becomes('the next call', async () => {
        const read = await reader.read([ref], 1, SHORT_BLOCK_MS);
        const [raw] = read.length > 0 ? read : await reader.pending([ref]);
        return raw;
      });
      assert.equal(given(after).callId, 'after');
    },

    'a read of replies that is reset ends, counts a new connection, and loses nothing': async (
      scene,
    ) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const caller = await scene.caller();
      const { replies } = caller;
      await caller.submitAll(['c1', 'c2'].map((id) => caller.callOf(ref, id)));
      const [one, two] = await worker.take(ref);
      assert.ok(one && two);
      await reset(replies, begun(replies.read(LONG_BLOCK_MS)));
      await worker.say(one, 'settle');
      assert.equal(await replies.ensure(), false, 'its stream is still there');
      await worker.say(two, 'settle');
      const heard = await caller.nextReplies(2);
      assert.deepEqual(
        heard.map(({ callId }) => callId),
        ['c1', 'c2'],
      );
    },
  }),

  ...portCases('Bad input is refused before anything is sent', {
    'a function whose calls can be read is not called broken': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { calls } = worker.backend;
      await worker.submit(ref, 'c1');
      assert.deepEqual(await calls.broken([ref, functionRef('unknown', 'default')]), []);
      assert.deepEqual(await calls.broken([]), []);
    },
  }),

  ...portCases(
    'Bad input is refused before anything is sent',
    {
      'a function whose calls somebody else overwrote is called broken, until that is gone': async (
        scene,
      ) => {
        const { ref } = scene;
        const other = functionRef('other', 'default');
        const worker = await (await scene.worker()).reads(other);
        const { calls } = worker.backend;
        const restore = await scene.spoil();
        await assert.rejects(worker.take(ref), (error) => isRefused(error, 'WRONGTYPE'));
        assert.deepEqual(await calls.broken([other, ref]), [ref]);
        await worker.submit(other, 'c1');
        assert.equal((await worker.takeOne(other)).callId, 'c1', 'others go on');
        await restore();
        assert.deepEqual(await calls.broken([other, ref]), []);
        await worker.reads(ref);
        await worker.submit(ref, 'c2');
        assert.equal((await worker.takeOne(ref)).callId, 'c2');
      },
    },
    'spoil',
  ),
];
