import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import type { Backend } from '../../src/backend/backend.js';
import type { Outcome, Submission } from '../../src/backend/call-streams.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { EnhancedFunctionRegistry, FunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { partsOf, splitReplies } from '../../src/protocol/call.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { News } from '../harness/news.js';

const WORK = functionRef('work', 'default');

let fleet: Fleet;
beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const key = (name: string): string => `${fleet.prefix}nf:{work:default}:${name}`;
const backendOf = (app: INestApplicationContext): Backend => app.get<Backend>(BACKEND);

async function sessionOf(workerId: string): Promise<string> {
  const record = JSON.parse((await fleet.redis.hget(key('workers'), workerId)) ?? '{}') as {
    processId: string;
  };
  return record.processId;
}

/** A stream with more entries than it may have. */
async function fill(stream: string, count: number): Promise<void> {
  const batch = fleet.redis.pipeline();
  for (let n = 0; n < count; n += 1) batch.xadd(stream, '*', 'n', String(n));
  await batch.exec();
  expect(await fleet.redis.xlen(stream)).toBe(count);
}

/** A stream is cut at whole nodes, of 100 entries. */
const CAPPED = 10_100;

describe('a heartbeat', () => {
  it("keeps the process's reply stream", async () => {
    const app = await fleet.start({
      providers: [hosting('work', () => 1)],
      options: { leaseMs: 400 },
    });
    await app.get(EnhancedFunctionRegistry).call('work');
    const replies = (await fleet.keys()).find((name) => name.endsWith(':replies')) ?? '';
    await fleet.redis.pexpire(replies, 10_000);
    await eventually('it lives for a minute again', async () => {
      return (await fleet.redis.pttl(replies)) > 50_000;
    });
  });
});

describe('a worker of a pool that is unregistered', () => {
  it('leaves a token for the others when calls are due, for it may have spent the one that told of them', async () => {
    const { workers } = backendOf(await fleet.start({ options: { worker: false } }));
    for (const workerId of ['w-1', 'w-2']) {
      const session = await workers.join(`of-${workerId}`, 60_000, false);
      const registration = { ref: WORK, workerId, session, leaseMs: 60_000, definition: '' };
      await workers.register({ ...registration, fingerprint: '', poolId: 'p' });
    }
    await fleet.redis.xadd(key('calls'), '*', 'v', '1');
    const pool = `${fleet.prefix}nf:pool:{p}`;
    await fleet.redis.zadd(`${pool}:due`, 1, 'work:default');
    await workers.unregister(WORK, 'w-1', {}, 'process_died');
    expect(await fleet.redis.llen(`${pool}:wake`)).toBe(1);
  });
});

describe("a message on a session's own channel", () => {
  it('changes no health when it is older than what the worker said since', async () => {
    const app = await fleet.start({
      providers: [hosting('work', () => 'done'), hosting('other', () => 'done')],
      options: { workerId: 'w' },
    });
    const other = await fleet.start({ options: { worker: false } });
    const registry = other.get(FunctionRegistry);
    const control = `nf:process:${await sessionOf('w')}`;
    const heard = await News.listen(redisUrl(), fleet.prefix, [control]);
    const statusHere = (name = 'work'): unknown =>
      app
        .get(WorkerCoordinator)
        .workers()
        .find(({ ref }) => ref.functionName === name)?.status;
    await registry.markWorkerUnhealthy('w', 'work', 'default', 'slow');
    await eventually('it is unhealthy', () => statusHere() === 'unhealthy');
    await registry.updateWorkerHealth('w', 'work', 'default', true);
    await eventually('it is healthy', () => statusHere() === 'ready');
    const [old] = heard.of('health');
    expect(old?.data).toMatchObject({ healthy: false });
    // On another connection, late.
    const { pattern, data } = old ?? {};
    await fleet.redis.publish(fleet.prefix + control, JSON.stringify({ pattern, data }));
    // Behind it on the same channel: when this is known, that was heard.
    await registry.markWorkerUnhealthy('w', 'other', 'default', 'slow');
    await eventually('the later one is known', () => statusHere('other') === 'unhealthy');
    expect(statusHere('work')).toBe('ready');
    heard.close();
  });
});

describe('a reply stream', () => {
  const write = (stranger: string, key_?: string): Promise<unknown> =>
    fleet.redis.xadd(
      key('calls'),
      '*',
      ...['c', `1 60000  ${stranger} call\t{"p":{},"i":null}`],
      ...(key_ === undefined ? [] : ['k', key_]),
    );

  it.each([
    ['a call', undefined],
    ['a call with an idempotency key', 'once'],
  ])('that is full of other things still takes the answer to %s', async (_title, once) => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const replies = `${fleet.prefix}nf:process:{stranger}:replies`;
    await fill(replies, 12_000);
    await write('stranger', once);
    await stage.started();
    stage.finishAll();
    await eventually('the answer is there', async () => {
      const [last] = await fleet.redis.xrevrange(replies, '+', '-', 'COUNT', 1);
      expect(last?.[1][1]).toMatch(/^call\t/);
    });
  });

  it('takes no progress above its cap, also where that is reached amid what is said in one go', async () => {
    const { calls } = backendOf(await fleet.start());
    const replies = `${fleet.prefix}nf:process:{stranger}:replies`;
    await fill(replies, 9_998);
    const progress = (reply: string): Outcome => ({
      ...{ ref: WORK, callId: 'call', replyTo: 'stranger', entryId: '1-1', kind: 'progress' },
      reply,
    });
    await calls.conclude(['1', '2', '3', '4'].map(progress), 'me');
    const last = await fleet.redis.xrevrange(replies, '+', '-', 'COUNT', 3);
    expect(last.map(([, fields]) => fields[1])).toEqual(['call\t2', 'call\t1', '9997']);
  });
});

const submission = (callId: string, ref = WORK, replyTo = 'stranger'): Submission => ({
  ...{ ref, callId, replyTo, ttlMs: 60_000, sentAt: undefined, again: false },
  ...{ delivery: 'at-least-once', payload: '{"p":{},"i":null}', idempotencyKey: undefined },
});

describe('outcomes of several functions for several callers', () => {
  it('are told to whom they are for, those that are not owned to nobody', async () => {
    const other = functionRef('other', 'default');
    const backend = backendOf(await fleet.start());
    const replies = (to: string): string => `${fleet.prefix}nf:process:{${to}}:replies`;
    for (const to of ['one', 'two'])
      await fleet.redis.xgroup('CREATE', replies(to), 'keeper', '0', 'MKSTREAM');
    await backend.calls.ensureGroups([WORK, other], 'me');
    const written = [
      submission('w1', WORK, 'one'),
      submission('w2', WORK, 'two'),
      submission('o1', other, 'one'),
      submission('w3', WORK, 'one'),
      submission('o2', other, 'two'),
      submission('o3', other, 'one'),
      submission('o4', other, ''),
      submission('w4', WORK, 'two'),
    ];
    await backend.calls.submit(written, { maxBacklog: 10 });
    const reader = backend.calls.openReader('me');
    await reader.whenConnected();
    const entries = new Map(
      (await reader.read([WORK, other], 10, 0)).map((call) => [partsOf(call.fields).callId, call]),
    );
    const outcomes: Outcome[] = written.map(({ ref, callId, replyTo }) => ({
      ...{ ref, callId, replyTo, entryId: entries.get(callId)?.entryId ?? '' },
      ...(replyTo === '' ? { kind: 'discard', reply: '' } : { kind: 'settle', reply: '{}' }),
    }));
    for (const [name, callId] of [
      ['work', 'w1'],
      ['other', 'o3'],
      ['work', 'w4'],
    ] as const) {
      const stream = `${fleet.prefix}nf:{${name}:default}:calls`;
      await fleet.redis.xack(stream, 'workers', entries.get(callId)?.entryId ?? '');
      await fleet.redis.xdel(stream, entries.get(callId)?.entryId ?? '');
    }
    const concluded = await backend.calls.conclude(outcomes, 'me');
    expect({ ...concluded, lost: [...concluded.lost].sort() }).toEqual({
      ...{ lost: [0, 5, 7], again: [], why: '' },
    });
    const told = async (to: string): Promise<string[]> =>
      (await fleet.redis.xrange(replies(to), '-', '+'))
        .flatMap(([, fields]) => splitReplies(fields[1] ?? ''))
        .map(({ callId }) => callId)
        .sort();
    expect(await told('one')).toEqual(['o1', 'w3']);
    expect(await told('two')).toEqual(['o2', 'w2']);
    for (const name of ['work', 'other'])
      expect(await fleet.redis.xlen(`${fleet.prefix}nf:{${name}:default}:calls`)).toBe(0);
    await reader.close();
  });
});

describe('nothing', () => {
  it('is written, and said, without a word to Redis', async () => {
    const { calls } = backendOf(await fleet.start());
    await expect(calls.submit([], { maxBacklog: 1 })).resolves.toEqual([]);
    await expect(calls.conclude([], 'me')).resolves.toEqual({ lost: [], again: [], why: '' });
  });
});

describe('outcomes that Redis refuses', () => {
  it('leave their calls pending: whoever comes after a worker that dies now runs them', async () => {
    const backend = backendOf(await fleet.start());
    const replies = `${fleet.prefix}nf:process:{stranger}:replies`;
    await fleet.redis.xgroup('CREATE', replies, 'keeper', '0', 'MKSTREAM');
    await backend.calls.ensureGroups([WORK], 'me');
    await backend.calls.submit(
      ['a', 'b', 'c'].map((id) => submission(id)),
      { maxBacklog: 10 },
    );
    const reader = backend.calls.openReader('me');
    await reader.whenConnected();
    const calls = await reader.read([WORK], 10, 0);
    const outcomes = calls.map(({ entryId }, index) => ({
      ...{ ref: WORK, entryId, callId: 'abc'[index] ?? '', replyTo: 'stranger' },
      ...{ kind: 'settle' as const, reply: `{"k":"r","d":${index}}` },
    }));
    const pending = async (): Promise<string[]> =>
      ((await fleet.redis.xpending(key('calls'), 'workers', '-', '+', 10)) as string[][]).map(
        ([id, consumer]) => `${id} ${consumer}`,
      );
    const all = calls.map(({ entryId }) => `${entryId} me`);
    expect(await pending()).toEqual(all);
    // A stream to which nothing can be added any more.
    await fleet.redis.call('XSETID', replies, '18446744073709551615-18446744073709551615');
    const refused = await backend.calls.conclude(outcomes, 'me');
    expect(refused).toMatchObject({ lost: [], again: [0, 1, 2] });
    expect(refused.why).toMatch(/exhausted/);
    expect(await pending()).toEqual(all);
    // The second is handed over meanwhile.
    await fleet.redis.xdel(key('calls'), calls[1]?.entryId ?? '');
    await fleet.redis.xack(key('calls'), 'workers', calls[1]?.entryId ?? '');
    const again = await backend.calls.conclude(outcomes, 'me');
    expect(again).toMatchObject({ lost: [1], again: [0, 2] });
    expect(await pending()).toEqual([all[0], all[2]]);
    await fleet.redis.del(replies);
    await fleet.redis.xgroup('CREATE', replies, 'keeper', '0', 'MKSTREAM');
    await expect(backend.calls.conclude(outcomes, 'me')).resolves.toMatchObject({
      lost: [1],
      again: [],
    });
    const told = await fleet.redis.xrange(replies, '-', '+');
    expect(told.map(([, fields]) => fields)).toEqual([
      ['r', 'a\t{"k":"r","d":0}\nc\t{"k":"r","d":2}'],
    ]);
    expect(await fleet.redis.xlen(key('calls'))).toBe(0);
    expect(await pending()).toEqual([]);
    await reader.close();
  });
});

describe('the dead letters of a function', () => {
  it('are cut when a call is added whose retries are exhausted', async () => {
    const fail = (): never => {
      throw new Error('no');
    };
    const retry = { maxAttempts: 2, backoffMs: 1 };
    const app = await fleet.start({ providers: [hosting({ name: 'work', retry }, fail)] });
    await fill(key('dead'), 12_000);
    await expect(app.get(EnhancedFunctionRegistry).call('work')).rejects.toThrow('no');
    expect(await fleet.redis.xlen(key('dead'))).toBeLessThanOrEqual(CAPPED);
    const [last] = await fleet.redis.xrevrange(key('dead'), '+', '-', 'COUNT', 1);
    expect(last?.[1]).toContain('RETRIES_EXHAUSTED');
  });

  it('are cut when a call is added that lost its workers', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options: { workerId: 'w' } });
    const outcome = app.get(EnhancedFunctionRegistry).call('work');
    outcome.catch(() => undefined);
    await stage.started();
    await fill(key('dead'), 12_000);
    const lost = { kind: 'lost', maxDeliveries: 1 } as const;
    await backendOf(app).calls.release(WORK, await sessionOf('w'), lost);
    await expect(outcome).rejects.toMatchObject({ code: 'MAX_DELIVERIES' });
    expect(await fleet.redis.xlen(key('dead'))).toBeLessThanOrEqual(CAPPED);
    stage.finishAll();
  });
});

describe('a worker’s record', () => {
  it('is not removed for a session that does not own it any more', async () => {
    const app = await fleet.start({
      providers: [hosting('work', () => 'done')],
      options: { workerId: 'w' },
    });
    const news = await News.listen(redisUrl(), fleet.prefix, News.channelsOf('work'));
    const { workers } = backendOf(app);
    const before = await fleet.redis.hget(key('workers'), 'w');
    const old = { sessionId: 'a-session-of-before' };
    await expect(workers.unregister(WORK, 'w', old, 'process_died')).resolves.toBe(false);
    expect(await fleet.redis.hget(key('workers'), 'w')).toBe(before);
    await expect(
      workers.unregister(WORK, 'w', { sessionId: await sessionOf('w') }, 'process_died'),
    ).resolves.toBe(true);
    await news.next('offline');
    expect(news.of('offline')).toHaveLength(1);
    news.close();
  });
});

describe('a call that is handed back while others of its worker run', () => {
  it('takes none of them away from it', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options: { workerId: 'w' } });
    const registry = app.get(EnhancedFunctionRegistry);
    const outcomes = [1, 2].map((n) => registry.call('work', { n }));
    await stage.started(2);
    const session = await sessionOf('w');
    const [entry] = await fleet.redis.xrange(key('calls'), '-', '+');
    const released = await backendOf(app).calls.release(WORK, session, {
      kind: 'handed-back',
      entries: [{ entryId: entry?.[0] ?? '', started: true }],
    });
    expect(released.requeued).toBe(1);
    // It came back to the same worker, the only one.
    await stage.started(3);
    stage.finishAll('done');
    await expect(Promise.all(outcomes)).resolves.toEqual(['done', 'done']);
    await eventually('nothing is left', async () => (await fleet.redis.xlen(key('calls'))) === 0);
  });
});

describe('a session that was seen without its presence', () => {
  it('is not condemned when it is back before the verdict', async () => {
    const app = await fleet.start({
      providers: [hosting('work', () => 'done')],
      options: { workerId: 'w' },
    });
    const session = await sessionOf('w');
    const { fleet: store } = backendOf(app);
    await expect(store.condemn(session, 'presence')).resolves.toBeUndefined();
    expect(await fleet.redis.hget(`${fleet.prefix}nf:processes`, session)).toBe('present');
    await expect(app.get(EnhancedFunctionRegistry).call('work')).resolves.toBe('done');
  });

  it('is condemned when it is still gone', async () => {
    const app = await fleet.start({ options: { worker: false } });
    await fleet.redis.hset(`${fleet.prefix}nf:processes`, 'ghost', 'present');
    const { fleet: store } = backendOf(app);
    await expect(store.condemn('ghost', 'presence')).resolves.toEqual([]);
  });
});
