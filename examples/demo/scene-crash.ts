import type { Delivery } from 'nestjs-functions';
import type { Child } from './child.js';
import { now, type CallReport, type ChildEvent } from './messages.js';
import type { Run } from './run-log.js';
import type { Check, SceneResult, Stage } from './stage.js';
import { max, median, ms, type Row } from './timeline.js';

const FIRST_CALL = 10_001;
const BOOK_PAGES = 200;
const CALLS_OF_A_KIND = 6;
const MOST_CALLS = 24;

type Running = Extract<ChildEvent, { event: 'running' }>;

/** A long call, and the worker that runs it. */
interface LongCall {
  readonly call: number;
  readonly delivery: Delivery;
  readonly workerId: string;
  readonly settled: Promise<CallReport>;
}

/** What became of it. */
interface Outcome extends LongCall {
  readonly report: CallReport;
  readonly runs: readonly Run[];
}

/** (c) A worker is killed in mid-call. Some of its calls may run again, the others must not. */
export async function crashScene(
  stage: Stage,
  workers: ReadonlyMap<string, Child>,
): Promise<SceneResult> {
  stage.timeline.heading('(c) A worker is killed in mid-call (SIGKILL)');
  const { calls, victim } = await occupy(stage);
  const worker = workers.get(victim);
  if (worker === undefined) throw new Error(`${victim} does not run`);
  const hit = calls.filter(({ workerId }) => workerId === victim);
  const offline = stage.news(victim, 'offline');
  const killedAt = now();
  worker.signal('SIGKILL');
  stage.timeline.event(
    victim,
    `SIGKILL to pid ${worker.pid} while it runs ${hit.map(({ call }) => call).join(', ')}`,
  );
  tellWhatFollows(stage, hit, killedAt);
  const { reason } = await offline;
  stage.timeline.event(
    'caller',
    `hears: ${victim} offline (${reason}), ${ms(now() - killedAt)} after its death`,
  );
  const outcomes = await settle(stage, calls);
  stage.timeline.event('caller', `all ${calls.length} calls settled`);
  return judge(outcomes, victim, killedAt);
}

/** Makes long calls, first of one kind, then of the other, until a worker is busy with both. */
async function occupy(stage: Stage): Promise<{ calls: LongCall[]; victim: string }> {
  const calls: LongCall[] = [];
  while (calls.length < MOST_CALLS) {
    const odd = Math.floor(calls.length / CALLS_OF_A_KIND) % 2 === 1;
    const delivery = odd ? 'at-most-once' : 'at-least-once';
    calls.push(await longCall(stage, FIRST_CALL + calls.length, delivery));
    const victim = stage.workerNames.find((name) => hasBoth(calls, name));
    if (victim !== undefined && calls.length % CALLS_OF_A_KIND === 0) return { calls, victim };
  }
  throw new Error('no worker took a call of each kind');
}

function hasBoth(calls: readonly LongCall[], name: string): boolean {
  const kinds = calls.filter(({ workerId }) => workerId === name).map(({ delivery }) => delivery);
  return kinds.includes('at-least-once') && kinds.includes('at-most-once');
}

async function longCall(stage: Stage, call: number, delivery: Delivery): Promise<LongCall> {
  const running = stage.until((event): event is Running => isRunning(event, call), `call ${call}`);
  const files = stage.library.shelf.slice(0, BOOK_PAGES);
  const settled = stage.caller.ask<CallReport>({ do: 'render', call, delivery, files });
  const { workerId } = await running;
  stage.timeline.event(workerId, `runs ${delivery} call ${call} (${files.length} files)`);
  return { call, delivery, workerId, settled };
}

function isRunning(event: ChildEvent, call: number): event is Running {
  return event.event === 'running' && event.call === call;
}

/** Prints what becomes of the killed worker's calls, as it happens. */
function tellWhatFollows(stage: Stage, hit: readonly LongCall[], killedAt: number): void {
  const after = (at: number): string => `${ms(at - killedAt)} after the death`;
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

async function settle(stage: Stage, calls: readonly LongCall[]): Promise<Outcome[]> {
  const reports = await Promise.all(calls.map(({ settled }) => settled));
  const runs = await stage.runs.byCall();
  return calls.map((call, index) => ({
    ...call,
    report: reports[index] as CallReport,
    runs: runs.get(call.call) ?? [],
  }));
}

function judge(outcomes: readonly Outcome[], victim: string, killedAt: number): SceneResult {
  // One that was answered before the kill is not part of this.
  const hit = outcomes.filter(
    ({ workerId, report }) => workerId === victim && report.settledAt > killedAt,
  );
  const again = hit.filter(({ delivery }) => delivery === 'at-least-once');
  const once = hit.filter(({ delivery }) => delivery === 'at-most-once');
  const others = outcomes.filter(({ workerId }) => workerId !== victim);
  const againMs = again.flatMap(({ runs }) => runs.slice(1).map(({ at }) => at - killedAt));
  const onceMs = once.map(({ report }) => report.settledAt - killedAt);
  const lost = again.filter(({ report }) => !report.ok).length;
  const twice = once.filter(({ runs }) => runs.length > 1).length;
  return {
    rows: [
      row('(c) killed worker: at-least-once', again, lost, 'meant', againMs, 'runs elsewhere'),
      row('    the same, at-most-once', once, 0, String(twice), onceMs, 'caller is told'),
    ],
    checks: checksOf(again, once, others),
  };
}

function checksOf(
  again: readonly Outcome[],
  once: readonly Outcome[],
  others: readonly Outcome[],
): Check[] {
  return [
    {
      what: 'the killed worker’s at-least-once calls ran again and were answered',
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

function row(
  what: string,
  outcomes: readonly Outcome[],
  lost: number,
  twice: string,
  times: readonly number[],
  measured: string,
): Row {
  const numbers = [outcomes.length, lost].map(String);
  return [what, ...numbers, twice, ms(median(times)), ms(max(times)), `death -> ${measured}`];
}
