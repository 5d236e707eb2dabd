import { describe, expect, it } from '@jest/globals';
import {
  callFlags,
  encodeFailure,
  encodeProgress,
  encodeResult,
  entryTime,
  joinPayload,
  parseCall,
  parseCallPayload,
  parseReply,
} from '../../src/protocol/call.js';
import { isMalformed } from '../../src/protocol/notification.js';

const PAYLOAD = joinPayload('{"a":1}', 'null', undefined);
const ENTRY = '1700000000000-3';

/** The fields of an entry, some replaced, those that are `undefined` left out. */
function fields(changes: Record<string, string | undefined> = {}): string[] {
  const all: Record<string, string | undefined> = {
    v: '1',
    i: 'c-1',
    r: 'host-1-ab',
    t: '5000',
    p: '{"p":{},"i":null}',
    ...changes,
  };
  return Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
}

describe('a call entry', () => {
  it('is read as a first attempt, its deadline on the clock of Redis', () => {
    expect(parseCall(ENTRY, fields({ p: PAYLOAD }))).toEqual({
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
      payload: PAYLOAD,
    });
  });

  it('says that it may run at most once', () => {
    expect(parseCall(ENTRY, fields({ m: '1' }))).toMatchObject({ delivery: 'at-most-once' });
    expect(callFlags({ delivery: 'at-most-once', again: false })).toBe('m');
  });

  it('says that it was written again, how often it failed, and its idempotency key', () => {
    expect(parseCall(ENTRY, fields({ w: '1', f: '2', a: '4', k: 'once' }))).toMatchObject({
      again: true,
      failures: 2,
      attempt: 4,
      idempotencyKey: 'once',
    });
    expect(callFlags({ delivery: 'at-least-once', again: true })).toBe('w');
  });

  it('may have nobody who waits for its answer', () => {
    expect(parseCall(ENTRY, fields({ r: '' }))).toMatchObject({ replyTo: '' });
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
    ['no version', { v: undefined }, 'version is missing'],
    ['another version', { v: '2' }, 'version is "2", this worker reads "1"'],
    ['a version that forges a line', { v: '2\n[Nest] x' }, 'version is "2\\n[Nest] x", this'],
    ['a huge call id', { i: 'x'.repeat(257) }, 'call id is longer than 256'],
    ['a call id of two lines', { i: 'x\n[Nest] LOG' }, 'not on one line'],
    ['a call id with an escape sequence', { i: 'x\u001b[2J' }, 'not on one line'],
    ['a call id with a line separator', { i: 'x\u2028y' }, 'not on one line'],
    ['no call id', { i: undefined }, 'no call id'],
    ['an empty call id', { i: '' }, 'no call id'],
    ['nobody to reply to', { r: undefined }, 'where to reply'],
    ['a key as its address', { r: 'x}:other{' }, 'where to reply'],
    ['an address with a space', { r: 'a b' }, 'where to reply'],
    ['a huge address', { r: 'x'.repeat(201) }, 'where to reply'],
    ['no payload', { p: undefined }, 'no payload'],
    ['no time to live', { t: undefined }, 'no time to live'],
    ['a time to live that is a word', { t: 'soon' }, 'no time to live'],
    ['an endless time to live', { t: 'Infinity' }, 'no time to live'],
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

  it.each([[[]], [['v']], [['hello', 'world']], [['p', '{}', 'v']]])(
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
