/**
 * What adding, delivering and settling calls takes of Redis: `node --import ./tools/register-ts.mjs test/backend/price.ts`.
 * 64 calls of one tick to one function, which is read directly; to as many functions of 1,000 with a bell, given to a
 * process that offers to take them; and to as many, when nobody offers, taken from their streams after the bell.
 */
import { Redis } from 'ioredis';
import { encodeCall, encodeReplies, encodeResult } from '../../src/protocol/call.js';
import { functionRef, type FunctionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { scripts, type Script } from '../../src/backend/redis/scripts.js';
import { startRedis } from '../../tools/redis.mjs';

const CALLS = 64;
const BATCHES = 16;
const ROUNDS = 40;
const SESSION = 'worker-1.1';
const POOL = 'pool';

type Read = [[key: string, entries: [id: string, fields: string[]][]]];

/** Microseconds of Redis. */
interface Price {
  readonly add: number;
  readonly deliver: number;
  readonly settle: number;
}

const server = await startRedis();
const redis = new Redis(server.url);
const keys = new Keys('price:');
const lone = functionRef('lone', 'default');
const many = Array.from({ length: 1_000 }, (_, n) => functionRef(`f${n}`, 'default'));
let made = 0;

async function prepare(): Promise<void> {
  for (const ref of [lone, ...many])
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

/** What a read takes, as Redis says. */
async function timedRead(streams: readonly string[]): Promise<[number, Read]> {
  await redis.config('RESETSTAT');
  const read = (await redis.xreadgroup(
    'GROUP',
    'workers',
    SESSION,
    'COUNT',
    CALLS,
    'STREAMS',
    ...streams,
    ...streams.map(() => '>'),
  )) as Read;
  const usec = /cmdstat_xreadgroup:calls=1,usec=(\d+)/.exec(await redis.info('commandstats'))?.[1];
  return [Number(usec), read];
}

function answersTo(texts: readonly string[]): string {
  return encodeReplies(
    texts.map((text) => ({
      callId: /(\S+)\t/.exec(text)?.[1] ?? '',
      reply: encodeResult('1', 'w'),
    })),
  );
}

/** Through one function's stream. */
async function direct(ref: FunctionRef): Promise<Price> {
  const texts = Array.from({ length: CALLS }, callText);
  const stream = keys.calls(ref);
  const [add] = await timed(scripts.submit, [stream], [10_000, texts.join('\n')]);
  const [deliver, [[, entries]]] = await timedRead([stream]);
  const ids = entries.map(([id]) => id);
  const args = ['workers', SESSION, 1, answersTo(texts), CALLS, ...ids];
  const [settle, problem] = await timed(scripts.settle, [keys.replies('caller'), stream], args);
  if (problem !== null) throw new Error(JSON.stringify(problem));
  return { add, deliver, settle };
}

/** Adds a call of each of these functions. */
async function addEach(refs: readonly FunctionRef[], texts: readonly string[]): Promise<number> {
  const parts = [keys.inbox('\0'), keys.given('\0'), `${keys.prefix}nf:{\0}:`];
  const lines = refs.map((ref, n) => `${ref.id}\t${texts[n] ?? ''}`);
  const pool = keys.pool(POOL);
  const args = [10_000, ...parts.flatMap((part) => part.split('\0')), 1, 'workers', pool, ...lines];
  const [add] = await timed(scripts.give, [], args);
  return add;
}

/** Past the functions' streams, into the inbox of who waits. */
async function given(refs: readonly FunctionRef[]): Promise<Price> {
  const texts = refs.map(callText);
  await redis.hsetnx(keys.inbox(SESSION), '#', 1);
  await redis.zadd(keys.poolOffers(POOL), (Date.now() + 5_000 + 0.125).toFixed(4), SESSION);
  const add = await addEach(refs, texts);
  const told = (await redis.lpop(keys.given(SESSION))) ?? '';
  const [head = '', ...lines] = told.split('\n');
  if (lines.length !== CALLS) throw new Error('not all calls were given');
  const [ms = '', first = ''] = head.slice(1).split('-');
  const fields = lines.map((_, n) => `${ms}-${Number(first) + n}`);
  const on = [keys.inbox(SESSION), keys.replies('caller')];
  const args = [answersTo(texts), CALLS, ...fields];
  const [settle, problem] = await timed(scripts.settleGiven, on, args);
  if (problem !== null) throw new Error(JSON.stringify(problem));
  return { add, deliver: 0, settle };
}

/** Through their streams, by the bell. */
async function rung(refs: readonly FunctionRef[]): Promise<Price> {
  const texts = refs.map(callText);
  const add = await addEach(refs, texts);
  const on = [keys.poolDue(POOL), keys.poolWake(POOL), keys.poolOffers(POOL), keys.given(SESSION)];
  const parts = keys.calls({ id: '\0', functionName: '', workflowId: '' }).split('\0');
  // More than there are: a function that may have more stays due.
  const look = ['workers', SESSION, ...parts, 2 * CALLS, CALLS, CALLS, 0];
  const [deliver, taken] = await timed(scripts.take, on, look);
  const [, , ...found] = taken as [number, string[], ...(string | [id: string, string[]][])[]];
  const [streams, sizes]: [string[], (string | number)[]] = [[], []];
  for (let at = 0; at + 1 < found.length; at += 2) {
    const ref = refs.find(({ id }) => id === found[at]) as FunctionRef;
    streams.push(keys.calls(ref));
    sizes.push(1, (found[at + 1] as [id: string, string[]][])[0]?.[0] ?? '');
  }
  const args = ['workers', SESSION, streams.length, answersTo(texts), ...sizes];
  const on2 = [keys.replies('caller'), ...streams];
  const [settle, problem] = await timed(scripts.settle, on2, args);
  if (problem !== null) throw new Error(JSON.stringify(problem));
  return { add, deliver, settle };
}

function median(values: readonly number[]): string {
  return (values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN).toFixed(2);
}

await prepare();
const some = (turn: number): FunctionRef[] => many.slice(turn * CALLS).slice(0, CALLS);
const ways: readonly (readonly [string, (turn: number) => Promise<Price>])[] = [
  ['one function', () => direct(lone)],
  ['64 of 1,000 functions, given', (turn) => given(some(turn))],
  ['64 of 1,000 functions, rung for', (turn) => rung(some(turn))],
];
const prices = new Map<string, Price[]>(ways.map(([name]) => [name, []]));
for (let round = 0; round < ROUNDS; round += 1)
  for (let turn = 0; turn < BATCHES - 1; turn += 1)
    for (const [name, way] of ways) {
      const price = await way(turn);
      await redis.xtrim(keys.replies('caller'), 'MAXLEN', 0);
      // The first rounds warm up.
      if (round > 4) prices.get(name)?.push(price);
    }
for (const [name, all] of prices) {
  const [add, deliver, settle, sum] = [
    all.map((price) => price.add / CALLS),
    all.map((price) => price.deliver / CALLS),
    all.map((price) => price.settle / CALLS),
    all.map((price) => (price.add + price.deliver + price.settle) / CALLS),
  ].map(median);
  console.log(
    `${name}: of Redis, microseconds a call, ${add} to add, ${deliver} to deliver, ${settle} to settle; ${sum} in all`,
  );
}
redis.disconnect();
await server.stop();
