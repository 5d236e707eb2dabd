import { chooseBackend } from '../backend-choice.js';
import type { Actor } from './actor.js';
import { crashScene } from './scene-crash.js';
import { handBackScene } from './scene-hand-back.js';
import { readinessScene } from './scene-readiness.js';
import { restartScene } from './scene-restart.js';
import { Stage, type Check, type SceneResult } from './stage.js';
import { Timeline, type Row } from './timeline.js';

const TIME_LIMIT_MS = 120_000;
const HEADING: Row = ['', 'calls', 'lost', 'ran twice', 'median', 'max', 'measured'];

/** What is different, by backend. */
const DIFFERENCE = {
  redis: 'the caller and every worker are processes of their own.',
  memory:
    'all in this one process, so no process can be killed and no connection lost; what that would show is not shown.',
};

const timeline = new Timeline();
let stage: Stage | undefined;

/** Ends everything that runs, and then this process. */
async function end(code: number): Promise<never> {
  await stage?.close();
  process.exit(code);
}

async function play(open: Stage): Promise<SceneResult> {
  await open.startCaller();
  timeline.event('caller', `up (${open.caller.whereabouts}); hosts nothing, only calls`);
  open.watchHealth('caller');
  const workers = new Map<string, Actor>();
  const results = [
    await readinessScene(open),
    await restartScene(open, workers),
    open.hasProcesses ? await crashScene(open, workers) : await handBackScene(open),
  ];
  return {
    rows: results.flatMap(({ rows }) => rows),
    checks: results.flatMap(({ checks }) => checks),
  };
}

function healthRows(open: Stage): Row[] {
  return [...open.health].map(([name, sampler]) => {
    const counts = [...sampler.counts()].map(([code, { count }]) => `${count} x ${code}`);
    return [name, String(sampler.samples), counts.join(', ')];
  });
}

function report(open: Stage, { rows, checks }: SceneResult): boolean {
  timeline.table(HEADING, rows);
  timeline.table(
    ['(d) /health/ready', 'samples', 'answers (none: nobody listened)'],
    healthRows(open),
  );
  timeline.line('');
  for (const { what, holds } of checks) timeline.verdict(what, holds);
  return checks.every((check: Check) => check.holds);
}

async function main(): Promise<void> {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => void end(code));
  const backend = await chooseBackend('demo').catch((error: Error) => {
    console.error(error.message);
    return end(1);
  });
  try {
    timeline.line(`Runs on ${backend.what}: ${DIFFERENCE[backend.kind]}`);
    setTimeout(() => {
      console.error(`The demo took longer than ${TIME_LIMIT_MS} ms: given up.`);
      void end(1);
    }, TIME_LIMIT_MS).unref();
    timeline.heading('nestjs-functions: a caller and three workers');
    stage = await Stage.open(timeline, backend);
    const holds = report(stage, await play(stage));
    await end(holds ? 0 : 1);
  } catch (error) {
    console.error(error);
    await end(1);
  }
}

void main();
