import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { outcomeOf, type GivenCall, type Member } from '../../src/conformance/member.js';
import { encodeResult } from '../../src/protocol/call.js';
import { functionRef, type FunctionRef } from '../../src/protocol/function-ref.js';
import { redisUrl } from '../harness/apps.js';
import { Members } from '../harness/members.js';

const refs = ['f1', 'f2', 'f3'].map((name) => functionRef(name, 'default'));

let members: Members;
let admin: Members['admin'];
let keys: Members['keys'];
let worker: Member;
let caller: Member;
let taken: GivenCall[];

beforeEach(async () => {
  members = new Members();
  ({ admin, keys } = members);
  worker = await (await (await members.member('worker-1')).join()).reads(...refs);
  caller = await (await members.member('caller-1')).listens();
  // Two of the first, one of the second, three of the third.
  const calls = [0, 0, 1, 2, 2, 2].map((n, at) => caller.callOf(refs[n] as FunctionRef, `c${at}`));
  await caller.submitAll(calls);
  taken = (await Promise.all(refs.map((ref) => worker.take(ref)))).flat();
});
afterEach(() => members.close());

const settleAll = (by = worker): ReturnType<Member['sayAll']> =>
  by.sayAll(taken.map((call) => outcomeOf(call, 'settle', encodeResult(`"${call.callId}"`, 'w'))));

/** How many calls of each function are there, and are somebody's. */
const left = (): Promise<number[][]> =>
  Promise.all(
    refs.map(async (ref) => [
      await admin.xlen(keys.calls(ref)),
      ((await admin.xpending(keys.calls(ref), 'workers')) as [number])[0],
    ]),
  );

const answered = async (count: number): Promise<string[]> =>
  (await caller.nextReplies(count)).map(({ callId }) => callId);

describe('answers to calls of several functions at once', () => {
  it('are written in their order, and leave nothing of the calls', async () => {
    expect(await settleAll()).toEqual({ lost: [], again: [], why: '' });
    expect(await answered(6)).toEqual(['c0', 'c1', 'c2', 'c3', 'c4', 'c5']);
    expect(await left()).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
    ]);
  });

  it('are not written for those that are not owned any more, or whose key holds no stream', async () => {
    const [first, second] = refs as [FunctionRef, FunctionRef];
    await admin.xack(keys.calls(first), 'workers', taken[0]?.entryId as string);
    await admin.xdel(keys.calls(first), taken[0]?.entryId as string);
    await admin.set(keys.calls(second), 'no stream');
    expect(await settleAll()).toEqual({ lost: [0, 2], again: [], why: '' });
    expect(await answered(4)).toEqual(['c1', 'c3', 'c4', 'c5']);
    await caller.hearsNothing();
    await admin.del(keys.calls(second));
    expect(await admin.xlen(keys.calls(first))).toBe(0);
  });

  it('that Redis refuses leave the calls with their owner, but for those that are not', async () => {
    const name = `mute-${process.pid}`;
    await admin.acl('SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', '+@all', '-xadd');
    try {
      const url = new URL(redisUrl());
      url.username = name;
      url.password = 'secret';
      const mute = await members.member('worker-1', url.href);
      const third = refs[2] as FunctionRef;
      await admin.xack(keys.calls(third), 'workers', taken[3]?.entryId as string);
      await admin.xdel(keys.calls(third), taken[3]?.entryId as string);
      const { lost, again, why } = await mute.backend.calls.conclude(
        taken.map((call) => outcomeOf(call, 'settle', encodeResult('1', 'w'))),
        worker.sessionId,
      );
      expect([lost, again]).toEqual([[3], [0, 1, 2, 4, 5]]);
      expect(why).not.toBe('');
      expect(await left()).toEqual([
        [2, 2],
        [1, 1],
        [2, 2],
      ]);
    } finally {
      await admin.acl('DELUSER', name);
    }
    await caller.hearsNothing();
    expect(await settleAll()).toEqual({ lost: [3], again: [], why: '' });
    expect(await answered(5)).toEqual(['c0', 'c1', 'c2', 'c4', 'c5']);
  });
});
