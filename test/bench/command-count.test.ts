import { describe, expect, it } from '@jest/globals';
import { difference, parseCommandStats } from '../../bench/stage/command-count.js';

function stats(calls: Record<string, number>): Map<string, number> {
  const lines = Object.entries(calls).map(
    ([name, count]) =>
      `cmdstat_${name}:calls=${count},usec=9,usec_per_call=1.00,rejected_calls=0,failed_calls=0`,
  );
  return parseCommandStats(['# Commandstats', ...lines, ''].join('\r\n'));
}

describe('the count of Redis commands', () => {
  it('has the commands between two readings, a script and those inside it', () => {
    const before = stats({ xadd: 10, evalsha: 1, info: 1 });
    const after = stats({ xadd: 15, evalsha: 2, xack: 4, info: 2 });
    expect(difference(before, after)).toEqual({
      total: 10,
      scripts: 1,
      byName: { xadd: 5, evalsha: 1, xack: 4 },
    });
  });

  it("leaves the benchmark's own questions out", () => {
    const after = stats({ info: 3, xlen: 7, 'pubsub|numsub': 1, 'client|unblock': 2 });
    expect(difference(new Map(), after)).toMatchObject({
      total: 2,
      byName: { 'client|unblock': 2 },
    });
  });
});
