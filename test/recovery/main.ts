/**
 * `npm run bench:recovery`: how long things take when processes die, freeze and come back, beside BullMQ with its
 * defaults where it can do the same. Prints a table and writes bench-recovery/results.json; fails when a target is
 * missed.
 *
 * --trials   of each, default 30
 * --bullmq   false: leaves the comparison out, which takes minutes
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { resolveRedisServer, startRedis } from '../../tools/redis.mjs';
import { bullMqLoss, bullMqReadiness, bullMqRedisBack, bullMqVersion } from './bullmq-trials.js';
import { freeze, processDeath, readiness, redisBack, rolling } from './trials.js';

const { values } = parseArgs({
  options: {
    trials: { type: 'string', default: '30' },
    bullmq: { type: 'string', default: 'true' },
  },
});
const trials = Number(values.trials);
const compares = values.bullmq !== 'false';
const DEFAULT_LEASE_MS = 5_000;

interface Distribution {
  readonly trials: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

interface Row {
  readonly what: string;
  readonly ours: Distribution;
  readonly bullmq: Distribution | undefined;
  readonly target: string;
  readonly met: boolean;
}

function distribution(samples: readonly number[]): Distribution {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (part: number): number =>
    sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? NaN;
  return { trials: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? NaN };
}

const rows: Row[] = [];
function add(what: string, ours: number[], limitMs: number | undefined, bullmq?: number[]): void {
  const mine = distribution(ours);
  rows.push({
    what,
    ours: mine,
    bullmq: bullmq === undefined ? undefined : distribution(bullmq),
    target: limitMs === undefined ? '' : `p99 <= ${limitMs} ms`,
    met: limitMs === undefined || mine.p99 <= limitMs,
  });
}

function say(text: string): void {
  console.log(text);
}

const redis = await startRedis();
const { version: redisVersion } = await resolveRedisServer();
try {
  say('process death ...');
  const death = await processDeath(redis.url, trials);
  say('process death of the supervisor ...');
  const headless = await processDeath(redis.url, trials, true);
  say('freeze ...');
  const frozen = await freeze(redis.url, trials);
  say('readiness ...');
  const ready = await readiness(redis.url, trials);
  say('rolling restart ...');
  const restarts = await rolling(redis.url, trials);
  say('Redis killed ...');
  const back = await redisBack(trials);
  let theirs: Partial<Record<'death' | 'frozen' | 'ready' | 'back', number[]>> = {};
  if (compares) {
    say('BullMQ: crashes and freezes, side by side, up to two minutes ...');
    const [deaths, freezes] = await Promise.all([
      bullMqLoss(redis.port, 'SIGKILL'),
      bullMqLoss(redis.port, 'SIGSTOP'),
    ]);
    say('BullMQ: readiness and Redis killed ...');
    theirs = {
      death: deaths,
      frozen: freezes,
      ready: await bullMqReadiness(redis.port, trials),
      back: await bullMqRedisBack(trials),
    };
  }
  add('process death -> its call runs elsewhere', death.elsewhere, 250, theirs.death);
  add('process death -> at-most-once caller told', death.told, 250);
  add('death of the supervising worker -> its call runs elsewhere', headless.elsewhere, undefined);
  add('freeze -> its call runs elsewhere', frozen, DEFAULT_LEASE_MS + 1_000, theirs.frozen);
  add('worker ready -> waiting call starts', ready, undefined, theirs.ready);
  add('Redis back, empty -> a call is done', back, 2_000, theirs.back);
  add('rolling restart: slowest call', [...restarts.slowest], undefined);
  const { calls, lost, twice } = restarts;
  const clean = lost === 0 && twice === 0;
  const cpu = cpus();
  const setting = {
    machine: `${cpu.length} x ${cpu[0]?.model ?? 'cpu'}`,
    node: process.version,
    redis: redisVersion,
    bullmq: compares ? bullMqVersion() : undefined,
  };
  print(rows);
  say(`\nrolling restart of ${trials} workers: ${calls} calls, ${lost} lost, ${twice} run twice`);
  say(
    Object.entries(setting)
      .map(([name, value]) => `${name} ${value ?? '-'}`)
      .join(', '),
  );
  const results = { setting, rows, rolling: { restarts: trials, calls, lost, twice } };
  const file = new URL('../../bench-recovery/results.json', import.meta.url);
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`);
  const missed = rows.filter(({ met }) => !met).map(({ what }) => what);
  if (!clean) missed.push('rolling restart: 0 lost, 0 run twice');
  if (missed.length > 0) say(`\nmissed: ${missed.join('; ')}`);
  process.exitCode = missed.length > 0 ? 1 : 0;
} finally {
  await redis.stop();
}

function print(all: readonly Row[]): void {
  const head = ['', 'p50', 'p99', 'max', 'trials', 'target', 'BullMQ p50', 'max', 'trials'];
  const lines = all.map(({ what, ours, bullmq, target, met }) => [
    what,
    ...[ours.p50, ours.p99, ours.max].map(ms),
    String(ours.trials),
    target === '' ? '' : `${target}: ${met ? 'met' : 'MISSED'}`,
    ...(bullmq === undefined
      ? ['', '', '']
      : [ms(bullmq.p50), ms(bullmq.max), String(bullmq.trials)]),
  ]);
  const widths = head.map((_, column) =>
    Math.max(...[head, ...lines].map((line) => line[column]?.length ?? 0)),
  );
  const text = (line: readonly string[]): string =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  say(`\n${text(head)}\n${text(widths.map((width) => '-'.repeat(width)))}`);
  for (const line of lines) say(text(line));
}

function ms(value: number): string {
  return value < 10 ? `${value.toFixed(1)} ms` : `${value.toFixed(0)} ms`;
}
