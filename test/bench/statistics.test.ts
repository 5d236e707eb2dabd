import { describe, expect, it } from '@jest/globals';
import { median, percentile, spread } from '../../bench/report/statistics.js';

describe('statistics of the benchmark', () => {
  it.each([
    [[3, 1, 2], 2],
    [[4, 1, 3, 2], 2.5],
    [[7], 7],
    [[], NaN],
  ])('gives the median of %p as %p', (samples, expected) => {
    expect(median(samples)).toBe(expected);
  });

  it('gives percentiles by nearest rank, whatever the order of the samples', () => {
    const samples = Array.from({ length: 200 }, (_, index) => 200 - index);
    expect(percentile(samples, 50)).toBe(100);
    expect(percentile(samples, 99)).toBe(198);
    expect(percentile(samples, 100)).toBe(200);
    expect(percentile([5], 99)).toBe(5);
    expect(percentile([], 99)).toBeNaN();
  });

  it('gives the spread of the middle half, which an outlier does not move', () => {
    expect(spread([10, 10, 10, 10])).toBe(0);
    expect(spread([9, 10, 10, 11, 9, 10, 11, 1_000])).toBe(0.2);
  });
});
