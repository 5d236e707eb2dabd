import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Redis } from 'ioredis';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

// Its own: these tests make it refuse.
let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(() => {
  fleet = new Fleet(server.url);
});
afterEach(() => fleet.close());

const calls = (name: string): string => `${fleet.prefix}nf:{${name}:default}:calls`;
const LONG = { timeoutMs: 15_000 };

async function staged(): Promise<{ stage: Stage; app: INestApplicationContext }> {
  const stage = new Stage();
  const app = await fleet.start({ providers: [stage.as('work'), hosting('other', () => 'other')] });
  await app.get(EnhancedFunctionRegistry).call('other');
  return { stage, app };
}

/** Ways in which Redis refuses what it is told, and how it gives in again. */
const REFUSALS: [string, () => Promise<void>, () => Promise<void>][] = [
  [
    'is read-only',
    async () => void (await fleet.redis.replicaof('127.0.0.1', 1)),
    async () => void (await fleet.redis.replicaof('NO', 'ONE')),
  ],
  [
    'is out of memory',
    async () => void (await fleet.redis.config('SET', 'maxmemory', '1')),
    async () => void (await fleet.redis.config('SET', 'maxmemory', '0')),
  ],
];

describe.each(REFUSALS)('an outcome that comes while Redis %s', (_, refuse, giveIn) => {
  it('is written when it gives in, and its call runs once', async () => {
    const { stage, app } = await staged();
    const call = app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { ...LONG, delivery: 'at-most-once' });
    const run = await stage.started();
    await refuse();
    run.outcome.resolve('the only result');
    await expect(fleet.redis.xlen(calls('work'))).resolves.toBe(1);
    await giveIn();
    await expect(call).resolves.toBe('the only result');
    expect(stage.runs).toHaveLength(1);
    await eventually('nothing is left', async () => (await fleet.redis.xlen(calls('work'))) === 0);
  });

  it('is written when it gives in, although the handler has gone on since context.return()', async () => {
    const { stage, app } = await staged();
    const call = app.get(EnhancedFunctionRegistry).call('work', {}, LONG);
    const run = await stage.started();
    await refuse();
    run.context.return('early');
    run.outcome.resolve('ignored');
    await fleet.redis.ping();
    await giveIn();
    await expect(call).resolves.toBe('early');
    expect(stage.runs).toHaveLength(1);
  });
});

describe('an outcome that comes while Redis is busy with a script', () => {
  it('is written afterwards, and its call does not run again when the read is connected anew', async () => {
    const { stage, app } = await staged();
    const call = app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { ...LONG, delivery: 'at-most-once' });
    const run = await stage.started();
    await fleet.redis.config('SET', 'busy-reply-threshold', '10');
    const busy = new Redis(server.url);
    const script = busy.eval('while true do end', 0).catch(() => undefined);
    await eventually('Redis is busy', async () => {
      await expect(fleet.redis.ping()).rejects.toThrow('BUSY');
    });
    run.outcome.resolve('the only result');
    await new Promise(setImmediate);
    await fleet.redis.script('KILL');
    await script;
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'yes');
    await expect(call).resolves.toBe('the only result');
    expect(stage.runs).toHaveLength(1);
    busy.disconnect();
  });
});

describe('outcomes of one tick', () => {
  it('do not depend on each other: a group that was deleted costs no other call its answer', async () => {
    const [one, two] = [new Stage(), new Stage()];
    const app = await fleet.start({
      providers: [one.as({ name: 'a', concurrency: 1 }), two.as('b')],
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const both = [registry.call('a', {}, LONG), registry.call('b', {}, LONG)];
    const [a, b] = [await one.started(), await two.started()];
    await fleet.redis.xgroup('DESTROY', calls('a'), 'workers');
    b.outcome.resolve('of b');
    a.context.return('of a');
    a.outcome.resolve('ignored');
    await expect(Promise.all(both)).resolves.toEqual(['of a', 'of b']);
  });

  it('remove a call whose group was deleted while it ran: it is not delivered again', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as({ name: 'work', concurrency: 1 })] });
    const call = app.get(EnhancedFunctionRegistry).call('work', {}, LONG);
    const run = await stage.started();
    await fleet.redis.xgroup('DESTROY', calls('work'), 'workers');
    run.outcome.resolve('once');
    await expect(call).resolves.toBe('once');
    await expect(
      app.get(EnhancedFunctionRegistry).call('work', {}, { timeoutMs: 1 }),
    ).rejects.toThrow();
    expect(stage.runs.length).toBeLessThanOrEqual(2);
    stage.finishAll();
  });
});

describe('an answer of a process that was declared dead', () => {
  it.each(['the end', 'context.return()'])('does not reach the caller: %s', async (kind) => {
    const { stage, app } = await staged();
    const call = app.get(EnhancedFunctionRegistry).call('work', {}, LONG);
    const run = await stage.started();
    // Handed over by somebody else, and this process does not know yet.
    const sessions = await fleet.redis.hkeys(`${fleet.prefix}nf:processes`);
    const pending = (await fleet.redis.xpending(calls('work'), 'workers', '-', '+', 1)) as [
      string,
    ][];
    await fleet.redis.xack(calls('work'), 'workers', pending[0]?.[0] ?? '');
    await fleet.redis.xdel(calls('work'), pending[0]?.[0] ?? '');
    expect(sessions).toHaveLength(1);
    if (kind === 'the end') run.outcome.resolve('of the lost owner');
    else run.context.return('of the lost owner');
    const late = new AbortController();
    const waiting = Promise.race([
      call.catch((error: unknown) => error),
      app
        .get(EnhancedFunctionRegistry)
        .call('other')
        .then(() => 'nothing came'),
    ]);
    await expect(waiting).resolves.toBe('nothing came');
    late.abort();
    await condemnAll(fleet);
    run.outcome.resolve('end');
  });
});

describe('a reply stream that is full of progress', () => {
  it('takes no more of it, and every answer', async () => {
    const { stage, app } = await staged();
    const heard: unknown[] = [];
    const call = app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { ...LONG, onProgress: (value) => heard.push(value) });
    const run = await stage.started();
    const [replies = ''] = (await fleet.keys()).filter((key) => key.endsWith(':replies'));
    const fill = fleet.redis.multi();
    for (let n = 0; n < 10_000; n += 1) fill.xadd(replies, '*', 'r', 'nobody\t{"k":"p","d":1}');
    await fill.exec();
    run.context.progress('dropped, or not');
    run.outcome.resolve('the answer');
    await expect(call).resolves.toBe('the answer');
    expect(heard.length).toBeLessThanOrEqual(1);
  });
});

describe('a key of calls that holds something else', () => {
  it('stops its function, not the others, and its function goes on when it is deleted', async () => {
    const app = await fleet.start({
      providers: [hosting('good', () => 'good'), hosting('bad', () => 'bad')],
      options: { leaseMs: 400 },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    await expect(registry.call('bad')).resolves.toBe('bad');
    await fleet.redis.set(calls('bad'), 'not a stream');
    await expect(registry.call('good', {}, LONG)).resolves.toBe('good');
    await expect(registry.call('good', {}, LONG)).resolves.toBe('good');
    await fleet.redis.del(calls('bad'));
    await eventually('it is read again', async () => {
      await expect(registry.call('bad', {}, { timeoutMs: 500 })).resolves.toBe('bad');
    });
  });
});

describe('a call that Redis executes late', () => {
  it('does not start when its caller has given up meanwhile', async () => {
    const { stage, app } = await staged();
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.waitForFunction('work', 'default', 10_000);
    await fleet.redis.client('PAUSE', 1_500, 'ALL');
    const call = registry.call('work', {}, { timeoutMs: 300 });
    await expect(call).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    await expect(registry.call('other', {}, LONG)).resolves.toBe('other');
    expect(stage.runs).toHaveLength(0);
  });
});
