/**
 * What adding and settling calls takes of Redis: `node --import ./tools/register-ts.mjs test/backend/price.ts`. 64 calls
 * of one tick, to as many functions of 1,000 with a bell whose process offers to take them, and to one function without.
 * With BASELINE=folder of another checkout, that one's scripts take turns with these.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Redis } from 'ioredis';
import { encodeCall, encodeReplies, encodeResult } from '../../src/protocol/call.js';
import { functionRef, type FunctionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import type * as library from '../../src/backend/redis/scripts.js';
import { startRedis } from '../../tools/redis.mjs';

const CALLS = 64;
const BATCHES = 16;
const ROUNDS = 40;
const SESSION = 'worker-1.1';
const POOL = 'pool';

type Scripts = typeof library.scripts;
type Script = Scripts['submit'];

const server = await startRedis();
const redis = new Redis(server.url);
const keys = new Keys('price:');
const lone = [functionRef('lone', 'default')];
const many = Array.from({ length: 1_000 }, (_, n) => functionRef(`f${n}`, 'default'));
let made = 0;

async function prepare(): Promise<void> {
  for (const ref of [...lone, ...many])
    await redis.xgroup('CREATE', keys.calls(ref), 'workers', '$', 'MKSTREAM');
  for (const ref of many) await redis.sadd(keys.bells(ref), `${keys.prefix}nf:pool:{${POOL}}`);
  await redis.xgroup('CREATE', keys.replies('caller'), 'keeper', '$', 'MKSTREAM');
}

/** Microseconds that Redis says the script took, and its answer. */
async function timed(
  { sha, lua }: Script,
  on: readonly string[],
  args: readonly (string | number)[],
): Promise<[number, unknown]> {
  await redis.script('LOAD', lua);
  await redis.config('RESETSTAT');
  const answer = await redis.evalsha(sha, on.length, ...on, ...args);
  const usec = /cmdstat_evalsha:calls=1,usec=(\d+)/.exec(await redis.info('commandstats'))?.[1];
  return [Number(usec), answer];
}

function callText(): string {
  made += 1;
  return encodeCall({
    callId: String(made).padStart(32, 'a'),
    replyTo: 'caller',
    ttlMs: 60_000,
    sentAt: undefined,
    delivery: 'at-least-once',
    again: false,
    bound: false,
    payload: JSON.stringify({ p: { text: 'x'.repeat(80) }, i: null }),
  });
}

/** Adds and settles a tick's calls; microseconds of each. */
async function batch({ submit, settle }: Scripts, refs: readonly FunctionRef[]): Promise<number[]> {
  const texts = Array.from({ length: CALLS }, callText);
  const gives = refs.length > 1;
  if (gives)
    await redis.zadd(keys.poolOffers(POOL), (Date.now() + 5_000 + 0.125).toFixed(4), SESSION);
  const [before = '', after = ''] = keys.given('\0').split('\0');
  const streams = refs.map((ref) => keys.calls(ref));
  const [added, ids] = await timed(submit, streams, [
    ...[10_000, 'workers', gives ? 1 : 0, before, after],
    ...(gives ? texts : [texts.join('\n')]),
  ]);
  const given = await redis.lpop(keys.given(SESSION));
  if (gives && given?.split('\n').length !== CALLS) throw new Error('not all calls were given');
  if (!gives)
    await redis.xreadgroup(
      'GROUP',
      'workers',
      SESSION,
      'COUNT',
      CALLS,
      'STREAMS',
      streams[0] as string,
      '>',
    );
  const replies = texts.map((text) => ({
    callId: /(\S+)\t/.exec(text)?.[1] ?? '',
    reply: encodeResult('1', 'w'),
  }));
  const entryIds = gives
    ? (ids as string[])
    : (await redis.xrange(streams[0] as string, '-', '+')).map(([id]) => id);
  const parts = gives ? entryIds.flatMap((id) => [1, id]) : [CALLS, ...entryIds];
  const [settled, problem] = await timed(
    settle,
    [keys.replies('caller'), ...streams],
    ['workers', SESSION, refs.length, encodeReplies(replies), ...parts],
  );
  if (problem !== null) throw new Error(JSON.stringify(problem));
  await redis.xtrim(keys.replies('caller'), 'MAXLEN', 0);
  return [added, settled];
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

const folders = ['.', process.env['BASELINE'] ?? []].flat();
const versions = await Promise.all(
  folders.map(async (folder) => {
    const url = pathToFileURL(resolve(folder, 'src/backend/redis/scripts.ts')).href;
    return { folder, scripts: ((await import(url)) as typeof library).scripts };
  }),
);
await prepare();
for (const [what, pick] of [
  ['one function', () => lone],
  ['64 of 1,000 functions', (turn: number) => many.slice(turn * CALLS).slice(0, CALLS)],
] as const) {
  const figures = new Map(versions.map(({ folder }) => [folder, [[], []] as [number[], number[]]]));
  for (let round = 0; round < ROUNDS; round += 1)
    for (const { folder, scripts } of versions) {
      const sums = [0, 0];
      for (let turn = 0; turn < BATCHES - 1; turn += 1)
        for (const [index, usec] of (await batch(scripts, pick(turn))).entries())
          sums[index] = (sums[index] ?? 0) + usec / (BATCHES - 1) / CALLS;
      // The first rounds warm up.
      if (round > 4)
        for (const [index, sum] of sums.entries()) figures.get(folder)?.[index]?.push(sum);
    }
  for (const [folder, [added, settled]] of figures)
    console.log(
      `${what}, ${folder}: ${median(added).toFixed(2)} us a call to add, ${median(settled).toFixed(2)} to settle`,
    );
}
redis.disconnect();
await server.stop();
