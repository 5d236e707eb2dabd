import { describe, expect, it } from '@jest/globals';
import { BENCHMARK_NAMES } from '../../bench/benchmarks/benchmark.js';
import { parseOptions } from '../../bench/options.js';

describe('the options of npm run bench', () => {
  it('ask for everything, three rounds, by default', () => {
    expect(parseOptions([])).toMatchObject({ only: BENCHMARK_NAMES, rounds: 3, quick: false });
  });

  it('choose benchmarks and rounds', () => {
    const argv = ['--only', 'latency, status', '--rounds', '5', '--quick'];
    expect(parseOptions(argv)).toMatchObject({
      only: ['latency', 'status'],
      rounds: 5,
      quick: true,
    });
  });

  it.each([
    [['--only', 'latencies'], /--only latencies: allowed are latency, /],
    [['--rounds', '0'], /--rounds 0: allowed is a whole number/],
    [['--fast'], /--fast/],
  ])('refuse %p', (argv, message) => {
    expect(() => parseOptions(argv)).toThrow(message);
  });
});
