import { describe, expect, it } from '@jest/globals';
import { InvalidNameError } from '../../src/common/errors.js';
import {
  assertName,
  decodeName,
  encodeName,
  functionRef,
  MAX_NAME_LENGTH,
} from '../../src/protocol/function-ref.js';
import { caught } from '../harness/caught.js';
import { Random } from '../harness/random.js';

/** Every character that the library treats specially, and some that it must not. */
const PIECES = [
  ...':{}[]*?\\%',
  ' ',
  '\t',
  '\n',
  '\r',
  '\0',
  '\u0085',
  '\u00a0',
  '\u2028',
  '\ufeff',
  ...'abcXYZ019-_.~/@#&="\'',
  'ä',
  '漢',
  '😀',
  '%3A',
  '%25',
  'default',
];

describe('a name', () => {
  it.each([
    'resize',
    'resizeImage',
    'resize-image_v2.1~beta',
    'math/sum',
    'Größe',
    '画像',
    'ship🚀',
    'user@host',
  ])('that is plain stays as it is: %s', (name) => {
    expect(encodeName(name)).toBe(name);
  });

  it.each([
    [':', '%3A'],
    ['{', '%7B'],
    ['}', '%7D'],
    ['[', '%5B'],
    [']', '%5D'],
    ['*', '%2A'],
    ['?', '%3F'],
    ['\\', '%5C'],
    ['%', '%25'],
    [' ', '%20'],
    ['\n', '%0A'],
    ['\0', '%00'],
    ['\u007f', '%7F'],
    ['\u0085', '%C2%85'],
    ['\u00a0', '%C2%A0'],
    ['\u2028', '%E2%80%A8'],
    ['\ufeff', '%EF%BB%BF'],
  ])('has %j encoded as %s', (char, encoded) => {
    expect(encodeName(`a${char}b`)).toBe(`a${encoded}b`);
  });

  it('comes back from its encoding, whatever it holds', () => {
    const random = new Random(1);
    for (let run = 0; run < 2_000; run += 1) {
      const name = random.text(PIECES, 8);
      expect(decodeName(encodeName(name))).toBe(name);
    }
  });

  it('has no character left that a key, a channel, a glob or a hash tag could mistake', () => {
    const random = new Random(2);
    for (let run = 0; run < 2_000; run += 1) {
      // eslint-disable-next-line no-control-regex -- control characters are what this is about
      expect(encodeName(random.text(PIECES, 8))).not.toMatch(/[:{}[\]*?\\\s\u0000-\u001f\u007f]/u);
    }
  });

  it.each([
    ['a broken escape', '%'],
    ['an escape of a plain character', '%61'],
    ['an escape in small letters', '%3a'],
    ['a character that has to be escaped', 'a b'],
    ['bytes that are no UTF-8', '%FF'],
  ])('is not read from a text that encodeName never made: %s', (_, text) => {
    expect(decodeName(text)).toBeUndefined();
  });

  it.each([
    ['an empty one', '', 'at least one character'],
    ['one of 10 kB', 'x'.repeat(10_240), `at most ${MAX_NAME_LENGTH} characters`],
    ['one character too many', 'x'.repeat(MAX_NAME_LENGTH + 1), `at most ${MAX_NAME_LENGTH}`],
    ['a first half of a pair', 'a\ud83db', 'half a surrogate pair'],
    ['a second half of a pair', '\ude00', 'half a surrogate pair'],
    ['a pair the wrong way round', '\ude00\ud83d', 'half a surrogate pair'],
    ['a number', 7, 'it has to be a string'],
    ['nothing', undefined, 'it has to be a string'],
    ['null', null, 'it has to be a string'],
    ['an object', { name: 'x' }, 'it has to be a string'],
  ])('is refused, with the cure, when it is %s', (_, value, cure) => {
    const error = caught(() => assertName('The function name', value));
    expect(error).toBeInstanceOf(InvalidNameError);
    expect(error).toMatchObject({
      code: 'INVALID_NAME',
      retryable: false,
      message: expect.stringContaining(cure),
    });
  });

  it('that is refused for its length is not repeated in full', () => {
    const error = caught(() => assertName('The function name', 'x'.repeat(10_240))) as Error;
    expect(error.message.length).toBeLessThan(250);
  });

  it('may have as many characters as are allowed', () => {
    expect(() => assertName('The function name', 'x'.repeat(MAX_NAME_LENGTH))).not.toThrow();
  });
});

describe('a function reference', () => {
  it('keeps both names as they were given', () => {
    expect(functionRef('a:b', 'c d')).toMatchObject({ functionName: 'a:b', workflowId: 'c d' });
  });

  it('says which of the two names is wrong', () => {
    expect(() => functionRef('', 'w')).toThrow(/^The function name ""/);
    expect(() => functionRef('f', '')).toThrow(/^The workflowId ""/);
  });

  it('has the same id each time', () => {
    expect(functionRef('f', 'w').id).toBe(functionRef('f', 'w').id);
  });

  it('cannot be changed by who got it: it is shared', () => {
    const ref = functionRef('f', 'w') as { id: string };
    expect(() => {
      ref.id = 'other';
    }).toThrow(TypeError);
  });

  it.each<{ one: [string, string]; other: [string, string] }>([
    { one: ['a:b', 'c'], other: ['a', 'b:c'] },
    { one: ['a%3Ab', 'c'], other: ['a:b', 'c'] },
    { one: ['a}', '{b'], other: ['a', '}{b'] },
    { one: ['a', 'b'], other: ['b', 'a'] },
    { one: ['a ', 'b'], other: ['a', ' b'] },
    { one: ['A', 'b'], other: ['a', 'b'] },
  ])('of $one never meets that of $other', ({ one, other }) => {
    expect(functionRef(...one).id).not.toBe(functionRef(...other).id);
  });

  it('of different names never meets another, whatever the names hold', () => {
    const random = new Random(3);
    const seen = new Map<string, string>();
    for (let run = 0; run < 5_000; run += 1) {
      const names = [random.text(PIECES, 3), random.text(PIECES, 3)] as const;
      const { id } = functionRef(...names);
      const key = JSON.stringify(names);
      expect(seen.get(id) ?? key).toBe(key);
      seen.set(id, key);
    }
  });

  it('stays right when there are more functions than the cache keeps', () => {
    for (let i = 0; i < 10_500; i += 1) {
      if (functionRef(`f${i}`, 'many').id !== `f${i}:many`) throw new Error(`wrong at ${i}`);
    }
    expect(functionRef('f0', 'many').id).toBe('f0:many');
  });
});
