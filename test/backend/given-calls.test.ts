import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Bell, PoolRead, RawCall } from '../../src/backend/call-streams.js';
import { Redis } from 'ioredis';
import { given, type GivenCall, type Member } from '../../src/conformance/member.js';
import { PASSES_AT_ONCE } from '../../src/backend/limits.js';
import { functionRef, type FunctionRef } from '../../src/protocol/function-ref.js';
import { createUser } from '../harness/acl.js';
import { redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';

import { eventually } from '../harness/eventually.js';
import { Members } from '../harness/members.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

const POOL = 'pool-1';
const BLOCK_MS = 10_000;
const LOOK: PoolRead = { pools: [POOL], limit: 100, functions: 64, perFunction: 10, rooms: [] };
const ref = functionRef('f1', 'default');
const other = functionRef('f2', 'default');

let members: Members;
let admin: Members['admin'];
let keys: Members['keys'];
let worker: Member;
let caller: Member;

beforeEach(async () => {
  members = new Members();
  ({ admin, keys } = members);
  worker = await members.pooled(POOL, [ref, other]);
  caller = await members.member('caller-1');
});
afterEach(() => members.close());

/** Waits for the bell with an offer that is in place when this resolves. */
const offering = (places: number): Promise<{ bell: Promise<Bell> }> =>
  members.offering(worker, POOL, places);

const callIds = (calls: Bell['calls']): string[] =>
  calls.map(({ fields }) => /(\S+)\t/.exec(fields[1] ?? '')?.[1] ?? '');

describe('a process that waits for the bell and offers to take calls', () => {
  it('is given a call with its parameters, owns it, and its offer is used up', async () => {
    const { bell } = await offering(3);
    const entryId = await caller.submit(ref, 'c1');
    const { rang, calls } = await bell;
    expect(rang).toBe(false);
    expect(calls).toEqual([{ ref, entryId, fields: ['c', expect.stringContaining(' c1\t')] }]);
    expect(await worker.reader.pending([ref])).toEqual(calls);
    expect(await worker.reader.pending([other])).toEqual([]);
    const inbox = await admin.hgetall(keys.inbox(worker.sessionId));
    expect(inbox).toEqual({
      '#': '2',
      [entryId.replace(/@.*/, '')]: `${ref.id}\t${calls[0]?.fields[1] ?? ''}`,
    });
    expect(await admin.xlen(keys.calls(ref))).toBe(0);
    expect(await admin.exists(keys.poolOffers(POOL), keys.given(worker.sessionId))).toBe(0);
    expect(await admin.exists(keys.poolDue(POOL), keys.poolWake(POOL))).toBe(0);
  });

  it('is given calls of several functions at once, and the bell rings for what is too many', async () => {
    const { bell } = await offering(3);
    await caller.submitAll(
      [ref, other, ref, other, other].map((to, n) => caller.callOf(to, `c${n}`)),
    );
    const { calls } = await bell;
    expect(callIds(calls)).toEqual(['c0', 'c1', 'c2']);
    expect((await worker.reader.waitForBell([POOL], BLOCK_MS)).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c3', 'c4']);
  });

  it('is rung for, too, where calls of which nobody was told wait before the one that it is given', async () => {
    await admin.xadd(keys.calls(ref), '*', 'c', '1 60000   silent\t{}');
    const { bell } = await offering(1);
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
    expect((await worker.reader.waitForBell([POOL], BLOCK_MS)).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['silent']);
    // What runs out of a stream is nothing to ring for.
    const next = await offering(1);
    await caller.submit(ref, 'c2');
    expect(callIds((await next.bell).calls)).toEqual(['c2']);
    expect(await admin.exists(keys.poolDue(POOL), keys.poolWake(POOL))).toBe(0);
  });

  it('is rung for such a call of one of many functions, after some more calls of these', async () => {
    await admin.xadd(keys.calls(other), '*', 'c', '1 60000   silent\t{}');
    let gifts = 0;
    while ((await admin.exists(keys.poolWake(POOL))) === 0) {
      const { bell } = await offering(2);
      await caller.submitAll([ref, other].map((to, n) => caller.callOf(to, `c${n}`)));
      expect(callIds((await bell).calls)).toEqual(['c0', 'c1']);
      gifts += 1;
    }
    expect(gifts).toBeLessThanOrEqual(2);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['silent']);
  });

  it('is given nothing while something waits: it would be overtaken', async () => {
    const { bell } = await offering(3);
    await admin.zadd(keys.poolDue(POOL), 1, other.id);
    await caller.submit(ref, 'c1');
    expect((await bell).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
  });

  it('is passed over when its session is gone, although its offer holds: it has no inbox', async () => {
    await admin.zadd(keys.poolOffers(POOL), Date.now() + BLOCK_MS + 0.5, 'ghost-1.1');
    const { bell } = await offering(1);
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
    expect(await admin.exists(keys.inbox('ghost-1.1'), keys.given('ghost-1.1'))).toBe(0);
  });

  it('is given calls of a function whose group is gone', async () => {
    const { bell } = await offering(1);
    await admin.xgroup('DESTROY', keys.calls(ref), 'workers');
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
  });

  it('is passed over when it is gone: its offer has ended', async () => {
    await admin.zadd(keys.poolOffers(POOL), '1000', 'ghost-1.1');
    const { bell } = await offering(1);
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
    expect(await admin.zcard(keys.poolOffers(POOL))).toBe(0);
  });

  it('keeps nothing of the payloads with which it learned of functions', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const names = Array.from({ length: 40 }, (_, n) =>
      functionRef(`function-number-${n}`, 'default'),
    );
    worker = await members.pooled('pool-2', names, 'worker-2');
    const payload = `{"p":{"text":"${'x'.repeat(500_000)}"},"i":null}`;
    const heap = (): number => {
      collect();
      return process.memoryUsage().heapUsed / 1e6;
    };
    const before = heap();
    for (const to of names) {
      const wait = (): Promise<Bell> =>
        worker.reader.waitForBell(['pool-2'], BLOCK_MS, {
          places: 1,
          until: Date.now() + BLOCK_MS,
        });
      let bell = wait();
      await eventually('it offers', async () =>
        expect(await admin.zcard(keys.poolOffers('pool-2'))).toBe(1),
      );
      await caller.submit(to, 'c1', { payload });
      const calls: RawCall[] = [];
      // A look at whether lone calls were heard rings, too, and then it is not given what comes next.
      for (; calls.length === 0; bell = wait()) {
        calls.push(...(await bell).calls);
        const taken = await worker.reader.take({ ...LOOK, pools: ['pool-2'] });
        calls.push(...taken.calls);
      }
      expect(calls).toHaveLength(1);
      await worker.reader.wake();
      await bell;
    }
    // All of them are 20 MB.
    expect(heap() - before).toBeLessThan(8);
  });

  it('keeps nothing of the payloads that came with a call which it still runs', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const heap = (): number => {
      collect();
      return process.memoryUsage().heapUsed / 1e6;
    };
    const payload = `{"p":{"text":"${'x'.repeat(900_000)}"},"i":null}`;
    const kept: RawCall[] = [];
    const before = heap();
    for (let turn = 0; turn < 10; turn += 1) {
      const { bell } = await offering(2);
      await caller.submitAll([
        caller.callOf(ref, 'small'),
        caller.callOf(other, 'large', { payload }),
      ]);
      kept.push(...(await bell).calls.slice(0, 1));
    }
    // All of the large ones are 9 MB.
    expect(heap() - before).toBeLessThan(5);
    expect(callIds(kept)).toEqual(Array.from({ length: 10 }, () => 'small'));
  });

  it('offers nothing any more once another process found it dead', async () => {
    const { bell } = await offering(1);
    await caller.backend.workers.unregister(ref, 'w', { sessionId: worker.sessionId }, 'lost');
    expect(await admin.exists(keys.poolOffers(POOL))).toBe(0);
    await caller.submit(other, 'c1');
    expect((await bell).rang).toBe(true);
  });

  it('takes back an offer that was never acknowledged, before it looks at what is pending', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    worker = await members.pooled('pool-2', [ref], 'worker-2', proxy.url);
    proxy.holdAnswers();
    const offer = { places: 1, until: Date.now() + 60_000 };
    // The wait ends in Redis, and what is given afterwards stays on the list.
    const wait = worker.reader.waitForBell(['pool-2'], 1, offer).catch(() => undefined);
    await eventually('it offers, and waits no more', async () => {
      expect(await admin.zcard(keys.poolOffers('pool-2'))).toBe(1);
      const clients = String(await admin.client('LIST')).split('\n');
      const own = clients.find(
        (line) => line.includes(worker.sessionId) && / cmd=blpop/.test(line),
      );
      expect(own).toMatch(/ flags=N /);
    });
    await caller.submit(ref, 'c1');
    expect(await admin.llen(keys.given(worker.sessionId))).toBe(1);
    proxy.cut();
    await wait;
    await worker.reader.whenConnected();
    expect(callIds(await worker.reader.pending([ref]))).toEqual(['c1']);
    expect(await worker.reader.waitForBell(['pool-2'], 1)).toMatchObject({ calls: [] });
    await proxy.close();
  });

  it('keeps its offer over a look that brings nothing, when it waits again, and over no other', async () => {
    const stands = async (): Promise<boolean> =>
      (await admin.zscore(keys.poolOffers(POOL), worker.sessionId)) !== null;
    const looks = [
      { waits: true, brings: false, kept: true },
      { waits: false, brings: false, kept: false },
      { waits: true, brings: true, kept: false },
    ];
    for (const { waits, brings, kept } of looks) {
      const { bell } = await offering(1);
      await worker.reader.wake();
      await bell;
      // Something that nobody was told of.
      if (brings) {
        await admin.xadd(keys.calls(ref), '*', 'c', '1 60000   silent\t{}');
        await admin.zadd(keys.poolDue(POOL), 1, ref.id);
      }
      const { calls } = await worker.reader.take({ ...LOOK, waits });
      expect([calls.length > 0, await stands()]).toEqual([brings, kept]);
      await worker.reader.withdraw();
      expect(await stands()).toBe(false);
    }
  });

  it('offers again when the key of its pool’s offers, which somebody broke, is right again', async () => {
    await admin.set(keys.poolOffers(POOL), 'no set');
    await worker.reader.waitForBell([POOL], 1, { places: 1, until: Date.now() + BLOCK_MS });
    expect(await worker.reader.withdraw()).toEqual([]);
    await admin.del(keys.poolOffers(POOL));
    const { bell } = await offering(1);
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
  });

  it('gets what it takes also when somebody broke the keys of its offer, or of its bell', async () => {
    const { bell } = await offering(1);
    await worker.reader.wake();
    await bell;
    for (const id of ['c1', 'c2'])
      await admin.xadd(keys.calls(ref), '*', 'c', `1 60000   ${id}\t{}`);
    await admin.zadd(keys.poolDue(POOL), 1, ref.id);
    for (const key of [keys.poolOffers(POOL), keys.poolWake(POOL)]) {
      await admin.del(key);
      await admin.set(key, 'broken');
    }
    const one = { ...LOOK, limit: 1 };
    expect(callIds((await worker.reader.take(one)).calls)).toEqual(['c1']);
    expect(callIds((await worker.reader.take(one)).calls)).toEqual(['c2']);
  });

  it('is told in its next look of what it was given when one fails', async () => {
    await worker.reader.waitForBell([POOL], 1, { places: 1, until: Date.now() + BLOCK_MS });
    await caller.submit(ref, 'c1');
    await admin.set(keys.poolDue(POOL), 'no set');
    await expect(worker.reader.take(LOOK)).rejects.toThrow('WRONGTYPE');
    await admin.del(keys.poolDue(POOL));
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
    expect(await admin.exists(keys.given(worker.sessionId))).toBe(0);
  });

  /** Two calls that it was given and is not told of yet, and one that waits. */
  async function givenAndWaiting(): Promise<void> {
    await worker.reader.waitForBell([POOL], 1, { places: 2, until: Date.now() + BLOCK_MS });
    await caller.submitAll([1, 2, 3].map((n) => caller.callOf(ref, `c${n}`)));
    expect(await admin.llen(keys.given(worker.sessionId))).toBe(1);
  }

  it('gets no more in a look than it asks for, with what it was given', async () => {
    await givenAndWaiting();
    await caller.submitAll([4, 5].map((n) => caller.callOf(ref, `c${n}`)));
    const { calls, more } = await worker.reader.take({ ...LOOK, limit: 4 });
    expect([callIds(calls), more]).toEqual([['c1', 'c2', 'c3', 'c4'], true]);
  });

  it('is told of what it was given when the group of a function that is due is gone', async () => {
    await givenAndWaiting();
    await admin.xgroup('DESTROY', keys.calls(ref), 'workers');
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1', 'c2']);
    await expect(worker.reader.take(LOOK)).rejects.toThrow('NOGROUP');
  });

  it('is given nothing by an offer of its own that has ended', async () => {
    const { bell } = await offering(1);
    await admin.zadd(keys.poolOffers(POOL), '1000.5', worker.sessionId);
    await caller.submit(ref, 'c1');
    expect((await bell).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
  });

  it('has nothing in its inbox of which it cannot be told', async () => {
    const { bell } = await offering(1);
    await admin.set(keys.given(worker.sessionId), 'no list');
    await caller.submit(ref, 'c1');
    expect((await bell).rang).toBe(true);
    expect(await worker.reader.pending([ref]).catch(() => [])).toEqual([]);
    expect(Object.keys(await admin.hgetall(keys.inbox(worker.sessionId)))).toEqual(['#']);
    expect(await admin.xlen(keys.calls(ref))).toBe(1);
  });

  it('is given nothing when Redis forgot its session', async () => {
    await admin.hdel(keys.processes(), worker.sessionId);
    const { bell } = await offering(1);
    await caller.submit(ref, 'c1');
    expect((await bell).rang).toBe(true);
    expect(await admin.exists(keys.inbox(worker.sessionId))).toBe(0);
  });

  it('has its calls numbered on after a connection that broke', async () => {
    const numbers: string[] = [];
    for (const id of ['c1', 'c2']) {
      const { bell } = await offering(1);
      await caller.submit(ref, id);
      numbers.push((await bell).calls[0]?.entryId.replace(/^\d+|@.*$/g, '') ?? '');
      const before = worker.reader.connections();
      worker.reader.reset();
      await eventually('it connects', () => worker.reader.connections() > before);
      await worker.reader.whenConnected();
    }
    expect(numbers).toEqual(['-2', '-3']);
  });

  it('has an inbox with its next offer, when it could not be opened with the first one', async () => {
    const inbox = keys.inbox(worker.sessionId);
    await admin.set(inbox, 'no hash');
    await worker.reader.waitForBell([POOL], 1, { places: 1, until: Date.now() + BLOCK_MS });
    await worker.reader.withdraw();
    await admin.del(inbox);
    const { bell } = await offering(1);
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
  });

  it('finds what it was given in its order, after a connection that broke', async () => {
    const payload = `{"p":{"text":"${'x'.repeat(100)}"},"i":null}`;
    const ids = Array.from({ length: 20 }, (_, n) => `c${n}`);
    await worker.reader.waitForBell([POOL], 1, { places: 20, until: Date.now() + BLOCK_MS });
    await caller.submitAll(ids.map((id) => caller.callOf(ref, id, { payload })));
    expect(callIds(await worker.reader.pending([ref]))).toEqual(ids);
  });

  it('leaves neither offer nor calls behind when it closes', async () => {
    await offering(1);
    await worker.reader.close();
    const { sessionId } = worker;
    const left = [keys.poolOffers(POOL), keys.given(sessionId), keys.inbox(sessionId)];
    expect(await admin.exists(...left)).toBe(0);
  });
});

describe('calls of several functions, one of each', () => {
  const third = functionRef('f3', 'default');
  const all = [ref, other, third];

  beforeEach(async () => {
    await worker.reads(third);
    await worker.register(third, 'w', { poolId: POOL });
  });

  /** The caller has called these before. */
  async function knowing(refs: readonly FunctionRef[]): Promise<void> {
    for (const to of refs) {
      const { bell } = await offering(1);
      await caller.submit(to, 'known');
      expect(callIds((await bell).calls)).toEqual(['known']);
    }
  }

  const submitOneOfEach = (): Promise<unknown> =>
    caller.submitAll(all.map((to, n) => caller.callOf(to, `c${n}`)));

  /** What rings, and is found due then. */
  async function rungFor(): Promise<string[]> {
    expect((await worker.reader.waitForBell([POOL], BLOCK_MS)).rang).toBe(true);
    return callIds((await worker.reader.take(LOOK)).calls).sort();
  }

  it('are given in one step, without a look at each', async () => {
    await knowing(all);
    const log = await CommandLog.start(redisUrl(), (source, words) => {
      if (source === 'lua' && words.some((word) => word.includes(keys.prefix))) heard.push(words);
    });
    const heard: (readonly string[])[] = [];
    const { bell } = await offering(3);
    await submitOneOfEach();
    const { calls } = await bell;
    await log.mentioning(keys.prefix);
    log.close();
    expect(callIds(calls)).toEqual(['c0', 'c1', 'c2']);
    expect((await worker.reader.pending(all)).slice(-3)).toEqual(calls);
    expect(heard.map(([name]) => name?.toLowerCase())).toEqual([
      ...['exists', 'zrange', 'zrem', 'hincrby', 'hset', 'rpush', 'xlen'],
    ]);
  });

  it('ring beyond the places that are offered', async () => {
    const { bell } = await offering(2);
    await submitOneOfEach();
    expect(callIds((await bell).calls)).toEqual(['c0', 'c1']);
    expect(await rungFor()).toEqual(['c2']);
  });

  it('are given beyond those places to another that offers, in a pool that hosts all of them', async () => {
    const second = await members.pooled('pool-2', [], 'worker-2');
    await second.reads(...all);
    for (const to of all) await second.register(to, 'w-2', { poolId: 'pool-2' });
    const { bell } = await offering(2);
    const until = Date.now() + 2 * BLOCK_MS;
    const others = second.reader.waitForBell(['pool-2'], BLOCK_MS, { places: 2, until });
    await eventually('it offers, too', async () =>
      expect(await admin.zcard(keys.poolOffers('pool-2'))).toBe(1),
    );
    await submitOneOfEach();
    const given = [callIds((await bell).calls), callIds((await others).calls)];
    expect(given.map(({ length }) => length).sort()).toEqual([1, 2]);
    expect(given.flat().sort()).toEqual(['c0', 'c1', 'c2']);
    expect(await admin.exists(keys.poolDue(POOL), keys.poolDue('pool-2'))).toBe(0);
  });

  it('are added to their streams while the key of one function’s pools holds no set, and given without it', async () => {
    await admin.del(keys.bells(other));
    await admin.set(keys.bells(other), 'no set');
    const first = await offering(3);
    await submitOneOfEach();
    expect((await first.bell).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c0', 'c2']);
    const { bell } = await offering(3);
    await submitOneOfEach();
    expect(callIds((await bell).calls)).toEqual(['c0', 'c2']);
  });

  it('are given beside one that nobody hears by a bell, and one that only another pool does', async () => {
    const direct = functionRef('direct', 'default');
    const foreign = functionRef('foreign', 'default');
    const stranger = await members.pooled('pool-2', [foreign], 'worker-2');
    await stranger.register(other, 'w-2', { poolId: 'pool-2' });
    await stranger.reads(direct);
    // They have no pool in common, and are rung for once.
    const first = await offering(5);
    await caller.submitAll(
      [direct, ref, foreign, other, third].map((to) => caller.callOf(to, 'c')),
    );
    expect((await first.bell).rang).toBe(true);
    await worker.reader.take(LOOK);
    const look = { ...LOOK, pools: ['pool-2'] };
    await stranger.reader.take(look);
    await stranger.reader.read([direct], 1, 0);
    await admin.del(keys.poolWake('pool-2'));
    const { bell } = await offering(5);
    const strangersBell = stranger.reader.waitForBell(['pool-2'], BLOCK_MS);
    const each = [direct, ref, foreign, other, third];
    await caller.submitAll(each.map((to, n) => caller.callOf(to, `c${n}`)));
    expect(callIds((await bell).calls)).toEqual(['c1', 'c4']);
    expect((await strangersBell).rang).toBe(true);
    // Of what another pool hosts, too, is known; and the offer is for those that came first.
    expect(await rungFor()).toEqual(['c3']);
    expect(callIds((await stranger.reader.take(look)).calls)).toEqual(['c2']);
    expect(callIds(await stranger.reader.read([direct], 1, 0))).toEqual(['c0']);
  });

  it('ring in every pool of each when nobody offers', async () => {
    const stranger = await members.pooled('pool-2', [], 'worker-2');
    await stranger.register(other, 'w-2', { poolId: 'pool-2' });
    await submitOneOfEach();
    const dueIn = (pool: string): Promise<string[]> => admin.zrange(keys.poolDue(pool), 0, '-1');
    expect(await dueIn(POOL)).toEqual(all.map(({ id }) => id));
    expect(await dueIn('pool-2')).toEqual([other.id]);
  });

  it('that nobody takes are refused or added each for itself', async () => {
    await admin.xadd(keys.calls(other), '*', 'c', '1 60000   waiting\t{}');
    const submitted = await caller.submitAll(
      all.map((to, n) => caller.callOf(to, `c${n}`)),
      1,
    );
    expect(submitted).toEqual([expect.any(String), { backlog: 1 }, expect.any(String)]);
    expect(await rungFor()).toEqual(['c0', 'c2']);
    const two = [third, third].map((to, n) => caller.callOf(to, `t${n}`));
    expect(await caller.submitAll(two, 2)).toEqual([expect.any(String), { backlog: 2 }]);
    // One that was let in before is let in again.
    const again = await caller.submitAll(
      [caller.callOf(ref, 'c3'), caller.callOf(other, 'c1', { again: true })],
      1,
    );
    expect(again).toEqual([{ backlog: 1 }, expect.any(String)]);
  });

  it('are given to a pool that a function has joined, once the pool it was in before has nobody who offers', async () => {
    await knowing(all);
    const second = await members.pooled('pool-2', [], 'worker-2');
    await second.reads(ref);
    await second.register(ref, 'w-2', { poolId: 'pool-2' });
    await caller.submit(ref, 'c0');
    expect(await rungFor()).toEqual(['c0']);
    await admin.del(keys.poolDue('pool-2'), keys.poolWake('pool-2'));
    const until = Date.now() + 2 * BLOCK_MS;
    const bell = second.reader.waitForBell(['pool-2'], BLOCK_MS, { places: 2, until });
    await eventually('it offers', async () =>
      expect(await admin.zcard(keys.poolOffers('pool-2'))).toBe(1),
    );
    await caller.submit(ref, 'c1');
    expect(callIds((await bell).calls)).toEqual(['c1']);
  });
});

describe('a process of several pools', () => {
  const second = 'pool-2';
  const both = [POOL, second];

  const offersOf = (pool: string): Promise<string[]> =>
    admin.zrange(keys.poolOffers(pool), 0, '-1');

  beforeEach(() => worker.register(other, 'w', { poolId: second }));

  async function offeringBoth(places: number): Promise<{ bell: Promise<Bell> }> {
    const offer = { places, until: Date.now() + BLOCK_MS };
    const bell = worker.reader.waitForBell(both, BLOCK_MS, offer);
    bell.catch(() => undefined);
    await eventually('it offers', async () => expect(await offersOf(second)).toHaveLength(1));
    return { bell };
  }

  it('is given calls of each, and no more in all than it has places', async () => {
    const { bell } = await offeringBoth(3);
    // The two have no pool in common.
    for (const to of [ref, other])
      await caller.submitAll(
        [to, to].map((one, n) => caller.callOf(one, `${to.functionName}-${n}`)),
      );
    const first = callIds((await bell).calls);
    const rest = callIds(await worker.reader.withdraw());
    expect([...first, ...rest].sort()).toEqual(['f1-0', 'f2-0']);
    const { calls } = await worker.reader.take({ ...LOOK, pools: both });
    expect(callIds(calls).sort()).toEqual(['f1-1', 'f2-1']);
  });

  it('takes back all that it offered, one pool after the other', async () => {
    await offeringBoth(4);
    await caller.submit(ref, 'c1');
    expect([await offersOf(POOL), await offersOf(second)]).toEqual([[], [worker.sessionId]]);
    expect(await worker.reader.withdraw()).toEqual([]);
    expect(await offersOf(second)).toEqual([]);
    await offeringBoth(4);
    await worker.reader.take({ ...LOOK, pools: both });
    expect([await offersOf(POOL), await offersOf(second)]).toEqual([[], []]);
  });

  it('is told once of what it was given while it could not offer in another', async () => {
    await admin.set(keys.poolOffers(second), 'no set');
    await worker.reader.waitForBell(both, 1, { places: 2, until: Date.now() + BLOCK_MS });
    await caller.submit(ref, 'c1');
    expect(callIds(await worker.reader.pending([ref]))).toEqual(['c1']);
    // The list comes before the bells.
    expect((await worker.reader.waitForBell(both, 1)).calls).toEqual([]);
  });

  it('offers nothing with fewer places than pools, also where it has offered before', async () => {
    const { bell } = await offeringBoth(4);
    await worker.reader.wake();
    await bell;
    await worker.reader.waitForBell(both, 1, { places: 1, until: Date.now() + BLOCK_MS });
    expect([await offersOf(POOL), await offersOf(second)]).toEqual([[], []]);
  });
});

describe('a call that is bound to a generation, and passed on by a worker of another', () => {
  const generation = 7;
  const bound = { bound: true, payload: '{"p":{},"i":null,"g":7}' };
  let stranger: Member;

  beforeEach(async () => {
    await worker.register(ref, 'w', { poolId: POOL, generation });
    stranger = await (await (await members.member('stranger-1')).join()).reads(ref);
    await stranger.register(ref, 'old', { generation: 6 });
  });

  /** What rang for the call before somebody else took it. */
  async function hearBell(): Promise<void> {
    expect((await worker.reader.waitForBell([POOL], BLOCK_MS)).rang).toBe(true);
    expect((await worker.reader.take(LOOK)).calls).toEqual([]);
  }

  const passOn = (call: GivenCall, delayMs = 60_000): Promise<boolean> =>
    stranger.say(call, 'pass', '', { generation, delayMs, replyTo: '' });

  it('is given to one of its own that offers, before who waits at the stream itself gets it', async () => {
    await caller.submit(ref, 'c1', bound);
    const call = await stranger.takeOne(ref);
    const another = await (await (await members.member('stranger-2')).join()).reads(ref);
    const reading = another.reader.read([ref], 1, 300);
    await hearBell();
    const { bell } = await offering(2);
    expect(await passOn(call)).toBe(true);
    const { rang, calls } = await bell;
    expect(rang).toBe(false);
    expect(calls.map((raw) => [given(raw).callId, given(raw).passes])).toEqual([['c1', 1]]);
    expect(await worker.reader.pending([ref])).toEqual(calls);
    expect(await admin.exists(keys.poolDue(POOL), keys.poolOffers(POOL))).toBe(0);
    expect(await reading).toEqual([]);
  });

  it('is given to it also when it was passed on so often that it would wait aside', async () => {
    await caller.submit(ref, 'c1', bound);
    for (let passes = 0; passes < PASSES_AT_ONCE; passes += 1)
      await passOn(await stranger.takeOne(ref));
    const call = await stranger.takeOne(ref);
    await hearBell();
    const { bell } = await offering(1);
    await passOn(call);
    expect(callIds((await bell).calls)).toEqual(['c1']);
  });

  it('waits aside then, where nobody of its own offers', async () => {
    await caller.submit(ref, 'c1', bound);
    for (let passes = 0; passes <= PASSES_AT_ONCE; passes += 1)
      await passOn(await stranger.takeOne(ref));
    expect(await admin.hlen(keys.aside(ref))).toBe(1);
  });

  it('that comes back from aside, to who waits at the stream, is given to one of its own that was rung for', async () => {
    await caller.submit(ref, 'c1', bound);
    for (let passes = 0; passes < PASSES_AT_ONCE; passes += 1)
      await passOn(await stranger.takeOne(ref), 60_000);
    await passOn(await stranger.takeOne(ref), 1);
    await hearBell();
    const reading = stranger.reader.read([ref], 1, BLOCK_MS);
    const { bell } = await offering(1);
    await eventually('it is due', async () => (await caller.backend.calls.promote(ref)) === 1);
    expect((await bell).rang).toBe(true);
    const [raw] = await reading;
    // It looks before the other one has passed it on.
    expect((await worker.reader.take({ ...LOOK, waits: true })).calls).toEqual([]);
    await passOn(given(raw as RawCall), 60_000);
    const next = await worker.reader.waitForBell([POOL], BLOCK_MS);
    expect(callIds(next.calls)).toEqual(['c1']);
  });

  it('is not given to one of another generation, nor by an offer that has ended', async () => {
    await worker.register(ref, 'w', { poolId: POOL, generation: 6 });
    await stranger.register(ref, 'own', { generation });
    await caller.submit(ref, 'c1', bound);
    let call = await stranger.takeOne(ref);
    await hearBell();
    const { bell } = await offering(1);
    await passOn(call);
    expect(await bell).toMatchObject({ rang: true, calls: [] });
    await worker.register(ref, 'w', { poolId: POOL, generation });
    await admin.zadd(keys.poolOffers(POOL), '1000.5', worker.sessionId);
    call = await stranger.takeOne(ref);
    await passOn(call);
    expect(callIds(await worker.reader.pending([ref]))).toEqual([]);
    expect(callIds(await stranger.reader.read([ref], 1, 0))).toEqual(['c1']);
  });

  it('goes to the end when something else came before it, which is given instead', async () => {
    await caller.submit(ref, 'c1', bound);
    const call = await stranger.takeOne(ref);
    await hearBell();
    await caller.submit(ref, 'running');
    await worker.reader.waitForBell([POOL], BLOCK_MS);
    await worker.reader.take(LOOK);
    await admin.xadd(keys.calls(ref), '*', 'c', '1 60000   silent\t{}');
    const { bell } = await offering(1);
    await passOn(call);
    // What runs may have ended when it learns of the other: then it would run again.
    expect(callIds((await bell).calls)).toEqual(['silent']);
    expect((await worker.reader.waitForBell([POOL], BLOCK_MS)).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
  });
});

/** The address for a user that may do all but these. */
async function lacking(command: string): Promise<string> {
  const name = `lacking-${command}-${process.pid}`;
  await admin.acl('SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', '+@all', `-${command}`);
  users.push(name);
  const url = new URL(redisUrl());
  url.username = name;
  url.password = 'secret';
  return url.href;
}
const users: string[] = [];
beforeEach(() => {
  users.length = 0;
});
afterEach(async () => {
  if (users.length === 0) return;
  const by = new Redis(redisUrl());
  await by.acl('DELUSER', ...users);
  by.disconnect();
});

describe('a user that lacks one right', () => {
  it('offers nothing where it could not take out of its inbox what it has answered', async () => {
    worker = await members.pooled('pool-2', [ref], 'worker-2', await lacking('hdel'));
    const until = Date.now() + BLOCK_MS;
    const wait = (): Promise<Bell> =>
      worker.reader.waitForBell(['pool-2'], BLOCK_MS, { places: 1, until });
    const bell = wait();
    await caller.submit(ref, 'c1');
    expect((await bell).rang).toBe(true);
    expect(await admin.exists(keys.inbox(worker.sessionId))).toBe(0);
  });

  it('adds its calls where it cannot leave an inbox as closed as it was', async () => {
    const ringer = await members.member('caller-2', await lacking('hdel'));
    await admin.zadd(keys.poolOffers(POOL), Date.now() + BLOCK_MS + 0.5, 'ghost-1.1');
    const bell = worker.reader.waitForBell([POOL], BLOCK_MS);
    await ringer.submit(ref, 'c1');
    expect((await bell).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
  });

  it('passes a call on once where it may not take the taker’s offer away', async () => {
    await worker.register(ref, 'w', { poolId: POOL, generation: 7 });
    const url = await lacking('zrem');
    const stranger = await (await (await members.member('stranger-1', url)).join()).reads(ref);
    await caller.submit(ref, 'c1', { bound: true, payload: '{"p":{},"i":null,"g":7}' });
    const call = await stranger.takeOne(ref);
    await worker.reader.waitForBell([POOL], BLOCK_MS);
    await worker.reader.take(LOOK);
    const { bell } = await offering(1);
    const more = { generation: 7, delayMs: 60_000, replyTo: '' };
    expect(await stranger.say(call, 'pass', '', more)).toBe(true);
    expect((await bell).rang).toBe(true);
    expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
    expect(await admin.xlen(keys.calls(ref))).toBe(1);
  });
});

describe('a caller that could not give a call', () => {
  it('gives the next ones, when it was no right that it lacked', async () => {
    const first = await offering(1);
    const inbox = keys.inbox(worker.sessionId);
    await admin.hset(inbox, '#', 'no number');
    await caller.submit(ref, 'c1');
    expect((await first.bell).rang).toBe(true);
    await worker.reader.take(LOOK);
    await admin.hset(inbox, '#', '7');
    const { bell } = await offering(1);
    await caller.submit(ref, 'c2');
    expect(callIds((await bell).calls)).toEqual(['c2']);
  });
});

describe('a caller whose user may not give calls', () => {
  it('rings for them, and is refused once a connection', async () => {
    const name = `ringer-${process.pid}`;
    await admin.acl('SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', '+@all', '-hincrby');
    try {
      const url = new URL(redisUrl());
      url.username = name;
      url.password = 'secret';
      const ringer = await members.member('caller-2', url.href);
      await admin.acl('LOG', 'RESET');
      for (const id of ['c1', 'c2', 'c3']) {
        const { bell } = await offering(1);
        await ringer.submit(ref, id);
        expect((await bell).rang).toBe(true);
        expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual([id]);
      }
      const entries = (await admin.acl('LOG')) as (string | number)[][];
      const refused = entries
        .filter((entry) => entry.includes(name))
        .map((entry) => [entry[entry.indexOf('object') + 1], entry[entry.indexOf('count') + 1]]);
      expect(refused).toEqual([['hincrby', 1]]);
      // Another connection may have other rights.
      await admin.acl('SETUSER', name, '+hincrby');
      const connected = new Promise((resolve) => ringer.backend.onConnected(() => resolve(null)));
      await admin.client('KILL', 'USER', name);
      await connected;
      const { bell } = await offering(1);
      await ringer.submit(ref, 'c4');
      expect(callIds((await bell).calls)).toEqual(['c4']);
    } finally {
      await admin.acl('DELUSER', name);
    }
  });

  it('rings for them also when an offer has ended that it may not take away', async () => {
    const user = { name: `caller-${process.pid}`, password: 'secret', prefix: keys.prefix };
    await createUser(admin, user, ['Every process', 'Calling']);
    try {
      const url = new URL(redisUrl());
      url.username = user.name;
      url.password = user.password;
      const ringer = await members.member('caller-2', url.href);
      await admin.zadd(keys.poolOffers(POOL), '1000', 'ghost-1.1');
      const bell = worker.reader.waitForBell([POOL], BLOCK_MS);
      await ringer.submit(ref, 'c1');
      expect((await bell).rang).toBe(true);
      expect(callIds((await worker.reader.take(LOOK)).calls)).toEqual(['c1']);
    } finally {
      await admin.acl('DELUSER', user.name);
    }
  });
});
