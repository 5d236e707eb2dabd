import { runInNewContext } from 'node:vm';
import { describe, expect, it } from '@jest/globals';
import { isError, messageOf, oneLine, quote, redactUrl, show } from '../../src/common/text.js';

describe('a connection address', () => {
  it.each([
    ['redis://127.0.0.1:6379', 'redis://127.0.0.1:6379'],
    ['redis://:secret@host:6379/1', 'redis://***@host:6379/1'],
    ['rediss://user:secret@host', 'rediss://***@host'],
    ['redis://user@host', 'redis://***@host'],
    ['redis://:p@ss/secret@host', 'redis://***@host'],
    ['redis://:line\nsecret@host', 'redis://***@host'],
    [':secret@host:6379', '***@host:6379'],
    ['redis:/:secret@host', '***@host'],
    ['redis://host?password=secret&db=1', 'redis://host?password=***&db=1'],
    ['redis://host?db=1&authToken=secret', 'redis://host?db=1&authToken=***'],
    ['/var/run/redis.sock', '/var/run/redis.sock'],
    ['connect ECONNREFUSED 127.0.0.1:6379', 'connect ECONNREFUSED 127.0.0.1:6379'],
  ])('is shown without its password: %j', (url, shown) => {
    expect(redactUrl(url)).toBe(shown);
  });
});

describe('a value in a text', () => {
  class Size {}
  it.each([
    ['text', '"text"'],
    ['a\nb', '"a\\nb"'],
    [7, '7'],
    [NaN, 'NaN'],
    [7n, '7n'],
    [true, 'true'],
    [undefined, 'undefined'],
    [null, 'null'],
    [Symbol('secret'), 'a symbol'],
    [[1, 2], 'an array of 2'],
    [{ password: 'secret' }, 'an object of Object'],
    [new Size(), 'an object of Size'],
    [Object.create(null), 'an object of no class'],
    [() => 'secret', 'a function'],
    [function resize() {}, 'a function (resize)'],
  ])('is shown short and without its contents: %#', (value, shown) => {
    expect(show(value)).toBe(shown);
  });

  it('is cut when it is long, and says how long it was', () => {
    expect(quote('x'.repeat(10_000))).toBe(`"${'x'.repeat(60)}…" (10000 characters)`);
  });
});

describe('the message of what was thrown', () => {
  it.each([
    [new Error('no'), 'no'],
    ['text', '"text"'],
    [undefined, 'undefined'],
    [{ code: 1 }, 'an object of Object'],
  ])('is readable: %#', (thrown, message) => {
    expect(messageOf(thrown)).toBe(message);
  });
});

describe('an error', () => {
  it.each([
    ['of this realm', new TypeError('no'), true],
    ['of another realm', runInNewContext('new Error("no")'), true],
    ['that only looks like one', { name: 'Error', message: 'no', stack: '' }, false],
    ['that is nothing', null, false],
  ])('%s is told from what is none', (_which, value, expected) => {
    expect(isError(value)).toBe(expected);
  });

  it('of another realm has its message', () => {
    expect(messageOf(runInNewContext('new Error("far away")'))).toBe('far away');
  });
});

describe('a text from outside in a line of a log', () => {
  it.each([
    ['plain', 'plain'],
    ['画像 🚀', '画像 🚀'],
    ['a\n[Nest] FORGED', 'a\\n[Nest] FORGED'],
    ['\u001b[2J\u2028', '\\u001b[2J\\u2028'],
    ['x'.repeat(300), `${'x'.repeat(256)}…`],
  ])('stays one short line: %j', (text, line) => {
    expect(oneLine(text)).toBe(line);
  });
});
