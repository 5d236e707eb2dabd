import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Bell } from '../../src/backend/call-streams.js';
import {
  failure,
  failureNote,
  given,
  outcomeOf,
  type GivenCall,
  type Member,
} from '../../src/conformance/member.js';
import { encodeResult } from '../../src/protocol/call.js';
import { functionRef, type FunctionRef } from '../../src/protocol/function-ref.js';
import { redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { Members } from '../harness/members.js';

const POOL = 'pool-1';
const [f1, f2] = ['f1', 'f2'].map((name) => functionRef(name, 'default')) as [
  FunctionRef,
  FunctionRef,
];
const lost = { kind: 'lost', maxDeliveries: 3 } as const;

let members: Members;
let admin: Members['admin'];
let keys: Members['keys'];
let worker: Member;
let caller: Member;

beforeEach(async () => {
  members = new Members();
  ({ admin, keys } = members);
  worker = await members.pooled(POOL, [f1, f2]);
  caller = await (await members.member('caller-1')).listens();
});
afterEach(() => members.close());

/** Waits for the bell with an offer that is in place when this resolves. */
const offering = (by = worker): Promise<{ bell: Promise<Bell> }> => members.offering(by, POOL, 10);

/** Calls that the worker was given, as many as are submitted. */
async function giving(...calls: Parameters<Member['submitAll']>[0]): Promise<GivenCall[]> {
  const { bell } = await offering();
  await caller.submitAll(calls);
  const found = (await bell).calls;
  expect(found).toHaveLength(calls.length);
  return found.map(given);
}

const givenOne = async (more: Parameters<Member['callOf']>[2] = {}, ref = f1): Promise<GivenCall> =>
  (await giving(caller.callOf(ref, 'c1', more)))[0] as GivenCall;

const settling = (call: GivenCall): ReturnType<typeof outcomeOf> =>
  outcomeOf(call, 'settle', encodeResult(`"${call.callId}"`, 'w'));

/** What lies in the worker's inbox, its count aside. */
const inInbox = async (): Promise<number> =>
  Object.keys(await admin.hgetall(keys.inbox(worker.sessionId))).filter((name) => name !== '#')
    .length;

const repliesOf = async (by: Member, count: number): Promise<unknown[]> =>
  (await by.nextReplies(count)).map(({ callId, reply }) => [callId, reply.kind]);

const dead = (): Promise<unknown> =>
  caller.backend.fleet.condemn(worker.sessionId, 'lease').then(() => undefined);

/** Its lease is over, and the supervisor has condemned it. */
async function condemned(): Promise<void> {
  await admin.del(keys.lease(worker.sessionId));
  await dead();
}

describe('answers to calls that were given', () => {
  it('are written in their order, by caller, and leave nothing of the calls', async () => {
    const other = await (await members.member('caller-2')).listens();
    const calls = await giving(
      caller.callOf(f1, 'c0'),
      other.callOf(f2, 'c1'),
      caller.callOf(f2, 'c2', { replyTo: '' }),
      caller.callOf(f1, 'c3'),
    );
    expect(await worker.sayAll(calls.map(settling))).toEqual({ lost: [], again: [], why: '' });
    expect(await repliesOf(caller, 2)).toEqual([
      ['c0', 'result'],
      ['c3', 'result'],
    ]);
    expect(await repliesOf(other, 1)).toEqual([['c1', 'result']]);
    expect(await inInbox()).toBe(0);
  });

  it('are not written for those that are not owned any more', async () => {
    const calls = await giving(...['c0', 'c1', 'c2'].map((id) => caller.callOf(f1, id)));
    const [field = ''] = calls[1]?.entryId.split('@') ?? [];
    await admin.hdel(keys.inbox(worker.sessionId), field);
    expect(await worker.sayAll(calls.map(settling))).toEqual({ lost: [1], again: [], why: '' });
    expect(await repliesOf(caller, 2)).toEqual([
      ['c0', 'result'],
      ['c2', 'result'],
    ]);
    // Said again, because it is not known whether that arrived.
    expect(await worker.sayAll(calls.map(settling))).toMatchObject({ lost: [0, 1, 2] });
    await caller.hearsNothing();
  });

  it('tell which is not owned, also behind those of another caller; and make no stream for who is gone', async () => {
    const calls = await giving(
      caller.callOf(f1, 'c0', { replyTo: 'gone-1' }),
      caller.callOf(f1, 'c1'),
    );
    await admin.hdel(keys.inbox(worker.sessionId), calls[1]?.entryId.split('@')[0] ?? '');
    expect(await worker.sayAll(calls.map(settling))).toMatchObject({ lost: [1], again: [] });
    expect(await inInbox()).toBe(0);
    expect(await admin.exists(keys.replies('gone-1'))).toBe(0);
    await caller.hearsNothing();
  });

  it('that Redis refuses leave the calls with their owner, but for those that are not', async () => {
    const calls = await giving(...['c0', 'c1', 'c2'].map((id) => caller.callOf(f1, id)));
    await admin.hdel(keys.inbox(worker.sessionId), calls[0]?.entryId.split('@')[0] ?? '');
    const name = `mute-${process.pid}`;
    await admin.acl('SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', '+@all', '-xadd');
    try {
      const url = new URL(redisUrl());
      url.username = name;
      url.password = 'secret';
      const mute = await members.member('worker-1', url.href);
      const concluded = await mute.backend.calls.conclude(calls.map(settling), worker.sessionId);
      expect(concluded).toMatchObject({ lost: [0], again: [1, 2] });
      expect(concluded.why).not.toBe('');
      expect(await inInbox()).toBe(2);
    } finally {
      await admin.acl('DELUSER', name);
    }
    expect(await worker.sayAll(calls.map(settling))).toMatchObject({ lost: [0], again: [] });
    expect(await repliesOf(caller, 2)).toEqual([
      ['c1', 'result'],
      ['c2', 'result'],
    ]);
  });

  it('end the calls where the key of their caller’s replies holds no stream', async () => {
    const call = await givenOne();
    await admin.del(keys.replies('caller-1'));
    await admin.set(keys.replies('caller-1'), 'no stream');
    const { lost: gone, again, why } = await worker.sayAll([settling(call)]);
    expect([gone, again, why]).toEqual([[], [], expect.stringContaining('WRONGTYPE')]);
    expect(await inInbox()).toBe(0);
  });

  it('are lost with an inbox that somebody replaced, or that Redis forgot', async () => {
    const call = await givenOne();
    const inbox = keys.inbox(worker.sessionId);
    await admin.del(inbox);
    expect(await worker.say(call, 'settle')).toBe(false);
    await admin.set(inbox, 'no hash');
    expect(await worker.say(call, 'settle')).toBe(false);
    expect(await worker.say(call, 'answer')).toBe(false);
    // What it has beside them is found all the same.
    expect(await worker.reader.pending([f1])).toEqual([]);
    await admin.del(inbox);
    await caller.hearsNothing();
  });

  it('travel with those to calls that were read, and each is told of its own', async () => {
    const ids = ['read-1', 'read-2'];
    await caller.submitAll([...ids.map((id) => caller.callOf(f1, id)), caller.callOf(f2, 'other')]);
    const [read] = [await worker.take(f1), await worker.take(f2)];
    await admin.del(keys.poolDue(POOL), keys.poolWake(POOL));
    const calls = await giving(caller.callOf(f1, 'given-1'), caller.callOf(f2, 'given-2'));
    const mixed = [read[0], calls[0], read[1], calls[1]] as GivenCall[];
    await admin.hdel(keys.inbox(worker.sessionId), calls[0]?.entryId.split('@')[0] ?? '');
    await admin.xack(keys.calls(f1), 'workers', read[1]?.entryId ?? '');
    await admin.xdel(keys.calls(f1), read[1]?.entryId ?? '');
    const { lost: gone, again } = await worker.sayAll(mixed.map(settling));
    expect([[...gone].sort(), again]).toEqual([[1, 2], []]);
    expect((await repliesOf(caller, 2)).sort()).toEqual([
      ['given-2', 'result'],
      ['read-1', 'result'],
    ]);
  });

  it('come before the end, and after values on the way, of the same call', async () => {
    const call = await givenOne();
    const { lost: gone } = await worker.sayAll([
      outcomeOf(call, 'progress', encodeResult('1', 'w')),
      outcomeOf(call, 'answer', encodeResult('2', 'w')),
    ]);
    expect(gone).toEqual([]);
    expect(await inInbox()).toBe(1);
    expect(await worker.say(call, 'discard', '', { replyTo: '' })).toBe(true);
    expect(await inInbox()).toBe(0);
    expect(await worker.say(call, 'answer')).toBe(false);
    await expect(caller.nextReplies(2)).resolves.toHaveLength(2);
    await caller.hearsNothing();
  });

  it('that end calls, said beside values on the way, take them out', async () => {
    const [first, second] = (await giving(caller.callOf(f1, 'c0'), caller.callOf(f2, 'c1'))) as [
      GivenCall,
      GivenCall,
    ];
    await worker.sayAll([outcomeOf(first, 'progress', encodeResult('1', 'w')), settling(second)]);
    expect(await worker.reader.pending([f1, f2])).toEqual([first.raw]);
  });
});

describe('a call that was given and does not end there', () => {
  it('waits aside for another attempt, and comes back as the second', async () => {
    const call = await givenOne();
    const more = { delayMs: 1, failure: failureNote(1) };
    expect(await worker.say(call, 'retry', failure(), more)).toBe(true);
    expect([await inInbox(), await admin.hlen(keys.aside(f1))]).toEqual([0, 1]);
    await eventually('it is due', async () => (await caller.backend.calls.promote(f1)) === 1);
    const next = await worker.takeOne(f1);
    expect(next).toMatchObject({ callId: 'c1', attempt: 2, failures: 1 });
    expect(next.submittedAt).toBe(call.submittedAt);
    expect(await worker.say(call, 'retry', failure(), more)).toBe(false);
  });

  it('goes to the dead letters, with its payload', async () => {
    const payload = '{"p":{"a":1},"i":null}';
    const call = await givenOne({ payload });
    const more = { failure: failureNote(1) };
    expect(await worker.say(call, 'bury', failure(), more)).toBe(true);
    expect(await inInbox()).toBe(0);
    const [letter] = await caller.backend.deadLetters.list(f1, '', 10);
    expect(letter?.fields).toEqual(
      expect.arrayContaining([expect.stringContaining(payload), 'RETRIES_EXHAUSTED']),
    );
    expect(await repliesOf(caller, 1)).toEqual([['c1', 'error']]);
    expect(await worker.say(call, 'bury', failure(), more)).toBe(false);
  });

  it('goes into its stream for a worker of the generation that it is bound to', async () => {
    const own = await (await (await members.member('worker-2')).join()).reads(f1);
    await own.register(f1, 'own', { generation: 7 });
    const call = await givenOne({ bound: true, payload: '{"p":{},"i":null,"g":7}' });
    const more = { generation: 7, delayMs: 60_000, replyTo: '' };
    expect(await worker.say(call, 'pass', '', more)).toBe(true);
    expect(await own.takeOne(f1)).toMatchObject({ callId: 'c1', attempt: 1, passes: 1 });
    expect(await inInbox()).toBe(0);
    expect(await worker.say(call, 'pass', '', more)).toBe(false);
  });

  it('is its worker’s to cancel, until it is settled', async () => {
    const call = await givenOne();
    const cancelled = (): Promise<string> =>
      caller.backend.calls.cancel(f1, call.entryId, 'c1', undefined);
    expect(await cancelled()).toBe('running');
    const told = await worker.news.message(keys.control(worker.sessionId), 'cancel');
    expect(told).toMatchObject({ callId: 'c1', entryId: call.entryId });
    await worker.say(call, 'settle');
    expect(await cancelled()).toBe('unknown');
  });

  it('is handed back under another id: its first owner’s answer is nobody’s', async () => {
    const [call, quiet, started] = (await giving(
      caller.callOf(f1, 'c0'),
      caller.callOf(f1, 'c1', { delivery: 'at-most-once' }),
      caller.callOf(f1, 'c2', { delivery: 'at-most-once' }),
    )) as [GivenCall, GivenCall, GivenCall];
    const released = await worker.backend.calls.release(f1, worker.sessionId, {
      kind: 'handed-back',
      entries: [call, quiet, started].map(({ entryId }) => ({
        entryId,
        started: entryId !== quiet.entryId,
      })),
    });
    expect(released).toEqual({ requeued: 2, answered: 1, deadLettered: 0 });
    expect(await repliesOf(caller, 3)).toEqual([
      ['c0', 'moved'],
      ['c1', 'moved'],
      ['c2', 'error'],
    ]);
    expect(await worker.sayAll([settling(call), settling(quiet)])).toMatchObject({ lost: [0, 1] });
    await caller.hearsNothing();
    const taken = await worker.take(f1);
    expect(taken.map(({ callId, attempt }) => [callId, attempt])).toEqual([
      ['c0', 1],
      ['c1', 1],
    ]);
    expect(taken[0]?.submittedAt).toBe(call.submittedAt);
  });

  it('is found among what is pending, also where the group of its function is gone, and another’s key holds no stream', async () => {
    const call = await givenOne();
    await caller.submitAll([caller.callOf(f2, 'read')]);
    const read = await worker.takeOne(f2);
    await admin.xgroup('DESTROY', keys.calls(f1), 'workers');
    expect(await worker.reader.pending([f1, f2])).toEqual([read.raw, call.raw]);
    await admin.set(keys.calls(f1), 'no stream');
    expect(await worker.reader.pending([f1, f2])).toEqual([read.raw, call.raw]);
    await admin.del(keys.calls(f1));
  });

  it('is nothing that a group which was made anew has to know of', async () => {
    const call = await givenOne();
    await worker.backend.calls.claim(f1, worker.sessionId, [call.entryId]);
    expect(await worker.say(call, 'settle')).toBe(true);
  });
});

describe('calls that were given to a process which is lost', () => {
  it('go to another one as a second delivery, are answered, or given up; and its own answers are nobody’s', async () => {
    const calls = await giving(
      caller.callOf(f1, 'c0'),
      caller.callOf(f2, 'c1'),
      caller.callOf(f1, 'c2', { delivery: 'at-most-once' }),
    );
    await condemned();
    const { calls: streams } = caller.backend;
    const log = await CommandLog.start(redisUrl());
    const released = await Promise.all([
      streams.release(f1, worker.sessionId, lost),
      streams.release(f2, worker.sessionId, { kind: 'lost', maxDeliveries: 1 }),
    ]);
    const looks = (await log.mentioning(keys.inbox(worker.sessionId))).filter(
      ({ name, args }) => name === 'evalsha' && args[2] === keys.inbox(worker.sessionId),
    );
    log.close();
    expect(looks).toHaveLength(1);
    expect(released).toEqual([
      { requeued: 1, answered: 1, deadLettered: 0 },
      { requeued: 0, answered: 0, deadLettered: 1 },
    ]);
    expect((await repliesOf(caller, 3)).sort()).toEqual([
      ['c0', 'moved'],
      ['c1', 'error'],
      ['c2', 'error'],
    ]);
    const next = await (await (await members.member('worker-2')).join()).reads(f1);
    expect(await next.takeOne(f1)).toMatchObject({ callId: 'c0', attempt: 2 });
    const own = await worker.sayAll(calls.map(settling));
    expect([...own.lost].sort()).toEqual([0, 1, 2]);
    await caller.hearsNothing();
    expect(await admin.exists(keys.inbox(worker.sessionId))).toBe(0);
    expect(await streams.release(f1, worker.sessionId, lost)).toMatchObject({ requeued: 0 });
  });

  it('are handed over also when it had not registered their function yet', async () => {
    const { sessionId } = worker;
    const starting = await (await (await members.member('worker-2')).join()).reads(f1, f2);
    const { bell } = await offering(starting);
    await caller.submitAll([caller.callOf(f1, 'c1'), caller.callOf(f1, 'c2')]);
    expect((await bell).calls).toHaveLength(2);
    await admin.del(keys.lease(starting.sessionId));
    const { fleet, calls } = caller.backend;
    const left = await fleet.condemn(starting.sessionId, 'lease');
    expect(left).toEqual([{ ref: f1, workerId: '' }]);
    expect(await calls.release(f1, starting.sessionId, lost)).toMatchObject({ requeued: 2 });
    expect(await admin.exists(keys.inbox(starting.sessionId), keys.inbox(sessionId))).toBe(0);
  });

  it('are handed over from an inbox of more than one look', async () => {
    await giving(caller.callOf(f1, 'c0'));
    const calls = Array.from({ length: 600 }, (_, n) => [
      `1-${n}`,
      `${f1.id}\t1 60000   c${n}\t{}`,
    ]);
    await admin.hset(keys.inbox(worker.sessionId), ...calls.flat());
    await condemned();
    expect(await caller.backend.calls.release(f1, worker.sessionId, lost)).toMatchObject({
      requeued: 601,
    });
    expect(await admin.exists(keys.inbox(worker.sessionId))).toBe(0);
  });

  it('do not keep what it has read from being handed over, when somebody broke its inbox', async () => {
    await caller.submit(f1, 'c1');
    await worker.takeOne(f1);
    await admin.set(keys.inbox(worker.sessionId), 'no hash');
    await condemned();
    expect(await caller.backend.calls.release(f1, worker.sessionId, lost)).toMatchObject({
      requeued: 1,
    });
  });

  it('are handed over also when nothing of their function’s stream is left', async () => {
    await givenOne();
    await admin.del(keys.calls(f1));
    await condemned();
    await caller.backend.calls.release(f1, worker.sessionId, lost);
    expect(await admin.xlen(keys.calls(f1))).toBe(1);
  });

  it('are none any more after that, although it comes to itself and offers', async () => {
    await givenOne();
    await condemned();
    await caller.backend.calls.release(f1, worker.sessionId, lost);
    await worker.take(f1);
    const { bell } = await offering();
    await caller.submit(f2, 'c2');
    expect((await bell).rang).toBe(true);
    expect(await admin.exists(keys.inbox(worker.sessionId), keys.given(worker.sessionId))).toBe(0);
  });

  it('are none where it connects anew after it was condemned', async () => {
    await condemned();
    // Its first offer is what opens its inbox.
    const { bell } = await offering();
    await caller.submit(f2, 'c2');
    expect((await bell).rang).toBe(true);
    expect(await admin.exists(keys.inbox(worker.sessionId))).toBe(0);
  });

  it('that it got between its death and the look at its inbox are handed over, too', async () => {
    const { bell } = await offering();
    await condemned();
    await caller.submit(f1, 'c1');
    expect((await bell).calls).toHaveLength(1);
    await caller.backend.workers.unregister(f1, 'w', { sessionId: worker.sessionId }, 'lost');
    expect(await caller.backend.calls.release(f1, worker.sessionId, lost)).toMatchObject({
      requeued: 1,
    });
    expect(await admin.exists(keys.inbox(worker.sessionId))).toBe(0);
  });
});
