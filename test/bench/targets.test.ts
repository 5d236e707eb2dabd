import { describe, expect, it } from '@jest/globals';
import { Measurements } from '../../bench/report/measurements.js';
import { exitCodeOf, judge, TARGETS, type Target } from '../../bench/report/targets.js';
import { verdictTable } from '../../bench/report/verdict-table.js';
import { renderTable } from '../../bench/report/table.js';

const atMost: Target = {
  benchmark: 'latency',
  what: 'ours to theirs',
  of: 'ours',
  to: 'theirs',
  bound: 'at most',
  limit: 0.75,
  unit: 'x',
};
const atLeast: Target = { ...atMost, what: 'speed', bound: 'at least', limit: 2 };

function measured(figures: Record<string, number[]>): Measurements {
  const measurements = new Measurements();
  for (const [metric, values] of Object.entries(figures))
    for (const value of values) measurements.add(metric, value);
  return measurements;
}

describe('a target of the benchmark', () => {
  it.each([
    [atMost, [3], [4], 'met'],
    [atMost, [3.01], [4], 'missed'],
    [atLeast, [8], [4], 'met'],
    [atLeast, [7.9], [4], 'missed'],
  ])('%# is judged by its bound, which itself holds', (target, ours, theirs, state) => {
    expect(judge(target, measured({ ours, theirs })).state).toBe(state);
  });

  it('divides medians, so that one disturbed round decides nothing', () => {
    const measurements = measured({ ours: [3, 3, 90], theirs: [4, 0.1, 4] });
    expect(judge(atMost, measurements)).toMatchObject({ state: 'met', value: 0.75 });
  });

  it('can be a difference, and a figure by itself', () => {
    const { to: _, ...plain } = atMost;
    const measurements = measured({ ours: [3], theirs: [2.5] });
    expect(judge({ ...plain, minus: 'theirs' }, measurements)).toMatchObject({ value: 0.5 });
    expect(judge({ ...plain, limit: 2 }, measurements)).toMatchObject({
      state: 'missed',
      value: 3,
    });
  });

  it('is never met without its figures, and says why there are none', () => {
    const measurements = measured({ ours: [1] });
    measurements.skip('theirs', 'no nats-server');
    expect(judge(atMost, measurements)).toEqual({
      target: atMost,
      state: 'not measured',
      reason: 'no nats-server',
    });
  });
});

describe('the exit code of the benchmark', () => {
  const met = judge(atMost, measured({ ours: [1], theirs: [4] }));
  const missed = judge(atMost, measured({ ours: [4], theirs: [4] }));
  const unknown = judge(atMost, measured({}));

  it.each([
    [[met, met], 0],
    [[met, missed], 1],
    [[missed, unknown], 1],
    [[met, unknown], 2],
  ])('of %# is not 0 unless everything is met', (verdicts, code) => {
    expect(exitCodeOf(verdicts)).toBe(code);
  });

  it('comes with a table that counts and names what is missed and what is not measured', () => {
    const text = renderTable(verdictTable([met, missed, unknown], measured({ ours: [1] })));
    expect(text).toContain('1.00 x');
    expect(text).toContain('MISSED');
    expect(text).toContain('1 met, 1 missed, 1 not measured');
    expect(text).toContain('not measured: ours to theirs: it has no figure');
  });
});

describe('the targets of the benchmark', () => {
  it('are all told apart', () => {
    expect(new Set(TARGETS.map(({ what }) => what)).size).toBe(TARGETS.length);
  });
});
