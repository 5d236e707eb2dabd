import { describe, expect, it } from '@jest/globals';
import {
  encodeCall,
  encodeCalls,
  encodeFailure,
  encodeProgress,
  encodeReplies,
  encodeResult,
  entryTime,
  joinPayload,
  parseCall,
  parseCallPayload,
  parseReply,
  partsOf,
  splitReplies,
} from '../../src/protocol/call.js';
import { isMalformed } from '../../src/protocol/notification.js';

const PAYLOAD = joinPayload('{"a":1}', 'null', undefined);
const ENTRY = '1700000000000-3';

const CALL = {
  ...{ callId: 'c-1', replyTo: 'host-1-ab', ttlMs: 5_000, sentAt: undefined, again: false },
  delivery: 'at-least-once' as const,
  payload: PAYLOAD,
};

/** The fields of an entry, some replaced, those that are `undefined` left out. */
function fields(changes: Record<string, string | undefined> = {}): string[] {
  const all: Record<string, string | undefined> = {
    c: encodeCall(CALL),
    ...changes,
  };
  return Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
}

describe('a call entry', () => {
  it('is read as a first attempt, its deadline on the clock of Redis', () => {
    expect(parseCall(ENTRY, fields())).toEqual({
      entryId: ENTRY,
      callId: 'c-1',
      replyTo: 'host-1-ab',
      ttlMs: 5_000,
      delivery: 'at-least-once',
      attempt: 1,
      failures: 0,
      again: false,
      idempotencyKey: undefined,
      submittedAt: 1_700_000_000_000,
      deadline: 1_700_000_005_000,
      bound: false,
      passes: 0,
      payload: PAYLOAD,
    });
  });

  it('that is bound to a generation has a version that an older library refuses', () => {
    const c = encodeCall({ ...CALL, bound: true, delivery: 'at-most-once', again: true });
    // What older libraries read: version 1, and any flags.
    expect(c).not.toMatch(/^1[a-z]* /);
    expect(parseCall(ENTRY, fields({ c, p: '3' }))).toMatchObject({
      bound: true,
      passes: 3,
      delivery: 'at-most-once',
      again: true,
    });
    const calls = [
      { ...CALL, bound: true },
      { ...CALL, bound: false },
      { ...CALL, bound: true },
    ];
    expect(encodeCalls(calls).split('\n')).toEqual(calls.map((call) => encodeCall(call)));
  });

  it('is bound by its payload', () => {
    expect(joinPayload('{}', 'null', undefined, 7)).toBe('{"p":{},"i":null,"g":7}');
    expect(parseCallPayload(joinPayload('{}', '1', '{"h":"x"}', 7))).toEqual({
      parameters: {},
      item: 1,
      headers: { h: 'x' },
      generation: 7,
    });
    expect(parseCallPayload('{"p":{},"i":null,"g":-1}')).toHaveProperty('malformed');
  });

  it('says that it may run at most once', () => {
    const c = encodeCall({ ...CALL, delivery: 'at-most-once' });
    expect(parseCall(ENTRY, fields({ c }))).toMatchObject({ delivery: 'at-most-once' });
  });

  it('says that it was written again, how often it failed, and its idempotency key', () => {
    const c = encodeCall({ ...CALL, again: true });
    expect(parseCall(ENTRY, fields({ c, f: '2', a: '4', k: 'once' }))).toMatchObject({
      again: true,
      failures: 2,
      attempt: 4,
      idempotencyKey: 'once',
    });
  });

  it('may have nobody who waits for its answer', () => {
    const c = encodeCall({ ...CALL, replyTo: '' });
    expect(parseCall(ENTRY, fields({ c }))).toMatchObject({ replyTo: '' });
  });

  it('stands beside its neighbours as it stands alone, whatever they differ in', () => {
    const changes = [
      {},
      { callId: 'c-2' },
      { ttlMs: 6_000 },
      { sentAt: 1_700_000_000_000 },
      { replyTo: 'host-2-cd' },
      { delivery: 'at-most-once' as const },
      { again: true },
      { payload: joinPayload('{"b":2}', '{"c":3}', '{"d":"4"}') },
    ];
    const calls = changes.flatMap((change) => [CALL, { ...CALL, ...change }, CALL]);
    expect(encodeCalls(calls).split('\n')).toEqual(calls.map(encodeCall));
    expect(encodeCalls([CALL])).toBe(encodeCall(CALL));
  });

  it('may have a call id with spaces', () => {
    const c = encodeCall({ ...CALL, callId: ' by hand ' });
    expect(parseCall(ENTRY, fields({ c }))).toMatchObject({
      replyTo: 'host-1-ab',
      callId: ' by hand ',
    });
    expect(partsOf(fields({ c }))).toEqual({
      replyTo: 'host-1-ab',
      callId: ' by hand ',
      payload: PAYLOAD,
    });
  });

  it.each([
    ['a moment after it was sent, from when it was added', 1_699_999_999_001, 1_700_000_000_000],
    ['a second after it was sent, from when it was sent', 1_699_999_999_000, 1_699_999_999_000],
    ['before it was sent, from when it was added', 1_700_000_009_000, 1_700_000_000_000],
  ])('counts its time, when it was added %s', (_, sentAt, submittedAt) => {
    const c = encodeCall({ ...CALL, sentAt });
    expect(parseCall(ENTRY, fields({ c }))).toMatchObject({
      submittedAt,
      deadline: submittedAt + 5_000,
    });
  });

  it('keeps its first deadline when it was handed over', () => {
    const entry = parseCall('1700000003000-0', fields({ a: '2', o: '1700000000000' }));
    expect(entry).toMatchObject({
      attempt: 2,
      submittedAt: 1_700_000_000_000,
      deadline: 1_700_000_005_000,
    });
  });

  it('may have fields that this version does not know', () => {
    expect(isMalformed(parseCall(ENTRY, fields({ z: 'new' })) as object)).toBe(false);
  });

  it.each([
    ['no call', { c: undefined }, 'no field c'],
    ['an empty head', { c: '\t{}' }, 'version is ""'],
    ['no version', { c: ' 5000  host-1-ab c-1\t{}' }, 'version is ""'],
    ['another version', { c: '3 5000  p c\t{}' }, 'version is "3", this worker reads "1" and "2"'],
    [
      'a longer version',
      { c: '10 5000  p c\t{}' },
      'version is "10", this worker reads "1" and "2"',
    ],
    ['a version that forges a line', { c: '2\n[Nest] x\t{}' }, 'version is "2\\n[Nest]", this'],
    ['a head of one word', { c: '1\t{}' }, 'head is cut off'],
    ['a head without a call id', { c: '1 5000  host-1-ab\t{}' }, 'head is cut off'],
    ['a huge call id', { c: `1 5000  p ${'x'.repeat(257)}\t{}` }, 'call id is longer than 256'],
    ['a call id of two lines', { c: '1 5000  p x\n[Nest] LOG\t{}' }, 'not on one line'],
    ['a call id with an escape sequence', { c: '1 5000  p x\u001b[2J\t{}' }, 'not on one line'],
    ['a call id with a line separator', { c: '1 5000  p x\u2028y\t{}' }, 'not on one line'],
    ['an empty call id', { c: '1 5000  p \t{}' }, 'no call id'],
    ['a key as its address', { c: '1 5000  x}:other{ c\t{}' }, 'where to reply'],
    ['a huge address', { c: `1 5000  ${'x'.repeat(201)} c\t{}` }, 'where to reply'],
    ['a time of sending that is a word', { c: '1 5000 now p c\t{}' }, 'sent at no time'],
    ['no payload', { c: '1 5000  p c' }, 'no payload'],
    ['no time to live', { c: '1   p c\t{}' }, 'no time to live'],
    ['a time to live that is a word', { c: '1 soon  p c\t{}' }, 'no time to live'],
    ['an endless time to live', { c: '1 Infinity  p c\t{}' }, 'no time to live'],
    ['an attempt that is a word', { a: 'second' }, 'attempt'],
    ['attempt 0', { a: '0' }, 'attempt'],
    ['half an attempt', { a: '1.5' }, 'attempt'],
    ['an origin that is a word', { o: 'earlier' }, 'origin'],
    ['failures that are a word', { f: 'some' }, 'failures'],
    ['an empty idempotency key', { k: '' }, 'idempotency key'],
    ['a huge idempotency key', { k: 'x'.repeat(257) }, 'idempotency key'],
  ])('is refused, with what is wrong, for %s', (_, changes, problem) => {
    expect(parseCall(ENTRY, fields(changes))).toEqual({
      malformed: expect.stringContaining(problem),
    });
  });

  it.each([[[]], [['c']], [['hello', 'world']], [['p', '{}', 'c']]])(
    'is refused when its fields are %j',
    (raw) => {
      expect(isMalformed(parseCall(ENTRY, raw) as object)).toBe(true);
    },
  );

  it('has the time of Redis in its id', () => {
    expect(entryTime(ENTRY)).toBe(1_700_000_000_000);
  });
});

describe('a payload', () => {
  it('holds parameters, item and headers', () => {
    expect(parseCallPayload(joinPayload('{"a":1}', '[2]', '{"h":"x"}'))).toEqual({
      parameters: { a: 1 },
      item: [2],
      headers: { h: 'x' },
    });
  });

  it('has empty headers when none were sent', () => {
    expect(parseCallPayload(joinPayload('{}', 'null', undefined))).toMatchObject({ headers: {} });
  });

  it.each([
    ['not JSON', 'secret-123', 'cannot be read (it is not JSON)'],
    ['a list', '[]', 'not an object'],
    ['null', 'null', 'not an object'],
    ['one that would pollute', '{"p":{"__proto__":{"a":1}}}', '__proto__'],
    ['headers that are no text', '{"p":{},"i":null,"h":{"a":1}}', 'headers'],
    ['headers that are a list', '{"p":{},"i":null,"h":["a"]}', 'headers'],
  ])('is refused, with what is wrong, for %s', (_, text, problem) => {
    expect(parseCallPayload(text)).toEqual({
      malformed: expect.stringContaining(problem),
    });
  });

  it('is not quoted in the text that refuses it', () => {
    expect(JSON.stringify(parseCallPayload('secret-123'))).not.toContain('secret');
  });
});

describe('a reply', () => {
  it.each([
    [
      'a result',
      encodeResult('{"a":1}', 'w"1'),
      { kind: 'result', data: { a: 1 }, workerId: 'w"1' },
    ],
    [
      'a failure',
      encodeFailure({ code: 'X', message: 'm', details: { a: 1 }, retryable: true }, 'w1'),
      {
        kind: 'error',
        error: { code: 'X', message: 'm', details: { a: 1 }, retryable: true },
        workerId: 'w1',
      },
    ],
    ['progress', encodeProgress('[1]'), { kind: 'progress', value: [1] }],
    ['a new place', '{"k":"m","d":"1-2"}', { kind: 'moved', entryId: '1-2' }],
    ['an answer without a worker', '{"k":"r","d":1}', { kind: 'result', data: 1 }],
  ])('of %s is read', (_, text, reply) => {
    expect(parseReply(text)).toMatchObject(reply);
  });

  it.each([
    ['not JSON', 'x', 'not JSON'],
    ['a list', '[]', 'not an object'],
    ['null', 'null', 'not an object'],
    ['of an unknown kind', '{"k":"z"}', 'kind'],
    ['of no kind', '{}', 'kind'],
    ['one that would pollute', '{"k":"r","d":{"__proto__":{}}}', 'not JSON'],
  ])('is refused when it is %s', (_, text, problem) => {
    expect(parseReply(text)).toEqual({ malformed: expect.stringContaining(problem) });
  });

  it('is an error that can be read when the error in it cannot', () => {
    expect(parseReply('{"k":"e","e":7}')).toMatchObject({
      kind: 'error',
      error: { code: 'HANDLER_FAILED' },
    });
  });
});

describe('the answers of a batch', () => {
  it('are lines of call id and answer, and come apart again', () => {
    const replies = [
      { callId: 'a', reply: encodeResult('{"text":"one\\ntwo\\tthree"}', 'w') },
      { callId: 'b b', reply: encodeProgress('null') },
    ];
    expect(splitReplies(encodeReplies(replies))).toEqual(replies);
    expect(splitReplies(encodeReplies(replies.slice(0, 1)))).toEqual(replies.slice(0, 1));
  });

  it('that somebody wrote by hand have no call id where there is none', () => {
    expect(splitReplies('junk\na\t{}\n\n')).toEqual([
      { callId: '', reply: 'junk' },
      { callId: 'a', reply: '{}' },
      { callId: '', reply: '' },
      { callId: '', reply: '' },
    ]);
  });
});
