import { describe, expect, it } from '@jest/globals';
import { PayloadNotSerializableError, PayloadTooLargeError } from '../../src/common/errors.js';
import { decodeJson, encodeJson, isRecord, MAX_DEPTH } from '../../src/protocol/json.js';
import { caught } from '../harness/caught.js';

const MAX = 1_048_576;
const encode = (value: unknown): string => encodeJson('parameters', value, MAX);

function nested(levels: number): unknown {
  let value: unknown = 'leaf';
  for (let i = 0; i < levels; i += 1) value = { in: value };
  return value;
}

const circular: Record<string, unknown> = { name: 'loop' };
circular['self'] = circular;
const circularArray: unknown[] = [];
circularArray.push([circularArray]);

describe('a value for the wire', () => {
  it.each([
    ['an object', { a: 1, b: ['x', null, true], c: { d: 'ä😀' } }],
    ['an array', [1, 2, 3]],
    ['a string', 'text'],
    ['a number', 0.5],
    ['null', null],
    ['an object without a prototype', Object.assign(Object.create(null) as object, { a: 1 })],
  ])('comes back as it was: %s', (_, value) => {
    expect(decodeJson(encode(value))).toEqual(value);
  });

  it('is null when it is undefined', () => {
    expect(encode(undefined)).toBe('null');
  });

  it('is sent without properties that are undefined', () => {
    expect(encode({ a: 1, b: undefined })).toBe('{"a":1}');
  });

  it('speaks for itself when it has toJSON: a Date', () => {
    expect(encode({ at: new Date(0) })).toBe('{"at":"1970-01-01T00:00:00.000Z"}');
  });

  it('may be an instance of a class', () => {
    class Size {
      width = 1;
    }
    expect(encode(new Size())).toBe('{"width":1}');
  });

  it('may hold one object twice: that is no cycle', () => {
    const shared = { a: 1 };
    expect(encode([shared, shared])).toBe('[{"a":1},{"a":1}]');
  });

  it.each([
    ['a cycle', circular, /nested deeper than 200 levels, or contains itself/],
    ['a cycle of arrays', circularArray, /contains itself/],
    ['too deep', nested(MAX_DEPTH + 1), /nested deeper than 200/],
    ['a BigInt', { size: 1n }, /^parameters\.size cannot be sent: it is a BigInt.*as a string/],
    ['a function', { on: () => 1 }, /^parameters\.on cannot be sent: it is a function \(on\)/],
    ['a symbol', [Symbol('s')], /^parameters\[0\] cannot be sent: it is a symbol/],
    ['NaN', { at: { x: NaN } }, /^parameters\.at\.x cannot be sent: it is NaN/],
    ['Infinity', -Infinity, /^parameters cannot be sent: it is -Infinity/],
    ['a Map', { tags: new Map() }, /^parameters\.tags .*Map.*send \[\.\.\.it\] instead/],
    ['a Set', new Set([1]), /^parameters .*Set.*send \[\.\.\.it\] instead/],
    ['a Promise', { url: Promise.resolve(1) }, /^parameters\.url .*Promise.*await it first/],
    ['an Error', { why: new TypeError('x') }, /^parameters\.why .*TypeError.*message/],
    ['a RegExp', { match: /x/ }, /^parameters\.match .*RegExp.*source/],
    ['binary data', { bytes: new Uint8Array(2) }, /^parameters\.bytes .*Uint8Array.*base64/],
    ['an own __proto__', JSON.parse('{"__proto__":{"a":1}}'), /own property __proto__/],
    ['a deep own __proto__', JSON.parse('{"a":[{"__proto__":1}]}'), /^parameters\.a\[0\] cannot/],
    [
      'a getter that throws',
      {
        get broken(): string {
          throw new Error('no such luck');
        },
      },
      /no such luck.*make its toJSON and getters work/,
    ],
    [
      'a toJSON that throws',
      {
        toJSON(): string {
          throw new Error('no such luck');
        },
      },
      /no such luck/,
    ],
    ['an invalid Date', { at: new Date(NaN) }, /^parameters\.at .*an invalid Date.*send null/],
    ['an invalid Date in a list', [[new Date('never')]], /^parameters\[0\]\[0\] .*invalid Date/],
    [
      'a boxed NaN',
      { x: Object(NaN) as unknown },
      /^parameters\.x .*an object of Number.*send null/,
    ],
    ['a toJSON that gives NaN', { toJSON: () => NaN }, /^parameters cannot be sent: it is NaN/],
    ['a deep toJSON that gives NaN', [{ a: { toJSON: () => ({ x: [NaN] }) } }], /it is NaN/],
    ['a toJSON that gives a Map', { a: { toJSON: () => new Map() } }, /^parameters, a .*Map/],
    ['a toJSON that gives a function', { a: { toJSON: () => () => 1 } }, /a function/],
    ['a toJSON that gives a BigInt', { toJSON: () => 1n }, /BigInt/],
  ])('is refused, with its path and the cure, for %s', (_, value, text) => {
    const error = caught(() => encode(value));
    expect(error).toBeInstanceOf(PayloadNotSerializableError);
    expect((error as Error).message).toMatch(text);
  });

  it.each([
    ['a Date', { at: new Date(0) }, '{"at":"1970-01-01T00:00:00.000Z"}'],
    ['a boxed number', { x: Object(7) as unknown }, '{"x":7}'],
    ['a toJSON that gives plain data', [{ toJSON: () => ({ x: [1, null] }) }], '[{"x":[1,null]}]'],
    [
      'a toJSON beside a Date',
      { a: { toJSON: () => 1 }, at: new Date(0), b: undefined },
      '{"a":1,"at":"1970-01-01T00:00:00.000Z"}',
    ],
  ])('is written as JSON writes it for %s', (_, value, text) => {
    expect(encode(value)).toBe(text);
  });

  it('asks a toJSON once', () => {
    let asked = 0;
    encode([{ toJSON: () => (asked += 1) }]);
    expect(asked).toBe(1);
  });

  it('may be as deep as is allowed', () => {
    expect(() => encode(nested(MAX_DEPTH))).not.toThrow();
  });

  it('is refused with a short text when it contains itself', () => {
    expect((caught(() => encode(circular)) as Error).message.length).toBeLessThan(300);
  });

  it.each([
    ['5 MB', 'x'.repeat(5_000_000), 5_000_002],
    ['more bytes than characters', '漢'.repeat(400_000), 1_200_002],
  ])('is refused when it is too large: %s', (_, value, bytes) => {
    const error = caught(() => encode(value));
    expect(error).toBeInstanceOf(PayloadTooLargeError);
    expect(error).toMatchObject({
      details: { bytes, maxPayloadBytes: MAX },
      message: expect.stringContaining('maxPayloadBytes'),
    });
  });

  it('is accepted at the very limit and refused one byte above it', () => {
    expect(encodeJson('item', 'x'.repeat(98), 100)).toHaveLength(100);
    expect(() => encodeJson('item', 'x'.repeat(99), 100)).toThrow(PayloadTooLargeError);
  });

  it('does not have its contents in the text of a refusal', () => {
    const error = caught(() => encode({ password: 'secret-123', size: 1n })) as Error;
    expect(error.message).not.toContain('secret-123');
  });
});

describe('text from the wire', () => {
  it.each([
    ['plain', '{"__proto__":{"polluted":true}}'],
    ['deep', '{"a":[{"b":{"__proto__":{"polluted":true}}}]}'],
    ['with an escaped underscore', '{"\\u005f_proto__":{"polluted":true}}'],
    ['with another escaped underscore', '{"__proto_\\u005F":{"polluted":true}}'],
    ['with an escaped letter', '{"__\\u0070roto__":{"polluted":true}}'],
    ['wholly escaped', '{"\\u005f\\u005f\\u0070\\u0072\\u006f\\u0074\\u006f\\u005f\\u005f":1}'],
  ])('is refused when it brings an own __proto__: %s', (_, text) => {
    expect(() => decodeJson(text)).toThrow(SyntaxError);
  });

  it('may speak of __proto__ in a value', () => {
    expect(decodeJson('{"text":"__proto__"}')).toEqual({ text: '__proto__' });
  });

  it('may name a property constructor, and pollutes nothing', () => {
    decodeJson('{"constructor":{"prototype":{"polluted":true}}}');
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it.each(['', '{', 'undefined', '{"a":1}x', "{'a':1}"])(
    'is refused when it is no JSON: %j',
    (text) => {
      expect(() => decodeJson(text)).toThrow(SyntaxError);
    },
  );

  it('is not quoted in the error that refuses it', () => {
    expect((caught(() => decodeJson('secret-123')) as Error).message).toBe('it is not JSON');
  });

  it('is read however deep it is', () => {
    const deep = `${'['.repeat(5_000)}"__proto__"${']'.repeat(5_000)}`;
    expect(() => decodeJson(deep)).not.toThrow();
  });
});

describe('isRecord', () => {
  it.each([
    [{}, true],
    [Object.create(null), true],
    [[], false],
    [null, false],
    ['x', false],
    [undefined, false],
  ])('of %j is %j', (value, expected) => {
    expect(isRecord(value)).toBe(expected);
  });
});
