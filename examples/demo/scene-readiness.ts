import { setTimeout as pause } from 'node:timers/promises';
import { POLL_INTERVAL_MS } from './contract.js';
import type { CallReport } from './messages.js';
import type { SceneResult, Stage } from './stage.js';
import { max, median, ms } from './timeline.js';

const TRIALS = 5;

interface Trial {
  readonly instantMs: number;
  readonly pollingMs: number;
  readonly reports: readonly CallReport[];
}

/**
 * (a) Two calls are made while no worker exists, one waiting by notification and one by polling; then a
 * worker starts. Measured is its `ready` (the backend's clock, in whole milliseconds) to the handler's start
 * (noted by the worker): both waits end with the same `ready`.
 */
export async function readinessScene(stage: Stage): Promise<SceneResult> {
  stage.timeline.heading('(a) A call is made while no worker exists; then one starts');
  const trials: Trial[] = [];
  for (let index = 0; index < TRIALS; index += 1) trials.push(await trial(stage, index));
  const reports = trials.flatMap((one) => one.reports);
  const instant = trials.map(({ instantMs }) => instantMs);
  const polling = trials.map(({ pollingMs }) => pollingMs);
  const lost = reports.filter(({ ok }) => !ok).length;
  const row = (what: string, waits: readonly number[]): string[] => [
    what,
    String(TRIALS),
    String(lost),
    '0',
    ms(median(waits)),
    ms(max(waits)),
    'ready -> handler starts',
  ];
  return {
    rows: [
      row('(a) wait for a worker: notified', instant),
      row(`    the same, polling every ${POLL_INTERVAL_MS} ms`, polling),
    ],
    checks: [
      { what: 'every call that waited for a worker was answered', holds: lost === 0 },
      {
        what: 'a notified call starts sooner after ready than a polling one (medians)',
        holds: median(instant) < median(polling),
      },
    ],
  };
}

async function trial(stage: Stage, index: number): Promise<Trial> {
  const { caller, timeline } = stage;
  const call = 100 + index * 2;
  const file = stage.library.pages[index % stage.library.pages.length] ?? '';
  const answers = [false, true].map((polling) =>
    caller.ask<CallReport>({ do: 'wait', call: call + Number(polling), polling, file }),
  );
  timeline.event('caller', `trial ${index + 1}: two calls, one notified, one polling; no worker`);
  // When a worker becomes ready has nothing to do with when the caller polls: the trials are spread
  // evenly over the interval.
  await pause((index * POLL_INTERVAL_MS) / TRIALS);
  const ready = stage.news('worker-1', 'ready');
  const worker = stage.startWorker('worker-1');
  const { timestamp } = await ready;
  timeline.event('worker-1', `started (${worker.whereabouts}) and ready`);
  const reports = await Promise.all(answers);
  for (const { ok, call, code, message } of reports)
    if (!ok) timeline.event('caller', `call ${call} failed: ${code}: ${message}`);
  const runs = await stage.runs.byCall();
  const [instantMs = NaN, pollingMs = NaN] = reports.map(
    (report) => (runs.get(report.call)?.[0]?.at ?? NaN) - timestamp,
  );
  timeline.event(
    'caller',
    `both answered; after ready the notified call started in ${ms(instantMs)}, the polling one in ${ms(pollingMs)}`,
  );
  const offline = stage.news('worker-1', 'offline');
  await worker.stop();
  await offline;
  return { instantMs, pollingMs, reports };
}
