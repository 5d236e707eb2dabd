import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import type { Outcome, Submission } from '../../src/backend/call-streams.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { encodeResult, partsOf } from '../../src/protocol/call.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { eventually } from '../harness/eventually.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';

const WORK = functionRef('work', 'default');
const KEYS = new Keys('large:');
const TERMS = { maxBacklog: 1_000 };
const CONSUMER = 'w.1';
/** Two of them are more than one script carries. */
const LARGE = 9 * 1024 * 1024;
const SMALL = 10;

/** What is too much for one script goes as several, each within what Redis takes. */
describe('a batch that is too large for one script', () => {
  // One of its own: what it executes is counted.
  let server: StartedRedis;
  let redis: Redis;
  let backend: RedisBackend;

  beforeEach(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
    backend = new RedisBackend(server.url, KEYS);
    backend.start();
    await eventually('it is connected', () => backend.isConnected());
  });
  afterEach(async () => {
    redis.disconnect();
    await backend.close();
    await server.stop();
  });

  /** How many scripts are run for it. */
  async function scriptsOf(work: () => Promise<unknown>): Promise<number> {
    const count = async (): Promise<number> => {
      const stats = await redis.info('commandstats');
      return ['eval', 'evalsha']
        .map((name) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0))
        .reduce((sum, calls) => sum + calls);
    };
    const before = await count();
    await work();
    return (await count()) - before;
  }

  const call = (callId: string, length: number): Submission => ({
    ref: WORK,
    callId,
    replyTo: 'caller',
    ttlMs: 60_000,
    sentAt: undefined,
    delivery: 'at-least-once',
    payload: `{"p":{"text":"${'x'.repeat(length)}"},"i":null}`,
    again: false,
    idempotencyKey: undefined,
  });

  it.each([
    ['every large call by itself', [LARGE, LARGE, LARGE], 3],
    ['small ones with the large one before them', [SMALL, LARGE, SMALL, LARGE, SMALL], 2],
  ])(
    'is submitted, and answered, as several: %s',
    async (_title, lengths, scripts) => {
      const { calls } = backend;
      await calls.ensureGroups([WORK], CONSUMER);
      const replies = calls.openReplies('caller');
      await replies.whenConnected();
      await replies.ensure();
      // Known to the server: the first run of a script is two commands.
      const submit = (...all: Submission[]): Promise<unknown> => calls.submit(all, TERMS);
      // Not as a lone call, which would be looked at later, by one more script.
      for (const callId of ['unknown', 'first'])
        await submit({ ...call(callId, SMALL), again: true });
      const reader = calls.openReader(CONSUMER);
      await reader.whenConnected();
      const conclude = (outcomes: readonly Outcome[]): Promise<unknown> =>
        calls.conclude(outcomes, CONSUMER);
      const settle = (length: number, entryId: string, callId: string): Outcome => ({
        ...{ ref: WORK, entryId, callId, replyTo: 'caller', kind: 'settle' },
        reply: encodeResult(`"${'y'.repeat(length)}"`, 'w'),
      });
      for (const callId of ['unknown', 'first']) {
        const [read] = await reader.read([WORK], 1, 0);
        await conclude([settle(SMALL, read?.entryId ?? '', callId)]);
      }

      const all = lengths.map((length, index) => call(`c${index}`, length));
      expect(await scriptsOf(() => submit(...all))).toBe(scripts);
      const read = [];
      while (read.length < all.length) read.push(...(await reader.read([WORK], 1, 1_000)));
      expect(read.map(({ fields }) => partsOf(fields).callId)).toEqual(
        all.map(({ callId }) => callId),
      );

      const outcomes = read.map(({ entryId }, index) =>
        settle(lengths[index] ?? 0, entryId, `c${index}`),
      );
      expect(await scriptsOf(() => conclude(outcomes))).toBe(scripts);
      expect(await redis.xlen(KEYS.calls(WORK))).toBe(0);
      const answers = new Map<string, number>();
      while (answers.size < all.length + 2)
        for (const { callId, reply } of await replies.read(1_000))
          answers.set(callId, reply.length);
      expect([...answers.keys()]).toEqual([
        ...['unknown', 'first'],
        ...all.map(({ callId }) => callId),
      ]);
      for (const [index, length] of lengths.entries())
        expect(answers.get(`c${index}`)).toBeGreaterThanOrEqual(length);
      await reader.close();
      await replies.close();
    },
    60_000,
  );
});
