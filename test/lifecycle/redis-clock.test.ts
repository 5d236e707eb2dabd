import { describe, expect, it } from '@jest/globals';
import { Membership } from '../../src/lifecycle/membership.js';
import { EXACT_SAMPLE_MS, GOOD_SAMPLE_MS, RedisClock } from '../../src/lifecycle/redis-clock.js';
import { SessionKeeper } from '../../src/lifecycle/session-keeper.js';
import { Keys } from '../../src/protocol/keys.js';
import { TestClock } from '../../src/testing/test-clock.js';

describe('the clock of Redis', () => {
  it('is taken from the middle of an exchange', () => {
    const clock = new RedisClock();
    expect(clock.offsetMs).toBeUndefined();
    expect(clock.note(10_500, 1_000, 1_000 + EXACT_SAMPLE_MS)).toBe(9_500 - EXACT_SAMPLE_MS / 2);
    expect(clock.isExact).toBe(true);
  });

  it('is not known well from an exchange that took long, until a quicker one', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_600);
    expect(clock.isExact).toBe(false);
    clock.note(6_000, 2_000, 2_000 + GOOD_SAMPLE_MS);
    expect(clock.offsetMs).toBe(4_000 - GOOD_SAMPLE_MS / 2);
  });

  it('is not taken from a late answer when it is known better', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_010);
    expect(clock.note(9_000, 2_000, 4_000)).toBe(3_995);
  });

  it('follows when it moves', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_002);
    expect(clock.note(7_000, 2_000, 2_010)).toBe(4_995);
  });

  it('stays as exact as it is when a slower answer does not contradict it', () => {
    const clock = new RedisClock();
    clock.note(5_000, 1_000, 1_002);
    expect(clock.note(6_039, 2_000, 2_040)).toBe(3_999);
  });

  it('is measured again before the first call when the join was answered slowly, and the best answer holds', async () => {
    const clock = new TestClock('frozen');
    const aheadMs = 10_000;
    const answer = (afterMs: number, backMs: number): number => {
      clock.tick(afterMs);
      const timestamp = clock.now() + aheadMs;
      clock.tick(backMs);
      return timestamp;
    };
    const beats: [number, number][] = [
      [0, 30],
      [1, 1],
      [0, 40],
    ];
    const workers = {
      join: () => Promise.resolve({ sessionId: 's', epoch: answer(0, 42) }),
      heartbeat: () =>
        Promise.resolve({ verdict: 'alive', timestamp: answer(...(beats.shift() ?? [0, 0])) }),
    };
    const subscription = { unsubscribe: () => Promise.resolve() };
    const keeper = new SessionKeeper(
      new Membership('p'),
      { workers } as never,
      { subscribe: () => Promise.resolve(subscription) } as never,
      new Keys('p:'),
      { leaseMs: 60_000 } as never,
      clock,
      {} as never,
    );
    expect(await keeper.take()).toMatchObject({ offsetMs: aheadMs });
    expect(beats).toHaveLength(1);
    await keeper.stop();
  });
});
