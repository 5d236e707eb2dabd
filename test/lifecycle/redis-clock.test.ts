import { describe, expect, it } from '@jest/globals';
import { GOOD_SAMPLE_MS, RedisClock } from '../../src/lifecycle/redis-clock.js';

describe('the clock of Redis', () => {
  it('is taken from the middle of an exchange', () => {
    const clock = new RedisClock();
    expect(clock.offsetMs).toBeUndefined();
    expect(clock.note(10_500, 1_000, 1_010)).toBe(9_495);
    expect(clock.isGood).toBe(true);
  });

  it('is not known well from an exchange that took long, until a quicker one', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_600);
    expect(clock.isGood).toBe(false);
    clock.note(6_000, 2_000, 2_000 + GOOD_SAMPLE_MS);
    expect(clock.isGood).toBe(true);
    expect(clock.offsetMs).toBe(4_000 - GOOD_SAMPLE_MS / 2);
  });

  it('is not taken from a late answer when it is known better', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_010);
    expect(clock.note(9_000, 2_000, 4_000)).toBe(3_995);
    expect(clock.isGood).toBe(true);
  });

  it('follows when it moves', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_002);
    expect(clock.note(7_000, 2_000, 2_010)).toBe(4_995);
  });
});
