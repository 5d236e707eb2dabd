import { describe, expect, it } from '@jest/globals';
import { RECENT_RESULTS, RecentResults } from '../../src/execution/worker/recent-results.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { TestClock } from '../../src/testing/test-clock.js';

type Limits = Record<keyof typeof RECENT_RESULTS, number>;

const resize = functionRef('resize', 'media');
const crop = functionRef('crop', 'media');

function setUp(limits: Partial<Limits> = {}): {
  clock: TestClock;
  results: RecentResults;
} {
  const clock = new TestClock();
  return { clock, results: new RecentResults(clock, { ...RECENT_RESULTS, ...limits }) };
}

const reply = (data: unknown): string => JSON.stringify({ k: 'r', d: data });

describe('recent results', () => {
  it('are found by function and call, and nothing else is', () => {
    const { results } = setUp();
    results.remember(resize, 'a', reply(1));
    results.remember(resize, 'b c', reply({ text: 'tab\t, line\n, ü, 😀, \ud800' }));
    expect(results.find(resize, 'a')).toBe(reply(1));
    expect(results.find(resize, 'b c')).toBe(reply({ text: 'tab\t, line\n, ü, 😀, \ud800' }));
    expect(results.find(crop, 'a')).toBeUndefined();
    expect(results.find(resize, 'b')).toBeUndefined();
    expect(results.find(resize, '')).toBeUndefined();
  });

  it('are found when they came after somebody looked, and the last one of a call counts', () => {
    const { results } = setUp();
    results.remember(resize, 'a', reply(1));
    expect(results.find(resize, 'b')).toBeUndefined();
    results.remember(resize, 'b', reply(2));
    results.remember(resize, 'a', reply(3));
    expect([results.find(resize, 'a'), results.find(resize, 'b')]).toEqual([reply(3), reply(2)]);
  });

  it('are kept as many as the limit says at the least, and twice as many at the most', () => {
    const { results } = setUp({ entries: 10 });
    for (let call = 1; call <= 25; call++) results.remember(resize, `${call}`, reply(call));
    const known = Array.from({ length: 25 }, (_, at) => at + 1).filter(
      (call) => results.find(resize, `${call}`) === reply(call),
    );
    expect(known).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
  });

  it('are kept for as long as the limit says at the least, and twice as long at the most', async () => {
    const { clock, results } = setUp({ ttlMs: 1_000 });
    results.remember(resize, 'a', reply(1));
    await clock.advance(1_000);
    results.remember(resize, 'b', reply(2));
    expect(results.find(resize, 'a')).toBe(reply(1));
    await clock.advance(1_000);
    results.remember(resize, 'c', reply(3));
    expect(results.find(resize, 'a')).toBeUndefined();
    expect(results.find(resize, 'b')).toBe(reply(2));
  });

  it('take no more memory than the limit says, twice', () => {
    const { results } = setUp({ bytes: 10_000 });
    const long = reply('x'.repeat(6_000));
    for (const call of ['a', 'b', 'c']) results.remember(resize, call, long);
    expect(['a', 'b', 'c'].map((call) => results.find(resize, call))).toEqual([
      undefined,
      long,
      long,
    ]);
    results.remember(resize, 'too long', reply('x'.repeat(10_000)));
    expect(results.find(resize, 'too long')).toBeUndefined();
  });

  it('are whole when there are many and long ones', () => {
    const { results } = setUp();
    const text = '€'.repeat(10_000);
    for (let call = 0; call < 100; call++)
      results.remember(resize, `${call}`, reply(`${call}${text}`));
    for (let call = 0; call < 100; call++)
      expect(results.find(resize, `${call}`)).toBe(reply(`${call}${text}`));
  });
});
