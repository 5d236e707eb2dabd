import { median } from './statistics.js';
import type { Measurements } from './measurements.js';
import { metric } from './metrics.js';
import { figure, times, type Table } from './table.js';
import type { Target, Verdict } from './targets.js';

/** The last table: every target, what was measured, and whether it is met. */
export function verdictTable(verdicts: readonly Verdict[], measurements: Measurements): Table {
  const count = (state: Verdict['state']): number =>
    verdicts.filter((verdict) => verdict.state === state).length;
  return {
    title: 'Targets (medians of all rounds, this run)',
    head: ['', 'measured', 'spread', 'target', 'verdict'],
    rows: verdicts.map((verdict) => [
      verdict.target.what,
      verdict.state === 'not measured' ? '-' : show(verdict.target, verdict.value),
      spreadOf(verdict.target, measurements),
      `${verdict.target.bound === 'at most' ? '<=' : '>='} ${show(verdict.target, verdict.target.limit)}`,
      verdict.state === 'missed' ? 'MISSED' : verdict.state,
    ]),
    notes: [
      `${count('met')} met, ${count('missed')} missed, ${count('not measured')} not measured`,
      "spread: the middle half of our own figure's rounds, as a part of their median",
      ...loadNote(measurements.values(metric.otherLoad), 'just before the figures'),
      ...loadNote(measurements.values(metric.otherLoadDuring), 'during those of calls'),
      ...reasonsOf(verdicts),
    ],
  };
}

function show({ unit }: Target, value: number): string {
  return unit === 'x' ? times(value) : `${figure(value)} ${unit}`;
}

function spreadOf({ of }: Target, measurements: Measurements): string {
  const spread = measurements.spread(of);
  return spread === undefined || Number.isNaN(spread) ? '' : `${Math.round(spread * 100)} %`;
}

function loadNote(percents: readonly number[], when: string): string[] {
  if (percents.length === 0) return [];
  const [least, most] = [Math.min(...percents), Math.max(...percents)].map(Math.round);
  const middle = Math.round(median(percents));
  return [`other programs kept the cores ${least} to ${most} % busy (median ${middle} %) ${when}`];
}

function reasonsOf(verdicts: readonly Verdict[]): string[] {
  return verdicts.flatMap((verdict) =>
    verdict.state === 'not measured'
      ? [`not measured: ${verdict.target.what}: ${verdict.reason}`]
      : [],
  );
}
