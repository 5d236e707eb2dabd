import type { Delivery } from 'nestjs-functions';
import { now, type ActorEvent, type CallReport } from './messages.js';
import type { Run } from './run-log.js';
import type { Check, Stage } from './stage.js';
import { max, median, ms, type Row } from './timeline.js';

const FIRST_CALL = 10_001;
const BOOK_PAGES = 200;
const CALLS_OF_A_KIND = 6;
const MOST_CALLS = 24;

type Running = Extract<ActorEvent, { event: 'running' }>;

/** A long call, and the worker that runs it. */
export interface LongCall {
  readonly call: number;
  readonly delivery: Delivery;
  readonly workerId: string;
  readonly settled: Promise<CallReport>;
}

/** What became of it. */
export interface Outcome extends LongCall {
  readonly report: CallReport;
  readonly runs: readonly Run[];
}

/** What became of the calls of a worker that left in the middle of them, and of all others. */
export interface Aftermath {
  readonly again: readonly Outcome[];
  readonly once: readonly Outcome[];
  readonly others: readonly Outcome[];
  readonly leftAt: number;
}

/** Makes long calls, first of one kind, then of the other, until one of these workers is busy with both. */
export async function occupy(
  stage: Stage,
  names: readonly string[],
): Promise<{ calls: LongCall[]; victim: string }> {
  const calls: LongCall[] = [];
  while (calls.length < MOST_CALLS) {
    const odd = Math.floor(calls.length / CALLS_OF_A_KIND) % 2 === 1;
    const delivery = odd ? 'at-most-once' : 'at-least-once';
    calls.push(await longCall(stage, FIRST_CALL + calls.length, delivery));
    const victim = names.find((name) => hasBoth(calls, name));
    if (victim !== undefined && calls.length % CALLS_OF_A_KIND === 0) return { calls, victim };
  }
  throw new Error('no worker took a call of each kind');
}

function hasBoth(calls: readonly LongCall[], name: string): boolean {
  const kinds = callsOf(calls, name).map(({ delivery }) => delivery);
  return kinds.includes('at-least-once') && kinds.includes('at-most-once');
}

export function callsOf(calls: readonly LongCall[], name: string): LongCall[] {
  return calls.filter(({ workerId }) => workerId === name);
}

async function longCall(stage: Stage, call: number, delivery: Delivery): Promise<LongCall> {
  const running = stage.until((event): event is Running => isRunning(event, call), `call ${call}`);
  const files = stage.library.shelf.slice(0, BOOK_PAGES);
  const settled = stage.caller.ask<CallReport>({ do: 'render', call, delivery, files });
  const { workerId } = await running;
  stage.timeline.event(workerId, `runs ${delivery} call ${call} (${files.length} files)`);
  return { call, delivery, workerId, settled };
}

function isRunning(event: ActorEvent, call: number): event is Running {
  return event.event === 'running' && event.call === call;
}

/**
 * Prints what becomes of calls whose worker left, as it happens.
 *
 * @param since what a time is counted from, for people: `the death`
 */
export function tellWhatFollows(
  stage: Stage,
  hit: readonly LongCall[],
  leftAt: number,
  since: string,
): void {
  const after = (at: number): string => `${ms(at - leftAt)} after ${since}`;
  stage.on((event) => {
    const again = hit.find(({ call }) => isRunning(event, call));
    if (again === undefined || event.event !== 'running') return;
    stage.timeline.event(event.workerId, `runs call ${again.call} again, ${after(now())}`);
  });
  for (const { call, delivery, settled } of hit) {
    const tell = ({ ok, code, settledAt }: CallReport): void =>
      stage.timeline.event(
        'caller',
        `${delivery} call ${call}: ${ok ? 'answered' : code}, ${after(settledAt)}`,
      );
    settled.then(tell, () => undefined);
  }
}

/** Waits for the end of all calls. */
export async function aftermath(
  stage: Stage,
  calls: readonly LongCall[],
  victim: string,
  leftAt: number,
): Promise<Aftermath> {
  const reports = await Promise.all(calls.map(({ settled }) => settled));
  const runs = await stage.runs.byCall();
  const outcomes = calls.map((call, index) => ({
    ...call,
    report: reports[index] as CallReport,
    runs: runs.get(call.call) ?? [],
  }));
  stage.timeline.event('caller', `all ${calls.length} calls settled`);
  // One that was answered before is not part of this.
  const hit = outcomes.filter(
    ({ workerId, report }) => workerId === victim && report.settledAt > leftAt,
  );
  return {
    again: hit.filter(({ delivery }) => delivery === 'at-least-once'),
    once: hit.filter(({ delivery }) => delivery === 'at-most-once'),
    others: outcomes.filter(({ workerId }) => workerId !== victim),
    leftAt,
  };
}

/**
 * Both kinds as rows of the table.
 *
 * @param what of the table's first column
 * @param since what times are counted from
 */
export function rowsOf(
  { again, once, leftAt }: Aftermath,
  what: string,
  since: string,
): [Row, Row] {
  const lost = again.filter(({ report }) => !report.ok).length;
  const twice = once.filter(({ runs }) => runs.length > 1).length;
  const againMs = again.flatMap(({ runs }) => runs.slice(1).map(({ at }) => at - leftAt));
  const onceMs = once.map(({ report }) => report.settledAt - leftAt);
  const times = (all: readonly number[]): string[] => [ms(median(all)), ms(max(all))];
  return [
    [
      `(c) ${what}: at-least-once`,
      ...[String(again.length), String(lost), 'meant', ...times(againMs)],
      `${since} -> runs elsewhere`,
    ],
    [
      '    the same, at-most-once',
      ...[String(once.length), '0', String(twice), ...times(onceMs)],
      `${since} -> caller is told`,
    ],
  ];
}

/** @param whose for example `the killed worker’s` */
export function checksOf({ again, once, others }: Aftermath, whose: string): Check[] {
  return [
    {
      what: `${whose} at-least-once calls ran again and were answered`,
      holds: again.every(({ report }) => report.ok) && again.some(({ runs }) => runs.length === 2),
    },
    {
      what: 'its at-most-once calls were told WORKER_LOST, and not run again',
      holds:
        once.every(({ runs }) => runs.length === 1) &&
        once.some(({ report }) => report.code === 'WORKER_LOST'),
    },
    {
      what: 'the other workers’ calls were answered and ran once',
      holds: others.every(({ report, runs }) => report.ok && runs.length === 1),
    },
  ];
}
