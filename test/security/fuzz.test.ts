import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { uniquePrefix } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';

// Thousands of inputs, on machines that do other things too.
jest.setTimeout(120_000);

/** A command that an attacker sends; `@` stands for the key prefix, `$` for the process, `#` for its session. */
type Attack = readonly string[];

const WORK = '@nf:{work:default}';
const KEY = 'shared';

/** Texts that have broken programs. */
const nasty = fc.oneof(
  fc.constantFrom(
    ...['', ' ', '0', '-1', '1e400', '1e15', '9007199254740993', 'NaN', 'Infinity', 'null', 'true'],
    ...['[]', '{}', '"', '{', '[[', '\u0000', '💥', '\\', '%00', '}:x', '../..', '*'],
    ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'],
    '{"__proto__":{"polluted":1}}',
    '{"\\u005f_proto__":{"polluted":1}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
    '9'.repeat(400),
    '['.repeat(5_000),
    `${'{"a":'.repeat(900)}1${'}'.repeat(900)}`,
    'x'.repeat(120_000),
  ),
  fc.string({ maxLength: 40, unit: 'binary' }),
  fc.json({ maxDepth: 3 }),
  fc.integer().map(String),
  fc.double().map(String),
);

/** Changes to an object: fields that get other values, or go. */
const changes = (fields: readonly string[]): fc.Arbitrary<[string, unknown][]> =>
  fc.array(
    fc.tuple(
      fc.oneof(fc.constantFrom(...fields, '__proto__', 'constructor', 'polluted'), nasty),
      fc.oneof(fc.jsonValue({ maxDepth: 2 }), nasty, fc.constant(undefined)),
    ),
    { maxLength: 4 },
  );

/** A JSON text as the library writes it, changed, and sometimes cut. */
function mutated(base: Record<string, unknown>): fc.Arbitrary<string> {
  const cut = fc.oneof(
    { weight: 8, arbitrary: fc.constant(1) },
    fc.double({ min: 0, max: 1, noNaN: true }),
  );
  return fc.tuple(changes(Object.keys(base)), cut).map(([edits, part]) => {
    // fromEntries makes an own __proto__, which is what a text can hold.
    const text = JSON.stringify(Object.fromEntries([...Object.entries(base), ...edits]));
    return text.slice(0, Math.round(text.length * part));
  });
}

/** Fields of an entry, changed. */
function entry(base: Record<string, string>): fc.Arbitrary<string[]> {
  const names = Object.keys(base);
  return fc
    .tuple(
      fc.subarray(names, { minLength: Math.max(1, names.length - 3) }),
      fc.array(fc.tuple(fc.oneof(fc.constantFrom(...names), nasty), nasty), { maxLength: 4 }),
    )
    .map(([kept, more]) => [...kept.flatMap((name) => [name, base[name] ?? '']), ...more.flat()]);
}

const text = (value: fc.Arbitrary<string>, base: Record<string, unknown>): fc.Arbitrary<string> =>
  fc.oneof(value, mutated(base), mutated(base));

const CALL = {
  ...{ c: '1mw 60000 1 stranger call-1\t{"p":{"n":1},"i":null}', a: '1' },
  ...{ f: '0', l: '1', o: '1', k: KEY, h: '[{"at":1,"attempt":1,"code":"X"}]' },
};
const PAYLOAD = { p: { n: 1 }, i: null, h: { a: 'b' } };
const REPLY = { k: 'e', d: 1, w: 'w', o: 1, e: { code: 'X', message: 'm', details: { a: 1 } } };
const RECORD = {
  ...{ workerId: 'w', processId: 'p.1', epoch: 1, seq: 1, status: 'ready', timestamp: 1 },
  ...{ definition: '', pool: 'p' },
};
const DEFINITION = {
  ...{ name: 'work', workflowId: 'default' },
  parameters: [{ name: 'n', type: 'number', required: true, default: 1 }],
};
const NEWS = {
  ...{
    type: 'ready',
    functionName: 'work',
    workflowId: 'default',
    workerId: 'w',
    epoch: 1,
    seq: 1,
  },
  ...{ timestamp: 1, processId: 'p.1', definition: '', healthy: true, reason: 'r' },
};
const CONTROL = {
  ...{ type: 'cancel', callId: 'call-1', entryId: '1-1', functionId: 'work:default' },
  ...{ functionName: 'work', workflowId: 'default', workerId: 'w', epoch: 1, seq: 1, timestamp: 1 },
};
const HEADS = ['function:ready', 'function:shutdown', 'function:offline', 'worker:health'];

const command = (...words: (string | fc.Arbitrary<string>)[]): fc.Arbitrary<Attack> =>
  fc.tuple(...words.map((word) => (typeof word === 'string' ? fc.constant(word) : word)));
const added = (key: string, fields: fc.Arbitrary<string[]>): fc.Arbitrary<Attack> =>
  fields.map((words) => ['XADD', key, '*', ...words]);
const packet = (data: Record<string, unknown>): fc.Arbitrary<string> =>
  mutated(data).chain((inner) => {
    try {
      return mutated({ pattern: 'x', data: JSON.parse(inner) as unknown });
    } catch {
      return fc.constant(inner);
    }
  });

/** What lies in streams and beside them. */
const work = fc.oneof(
  { weight: 4, arbitrary: added(`${WORK}:calls`, entry(CALL)) },
  {
    weight: 3,
    arbitrary: added(
      `${WORK}:calls`,
      text(nasty, PAYLOAD).map((p) =>
        Object.entries({ ...CALL, o: String(Date.now()), c: `1 60000  stranger c\t${p}` }).flat(),
      ),
    ),
  },
  {
    weight: 3,
    arbitrary: added(
      `${WORK}:calls`,
      fc.tuple(nasty, nasty, nasty, nasty).map((words) => ['c', `1${words.join(' ')}\t{}`]),
    ),
  },
  {
    weight: 3,
    arbitrary: added(
      '@nf:process:{$}:replies',
      fc.tuple(nasty, text(nasty, REPLY)).map(([id, reply]) => ['r', `${id}\t${reply}`]),
    ),
  },
  { weight: 2, arbitrary: added(`${WORK}:dead`, entry({ ...CALL, reason: 'MAX_DELIVERIES' })) },
  command('HSET', `${WORK}:once:${KEY}`, fc.constantFrom('entry', 'call', 'w:x', 'w:'), nasty),
  command('HSET', `${WORK}:once:${KEY}`, nasty, nasty),
  command('HSET', `${WORK}:aside`, nasty, nasty),
  command('ZADD', `${WORK}:delayed`, '1', nasty),
  command('ZADD', '@nf:delayed', '1', fc.oneof(fc.constant('work:default'), nasty)),
);

/** What says who is there. */
const registry = fc.oneof(
  { weight: 4, arbitrary: command('HSET', `${WORK}:workers`, nasty, text(nasty, RECORD)) },
  { weight: 2, arbitrary: command('SET', `${WORK}:definition`, text(nasty, DEFINITION)) },
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.constantFrom(...HEADS), fc.oneof(nasty, packet(NEWS)))
      .map(([head, message]) => ['PUBLISH', `@${head}:work:default`, message]),
  },
  {
    weight: 4,
    arbitrary: command('PUBLISH', '@nf:process:#', fc.oneof(nasty, packet(CONTROL))),
  },
  command('SADD', '@nf:workflow:{default}:functions', nasty),
  command('SADD', `${WORK}:bells`, nasty),
  command('SET', `${WORK}:epoch`, nasty),
  command('HSET', '@nf:processes', fc.oneof(fc.constant('#'), nasty), nasty),
  command('SET', '@nf:process:{#}:lease', nasty),
  command('SET', '@nf:process:{#}:grave', nasty),
  command('SADD', '@nf:process:{#}:hosted', nasty),
  command('SET', '@nf:supervisor', nasty),
  command('SET', '@nf:deputy', nasty),
);

const KEYS = [
  ...[
    'calls',
    'delayed',
    'aside',
    `once:${KEY}`,
    'bells',
    'dead',
    'workers',
    'definition',
    'epoch',
  ].map((name) => `${WORK}:${name}`),
  ...['lease', 'hosted', 'grave'].map((name) => `@nf:process:{#}:${name}`),
  ...['@nf:process:{$}:replies', '@nf:delayed', '@nf:processes', '@nf:supervisor', '@nf:deputy'],
  '@nf:workflow:{default}:functions',
];
const MAKE = [
  ['SET'],
  ['LPUSH'],
  ['SADD'],
  ['HSET', 'a'],
  ['ZADD', '1'],
  ['XADD', '*', 'a'],
] as const;
/** A key that is of another type than the library's. */
const wrongType = fc
  .tuple(fc.constantFrom(...KEYS), fc.constantFrom(...MAKE))
  .map(([key, [name, ...rest]]) => [name, key, ...rest, 'x']);

let redis: StartedRedis;
let admin: Redis;
let prefix: string;
let target: TestProcess;
let asked = 0;
let sent = 0;

interface Answer {
  readonly type: string;
  readonly value?: unknown;
  readonly code?: string;
}
interface Stats {
  readonly process: string;
  readonly state: string;
  readonly calls: { readonly late: number; readonly malformed: number; readonly pending: number };
  readonly consumer: { readonly malformed: number; readonly inFlight: number };
  readonly notifications: { readonly dropped: number };
  readonly runs: number;
  readonly heard: number;
  readonly polluted: string[];
}

/** Has the process do something; fails when the process is dead. */
async function ask(action: string, options: object = {}): Promise<Answer> {
  const id = (asked += 1);
  target.send({ id, do: action, options });
  return target.message<Answer>(`answer-${id}`, 30_000);
}

const stats = async (): Promise<Stats> => (await ask('stats')).value as Stats;

/** Names of the process and of its present session. */
async function names(): Promise<{ process: string; session: string }> {
  const { process } = await stats();
  const sessions = (await admin.hkeys(`${prefix}nf:processes`).catch(() => [])).filter((name) =>
    name.startsWith(`${process}.`),
  );
  return { process, session: sessions.at(-1) ?? `${process}.1` };
}

async function attack(commands: readonly Attack[]): Promise<void> {
  const { process, session } = await names();
  const pipeline = admin.pipeline();
  for (const words of commands) {
    const [name = '', key = '', ...rest] = words;
    const own = key.replace('@', prefix).replace('$', process).replace('#', session);
    pipeline.call(name, own, ...rest.map((word) => (word === '#' ? session : word)));
  }
  sent += commands.length;
  await pipeline.exec();
}

const good = (options = {}): Promise<Answer> => ask('call', options);

/** As after a Redis that was emptied: everything registers anew. */
async function sweep(): Promise<void> {
  const keys = await admin.keys(`${prefix}*`);
  if (keys.length > 0) await admin.del(...keys);
}

beforeAll(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
  prefix = uniquePrefix();
  target = TestProcess.start('fuzzed.ts', { REDIS_URL: redis.url, KEY_PREFIX: prefix });
  await target.message('ready', 30_000);
});

afterAll(async () => {
  await target.destroy();
  admin.disconnect();
  await redis.stop();
});

async function expectUnharmed(): Promise<void> {
  const { polluted, calls } = await stats();
  expect(polluted).toEqual([]);
  expect(calls.pending).toBe(0);
  await eventually('every run has ended', async () => (await stats()).consumer.inFlight === 0);
  expect(target.output).not.toMatch(/unhandled|TypeError|RangeError|TimeoutOverflow/i);
}
afterEach(expectUnharmed);

/** Inputs of one run. */
const some = (of: fc.Arbitrary<Attack>, maxLength: number): fc.Arbitrary<Attack[]> =>
  fc.array(of, { minLength: 10, maxLength, size: 'max' });

describe('a process that hosts and calls, attacked by who can write to its Redis', () => {
  it('answers good calls among thousands of hostile entries, replies, dead letters and shared calls', async () => {
    const before = await stats();
    sent = 0;
    await fc.assert(
      fc.asyncProperty(some(work, 50), async (attacks) => {
        await attack(attacks);
        const answers = await Promise.all([good(), good(), ask('ask'), ask('bury')]);
        expect(answers.map(({ value, code }) => value ?? code)).toEqual([
          'same',
          'same',
          'asked',
          expect.any(Number),
        ]);
        // A key that somebody else has written to belongs to them; it settles all the same.
        const shared = await good({ idempotencyKey: KEY, timeoutMs: 300 });
        expect(shared.code ?? 'settled').not.toMatch(/untyped/);
        await admin.del(`${prefix}nf:{work:default}:once:${KEY}`);
      }),
      { numRuns: 200 },
    );
    const after = await stats();
    expect(sent).toBeGreaterThan(2_000);
    expect(after.consumer.malformed).toBeGreaterThan(before.consumer.malformed + 100);
    expect(after.calls.late + after.calls.malformed).toBeGreaterThan(100);
    await eventually('nothing is left', async () => {
      return (await admin.xlen(`${prefix}nf:{work:default}:calls`)) === 0;
    });
  });

  it('goes on with its registrations, news and commands after thousands of hostile ones', async () => {
    const before = await stats();
    sent = 0;
    await fc.assert(
      fc.asyncProperty(some(registry, 60), async (attacks) => {
        await attack(attacks);
        const answers = await Promise.all([good({ timeoutMs: 500 }), ask('ask')]);
        for (const { code = '' } of answers) expect(code).not.toMatch(/untyped/);
      }),
      { numRuns: 150 },
    );
    const after = await stats();
    expect(sent).toBeGreaterThan(2_000);
    expect(after.notifications.dropped).toBeGreaterThan(before.notifications.dropped + 100);
    await sweep();
    await eventually('calls are answered', async () => (await good()).value === 'same', 20_000);
  });

  it('lives with keys of wrong types, and works once they are gone', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(wrongType, { minLength: 1, maxLength: 3 }), async (attacks) => {
        await attack(attacks.flatMap((words) => [['DEL', words[1] ?? ''], words]));
        const answers = await Promise.all([
          good({ timeoutMs: 200, readinessTimeoutMs: 200 }),
          good({ timeoutMs: 200, readinessTimeoutMs: 200, idempotencyKey: KEY }),
          ask('ask'),
          ask('bury'),
        ]);
        for (const { code = '' } of answers) expect(code).not.toMatch(/TypeError|RangeError/);
        await admin.del(...attacks.map(([, key = '']) => key.replace('@', prefix)));
        await sweep();
        await eventually('calls are answered', async () => (await good()).value === 'same', 20_000);
      }),
      { numRuns: 15 },
    );
  });
});
