import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { CapturedLog } from '../harness/captured-log.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

let fleet: Fleet;
let app: INestApplicationContext;
let seen: unknown[];

beforeEach(async () => {
  fleet = new Fleet();
  seen = [];
  app = await fleet.start({
    providers: [
      hosting({ name: 'work', concurrency: 2 }, (input) => {
        seen.push(input);
        return { echo: input };
      }),
    ],
    options: { maxPayloadBytes: 10_000 },
  });
});
afterEach(() => fleet.close());

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;
const replyStream = (): string => `${fleet.prefix}nf:process:{stranger}:replies`;

/** Writes an entry, and waits until it is dealt with. */
async function write(fields: readonly string[]): Promise<void> {
  await fleet.redis.xadd(calls(), '*', ...fields);
  await eventually('the entry is dealt with', async () => (await fleet.redis.xlen(calls())) === 0);
}

/** Writes an entry whose writer has a reply stream; the reply's envelope. */
async function writeAndRead(fields: readonly string[]): Promise<Record<string, unknown>> {
  await fleet.redis.xgroup('CREATE', replyStream(), 'keeper', '0', 'MKSTREAM');
  await write(fields);
  const [entry] = await fleet.redis.xrange(replyStream(), '-', '+');
  return JSON.parse(entry?.[1][1] ?? '{}') as Record<string, unknown>;
}

/** The worker is not stuck: it runs what comes next. */
async function expectAlive(): Promise<void> {
  const registry = app.get(EnhancedFunctionRegistry);
  const results = await Promise.all([1, 2, 3].map((n) => registry.call('work', { n })));
  expect(results).toEqual([1, 2, 3].map((n) => ({ echo: { n } })));
}

const payload = '{"p":{},"i":null}';
const addressed = ['i', 'call-1', 'r', 'stranger'];
const complete = ['v', '1', ...addressed, 't', '60000'];

describe('an entry on the call stream that was written by hand', () => {
  it('runs when it is complete, and its writer finds the reply', async () => {
    const reply = await writeAndRead([...complete, 'p', '{"p":{"n":1},"i":null}']);
    expect(reply).toMatchObject({ k: 'r', d: { echo: { n: 1 } } });
  });

  it.each<[string, string[]]>([
    ['has none of the fields', ['hello', 'world']],
    ['has no version', [...addressed, 't', '60000', 'p', payload]],
    ['has a version of the future', ['v', '2', ...addressed, 't', '60000', 'p', payload]],
    ['has no call id', ['v', '1', 'r', 'stranger', 't', '60000', 'p', payload]],
    ['has an empty call id', ['v', '1', 'i', '', 'r', 'stranger', 't', '60000', 'p', payload]],
    ['has nowhere to reply to', ['v', '1', 'i', 'call-1', 't', '60000', 'p', payload]],
    ['replies to a foreign key', ['v', '1', 'i', 'x', 'r', 'a}:b', 't', '60000', 'p', payload]],
    ['has no time to live', ['v', '1', ...addressed, 'p', payload]],
    ['has a time to live of words', ['v', '1', ...addressed, 't', 'soon', 'p', payload]],
    ['has an endless time to live', ['v', '1', ...addressed, 't', '1e400', 'p', payload]],
    ['has no payload', [...complete]],
    ['has an attempt of words', [...complete, 'p', payload, 'a', 'first']],
    ['has a negative attempt', [...complete, 'p', payload, 'a', '-1']],
    ['has an origin of words', [...complete, 'p', payload, 'o', 'yesterday']],
    ['has a payload that is not JSON', [...complete, 'p', '{"p":']],
    ['has a payload that is an array', [...complete, 'p', '[]']],
    ['has a payload with __proto__', [...complete, 'p', '{"p":{"__proto__":{"x":1}},"i":null}']],
    [
      'has a payload with an escaped __proto__',
      [...complete, 'p', '{"p":{"\\u005f_proto__":{"x":1}},"i":null}'],
    ],
    ['has a payload above the limit', [...complete, 'p', `{"p":{"x":"${'x'.repeat(20_000)}"}}`]],
    ['has a field of 5 MB', [...complete, 'x', 'y'.repeat(5_000_000)]],
    ['has ten thousand fields', Array.from({ length: 20_000 }, (_, n) => `f${n}`)],
    ['is long over', [...complete, 'p', payload, 'o', '1000']],
  ])('is dropped or refused, and stops nobody, when it %s', async (_what, fields) => {
    await write(fields);
    await expectAlive();
    expect(seen).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
    expect(await fleet.redis.exists(replyStream())).toBe(0);
  });

  it.each<[string, string[], string]>([
    ['of another version', ['v', '2', ...addressed, 't', '1', 'p', payload], 'MALFORMED_CALL'],
    ['without a payload', [...complete], 'MALFORMED_CALL'],
    ['whose payload is not JSON', [...complete, 'p', '{'], 'MALFORMED_CALL'],
    ['that is over', [...complete, 'p', payload, 'o', '1000'], 'DEADLINE_EXCEEDED'],
  ])('%s gets a typed answer where its writer can be told', async (_what, fields, code) => {
    expect(await writeAndRead(fields)).toMatchObject({ k: 'e', e: { code } });
    await expectAlive();
  });

  it('cannot write a line of its own into the log with its id', async () => {
    const log = new CapturedLog();
    const forged = `x\n[Nest] FORGED ${'S'.repeat(100_000)}`;
    await write(['v', '1', 'i', forged, 'r', 'stranger', 't', '60000', 'p', payload]);
    await expectAlive();
    log.release();
    expect(log.lines.length).toBeGreaterThan(0);
    for (const { text } of log.lines) {
      expect(text).not.toContain('FORGED');
      expect(text.length).toBeLessThan(500);
    }
    expect(seen).not.toContainEqual({});
  });

  it('does not hold up the entries between which it stands', async () => {
    const fleetCalls = Array.from({ length: 40 }, (_, n) => ({ n }));
    const registry = app.get(EnhancedFunctionRegistry);
    const results = await Promise.all(
      fleetCalls.map(async (input) => {
        await fleet.redis.xadd(calls(), '*', 'junk', 'x');
        return registry.call('work', input);
      }),
    );
    expect(results).toEqual(fleetCalls.map((input) => ({ echo: input })));
    await eventually('all is removed', async () => (await fleet.redis.xlen(calls())) === 0);
  });
});

describe('an entry on a reply stream that was written by hand', () => {
  async function ownReplies(): Promise<string> {
    await app.get(EnhancedFunctionRegistry).call('work');
    const key = (await fleet.keys()).find((name) => name.endsWith(':replies'));
    return key ?? '';
  }

  it.each<[string, string[]]>([
    ['to no call of this process', [randomUUID(), '{"k":"r","d":1}']],
    ['that is not JSON', ['x', '{']],
    ['of several fields', ['a', '1', 'b', '2', 'c', '{"k":"e"}']],
    ['with __proto__', ['__proto__', '{"k":"r","d":{"__proto__":{"x":1}}}']],
    ['of 2 MB', ['x', `{"k":"r","d":"${'y'.repeat(2_000_000)}"}`]],
  ])('%s is dropped, and later replies arrive', async (_what, fields) => {
    await fleet.redis.xadd(await ownReplies(), '*', ...fields);
    await expectAlive();
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });

  it.each(['{', '[]', '"r"', '{"k":"?"}', '{"d":1}', '{"k":"r","d":{"__proto__":1}}'])(
    'that claims to answer a call with %s does not settle it',
    async (text) => {
      const replies = await ownReplies();
      const { redis } = fleet;
      const worker = await fleet.start({
        providers: [
          hosting('slow', async (_input, { callId }) => {
            await redis.xadd(replies, '*', callId, text);
            return 'the true one';
          }),
        ],
      });
      expect(worker).toBeDefined();
      await expect(app.get(EnhancedFunctionRegistry).call('slow')).resolves.toBe('the true one');
    },
  );

  it('with an error without a message is a typed error all the same', async () => {
    const replies = await ownReplies();
    const { redis } = fleet;
    await fleet.start({
      providers: [
        hosting('slow', async (_input, { callId }) => {
          await redis.xadd(replies, '*', callId, '{"k":"e"}');
        }),
      ],
    });
    await expect(app.get(EnhancedFunctionRegistry).call('slow')).rejects.toMatchObject({
      code: 'HANDLER_FAILED',
    });
  });
});
