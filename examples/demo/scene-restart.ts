import { setTimeout as pause } from 'node:timers/promises';
import type { Actor } from './actor.js';
import type { ActorEvent, StreamReport } from './messages.js';
import type { SceneResult, Stage } from './stage.js';
import { max, median, ms } from './timeline.js';

const FIRST_CALL = 1_000;
const CALL_EVERY_MS = 15;
const BOOK_EVERY = 25;
const BOOK_PAGES = 40;
const STEADY_MS = 600;

type Drained = Extract<ActorEvent, { event: 'drained' }>;

/**
 * (b) All workers are restarted, one after another, under a steady stream of calls. The harder way round:
 * a worker is told to go first, and its replacement starts when it is gone.
 */
export async function restartScene(
  stage: Stage,
  workers: Map<string, Actor>,
): Promise<SceneResult> {
  const { caller, timeline, library } = stage;
  timeline.heading('(b) Rolling restart of all workers under a steady stream of calls');
  await startAll(stage, workers);
  stage.watchHealth('worker-1');
  await caller.ask({
    do: 'start-stream',
    call: FIRST_CALL,
    everyMs: CALL_EVERY_MS,
    pages: library.pages,
    book: library.shelf.slice(0, BOOK_PAGES),
    bookEvery: BOOK_EVERY,
  });
  timeline.event(
    'caller',
    `a call every ${CALL_EVERY_MS} ms; every ${BOOK_EVERY}th renders ${BOOK_PAGES} files`,
  );
  await pause(STEADY_MS);
  for (const name of stage.workerNames) {
    await restart(stage, workers, name);
    await pause(STEADY_MS / 3);
  }
  const { calls } = await caller.ask<StreamReport>({ do: 'stop-stream' });
  timeline.event('caller', `stream stopped after ${calls.length} calls, all settled`);
  return judge(stage, calls);
}

async function startAll(stage: Stage, workers: Map<string, Actor>): Promise<void> {
  await Promise.all(
    stage.workerNames.map(async (name) => {
      const ready = stage.news(name, 'ready');
      workers.set(name, stage.startWorker(name));
      await ready;
      stage.timeline.event(name, 'ready');
    }),
  );
}

async function restart(stage: Stage, workers: Map<string, Actor>, name: string): Promise<void> {
  const { timeline } = stage;
  const worker = workers.get(name);
  if (worker === undefined) throw new Error(`${name} does not run`);
  const isDrained = (event: ActorEvent): event is Drained => event.event === 'drained';
  const drained = stage.until(isDrained, `the drain of ${name}`);
  const offline = stage.news(name, 'offline');
  timeline.event(name, worker.dismiss());
  // One that dies instead of draining says nothing.
  const report = await Promise.race([drained, worker.ended.then(() => undefined)]);
  const { reason } = await offline;
  timeline.event(name, `${textOf(report)}; offline: ${reason}`);
  const how = await worker.ended;
  const ready = stage.news(name, 'ready');
  const replacement = stage.startWorker(name);
  workers.set(name, replacement);
  timeline.event(name, `${how}; replacement started`);
  await ready;
  timeline.event(name, `ready (${replacement.whereabouts})`);
}

function textOf(report: Drained | undefined): string {
  if (report === undefined) return 'not drained';
  return `drained: ${report.finished} finished, ${report.handedBack} handed back`;
}

async function judge(stage: Stage, calls: StreamReport['calls']): Promise<SceneResult> {
  const runs = await stage.runs.byCall();
  const failed = calls.filter(({ ok }) => !ok);
  const twice = calls.filter(({ call }) => (runs.get(call)?.length ?? 0) > 1);
  const never = calls.filter(({ ok, call }) => ok && !runs.has(call));
  const times = calls.map(({ madeAt, settledAt }) => settledAt - madeAt);
  for (const { call, code, message } of failed.slice(0, 3))
    stage.timeline.event('caller', `call ${call} failed: ${code}: ${message}`);
  return {
    rows: [
      [
        `(b) rolling restart of ${stage.workerNames.length} workers`,
        String(calls.length),
        String(failed.length),
        String(twice.length),
        ms(median(times)),
        ms(max(times)),
        'call -> answer',
      ],
    ],
    checks: [
      { what: 'the rolling restart lost no call', holds: failed.length + never.length === 0 },
      { what: 'the rolling restart ran no call twice', holds: twice.length === 0 },
    ],
  };
}
