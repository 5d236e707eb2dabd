import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { splitReplies } from '../../src/protocol/call.js';
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
  return JSON.parse(splitReplies(entry?.[1][1] ?? '')[0]?.reply ?? '') as Record<string, unknown>;
}

/** The worker is not stuck: it runs what comes next. */
async function expectAlive(): Promise<void> {
  const registry = app.get(EnhancedFunctionRegistry);
  const results = await Promise.all([1, 2, 3].map((n) => registry.call('work', { n })));
  expect(results).toEqual([1, 2, 3].map((n) => ({ echo: { n } })));
}

const payload = '{"p":{},"i":null}';
const call = (text: string): string[] => ['c', `1 60000  stranger call-1\t${text}`];

describe('an entry on the call stream that was written by hand', () => {
  it('runs when it is complete, and its writer finds the reply', async () => {
    const reply = await writeAndRead([...call('{"p":{"n":1},"i":null}')]);
    expect(reply).toMatchObject({ k: 'r', d: { echo: { n: 1 } } });
  });

  it.each<[string, string[]]>([
    ['has none of the fields', ['hello', 'world']],
    ['has no call', ['p', payload]],
    ['has an empty call', ['c', '']],
    ['has no head', ['c', `\t${payload}`]],
    ['has no version', ['c', ` 60000  stranger call-1\t${payload}`]],
    ['has a version of the future', ['c', `2 60000  stranger call-1\t${payload}`]],
    ['has no call id', ['c', `1 60000  stranger\t${payload}`]],
    ['has an empty call id', ['c', `1 60000  stranger \t${payload}`]],
    ['has nowhere to reply to', ['c', `1 60000  call-1\t${payload}`]],
    ['replies to a foreign key', ['c', `1 60000  a}:b x\t${payload}`]],
    ['has no time to live', ['c', `1   stranger call-1\t${payload}`]],
    ['has a time to live of words', ['c', `1 soon  stranger call-1\t${payload}`]],
    ['has an endless time to live', ['c', `1 1e400  stranger call-1\t${payload}`]],
    ['was sent at a time of words', ['c', `1 60000 now stranger call-1\t${payload}`]],
    ['has no payload', ['c', '1 60000  stranger call-1']],
    ['has an attempt of words', [...call(payload), 'a', 'first']],
    ['has a negative attempt', [...call(payload), 'a', '-1']],
    ['has an origin of words', [...call(payload), 'o', 'yesterday']],
    ['has a payload that is not JSON', call('{"p":')],
    ['has a payload that is an array', call('[]')],
    ['has a payload with __proto__', call('{"p":{"__proto__":{"x":1}},"i":null}')],
    ['has a payload with an escaped __proto__', call('{"p":{"\\u005f_proto__":{"x":1}},"i":null}')],
    ['has a payload above the limit', call(`{"p":{"x":"${'x'.repeat(20_000)}"}}`)],
    ['has a field of 5 MB', ['c', '1 60000  stranger call-1', 'x', 'y'.repeat(5_000_000)]],
    ['has ten thousand fields', Array.from({ length: 20_000 }, (_, n) => `f${n}`)],
    ['is long over', [...call(payload), 'o', '1000']],
  ])('is dropped or refused, and stops nobody, when it %s', async (_what, fields) => {
    await write(fields);
    await expectAlive();
    expect(seen).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
    expect(await fleet.redis.exists(replyStream())).toBe(0);
  });

  it.each<[string, string[], string]>([
    ['of another version', ['c', `3 60000  stranger call-1\t${payload}`], 'MALFORMED_CALL'],
    ['without a payload', ['c', '1 60000  stranger call-1'], 'MALFORMED_CALL'],
    ['whose payload is not JSON', call('{'), 'MALFORMED_CALL'],
    ['that is over', [...call(payload), 'o', '1000'], 'DEADLINE_EXCEEDED'],
  ])('%s gets a typed answer where its writer can be told', async (_what, fields, code) => {
    expect(await writeAndRead(fields)).toMatchObject({ k: 'e', e: { code } });
    await expectAlive();
  });

  it('cannot write a line of its own into the log with its id', async () => {
    const log = new CapturedLog();
    const forged = `x\n[Nest] FORGED ${'S'.repeat(100_000)}`;
    await write(['c', `1 60000  stranger ${forged}\t${payload}`]);
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
    ['to no call of this process', ['r', `${randomUUID()}\t{"k":"r","d":1}`]],
    ['to no call at all', ['r', '{"k":"r","d":1}']],
    ['that is empty', ['r', '']],
    ['that is not JSON', ['r', 'x\t{']],
    ['of other fields', ['a', '1', 'b', '2', 'c', '{"k":"e"}']],
    ['of several lines', ['r', '\n\na\t1\n\t\t\nb']],
    ['with __proto__', ['r', '__proto__\t{"k":"r","d":{"__proto__":{"x":1}}}']],
    ['of 2 MB', ['r', `x\t{"k":"r","d":"${'y'.repeat(2_000_000)}"}`]],
    ['of 100,000 lines', ['r', 'x\t{}\n'.repeat(100_000)]],
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
            await redis.xadd(replies, '*', 'r', `${callId}\t${text}`);
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
          await redis.xadd(replies, '*', 'r', `${callId}\t{"k":"e"}`);
        }),
      ],
    });
    await expect(app.get(EnhancedFunctionRegistry).call('slow')).rejects.toMatchObject({
      code: 'HANDLER_FAILED',
    });
  });
});
