import { figure, times, type Table } from './table.js';
import type { Target, Verdict } from './targets.js';

/** The last table: every target, what was measured, and whether it is met. */
export function verdictTable(verdicts: readonly Verdict[]): Table {
  const count = (state: Verdict['state']): number =>
    verdicts.filter((verdict) => verdict.state === state).length;
  return {
    title: 'Targets (medians of the rounds, this run)',
    head: ['', 'measured', 'target', 'verdict'],
    rows: verdicts.map((verdict) => [
      verdict.target.what,
      verdict.state === 'not measured' ? '-' : show(verdict.target, verdict.value),
      `${verdict.target.bound === 'at most' ? '<=' : '>='} ${show(verdict.target, verdict.target.limit)}`,
      verdict.state === 'missed' ? 'MISSED' : verdict.state,
    ]),
    notes: [
      `${count('met')} met, ${count('missed')} missed, ${count('not measured')} not measured`,
      ...reasonsOf(verdicts),
    ],
  };
}

function show({ unit }: Target, value: number): string {
  return unit === 'x' ? times(value) : `${figure(value)} ${unit}`;
}

function reasonsOf(verdicts: readonly Verdict[]): string[] {
  return verdicts.flatMap((verdict) =>
    verdict.state === 'not measured'
      ? [`not measured: ${verdict.target.what}: ${verdict.reason}`]
      : [],
  );
}
