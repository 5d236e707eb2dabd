import type { Child } from './child.js';
import { crashScene } from './scene-crash.js';
import { readinessScene } from './scene-readiness.js';
import { restartScene } from './scene-restart.js';
import { Stage, type Check, type SceneResult } from './stage.js';
import { Timeline, type Row } from './timeline.js';

const TIME_LIMIT_MS = 120_000;
const HEADING: Row = ['', 'calls', 'lost', 'ran twice', 'median', 'max', 'measured'];

const timeline = new Timeline();
let stage: Stage | undefined;

/** Ends everything that runs, and then this process. */
async function end(code: number): Promise<never> {
  await stage?.close();
  process.exit(code);
}

async function play(open: Stage): Promise<SceneResult> {
  await open.startCaller();
  timeline.event('caller', `up (pid ${open.caller.pid}); hosts nothing, only calls`);
  open.watchHealth('caller');
  const workers = new Map<string, Child>();
  const results = [
    await readinessScene(open),
    await restartScene(open, workers),
    await crashScene(open, workers),
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
  setTimeout(() => {
    console.error(`The demo took longer than ${TIME_LIMIT_MS} ms: given up.`);
    void end(1);
  }, TIME_LIMIT_MS).unref();
  try {
    timeline.heading(
      'nestjs-functions: a caller, three workers and a Redis, each a process of its own',
    );
    stage = await Stage.open(timeline);
    const holds = report(stage, await play(stage));
    await end(holds ? 0 : 1);
  } catch (error) {
    console.error(error);
    await end(1);
  }
}

void main();
