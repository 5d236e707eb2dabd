/**
 * What measuring costs a call: `node --import ./tools/register-ts.mjs test/metrics/price.ts`. Pairs of a caller and a
 * worker, processes of their own, on one Redis of their own, take turns: `unheard`, to which nobody listens, `heard`,
 * whose metrics and bottlenecks somebody watches, and, with BASELINE=folder of another checkout, `baseline`, which is
 * that one's code: what calls cost before there was anything to listen to. IN_FLIGHT=1,64: how many calls at once.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startRedis } from '../../tools/redis.mjs';
import { CommandLog } from '../harness/command-log.js';
import type { Answer } from '../processes/priced.js';

const TURNS = Number(process.env['TURNS'] ?? 8);
const IN_FLIGHT = (process.env['IN_FLIGHT'] ?? '1,64').split(',').map(Number);
const IDLE_MS = Number(process.env['IDLE_MS'] ?? 10_000);
const OWN = fileURLToPath(new URL('../..', import.meta.url));
const CHILD = fileURLToPath(new URL('../processes/priced.ts', import.meta.url));

interface Pair {
  readonly name: string;
  readonly caller: ChildProcess;
  readonly worker: ChildProcess;
}

/** Of one turn. */
interface Figures {
  readonly perSecond: number;
  /** Microseconds of the processor per call, at caller and worker. */
  readonly cpu: number;
}

async function compare(): Promise<void> {
  const redis = await startRedis();
  const children: ChildProcess[] = [];
  const start = async (name: string, part: string, from = OWN): Promise<ChildProcess> => {
    const env = {
      ...process.env,
      PRICE_REDIS_URL: redis.url,
      ROLE: part,
      PREFIX: `${name}:`,
      FOLDER: from,
    };
    const child = fork(CHILD, { env, execArgv: process.execArgv });
    children.push(child);
    await once(child, 'message');
    return child;
  };
  const startPair = async (name: string, from?: string): Promise<Pair> => ({
    name,
    worker: await start(name, 'worker', from),
    caller: await start(name, 'caller', from),
  });
  const baseline = process.env['BASELINE'];
  const pairs = [await startPair('unheard'), await startPair('heard')];
  if (baseline !== undefined) pairs.push(await startPair('baseline', resolve(baseline)));
  for (const { caller } of pairs) await ask(caller, 1);
  console.log(`idle, nobody listens: ${await idle(redis.url)}`);
  await start('heard', 'watcher');
  console.log(`idle, one pair heard: ${await idle(redis.url)}`);
  for (const inFlight of IN_FLIGHT) await takeTurns(pairs, inFlight);
  for (const child of children) child.disconnect();
  await Promise.all(children.map((child) => once(child, 'exit')));
  await redis.stop();
}

const CHANNELS = ['function:metrics:', 'function:bottleneck:', 'nf:listeners', 'nf:vitals'];

/** What metrics tell while nobody calls. */
async function idle(url: string): Promise<string> {
  const log = await CommandLog.start(url);
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const told = await Promise.all(
    CHANNELS.map(async (channel) => {
      const commands = await log.mentioning(channel);
      const count = commands.filter(({ name }) => name === 'publish').length;
      return `${channel} ${((count * 1_000) / IDLE_MS).toFixed(1)}`;
    }),
  );
  log.close();
  return `messages per second: ${told.join(', ')}`;
}

async function takeTurns(pairs: readonly Pair[], inFlight: number): Promise<void> {
  const figures = new Map(pairs.map(({ name }) => [name, [] as Figures[]]));
  for (let turn = 0; turn <= TURNS; turn += 1) {
    const from = turn % pairs.length;
    for (const pair of [...pairs.slice(from), ...pairs.slice(0, from)]) {
      const taken = await measure(pair, inFlight);
      // The first turn warms up.
      if (turn > 0) figures.get(pair.name)?.push(taken);
    }
  }
  const of = (name: string, figure: keyof Figures): number[] =>
    (figures.get(name) ?? []).map((one) => one[figure]);
  for (const { name } of pairs) {
    const ratios = of(name, 'cpu').map((cpu, turn) => cpu / (of('unheard', 'cpu')[turn] ?? NaN));
    console.log(
      `${inFlight} in flight, ${name}: ${median(of(name, 'perSecond')).toFixed(0)} calls/s, ` +
        `${median(of(name, 'cpu')).toFixed(1)} us of processor a call; to unheard per turn: ` +
        `median ${median(ratios).toFixed(3)}, ${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}`,
    );
  }
}

async function measure({ caller, worker }: Pair, inFlight: number): Promise<Figures> {
  const before = [await ask(caller, 0), await ask(worker, 0)];
  const begin = performance.now();
  const { calls } = await ask(caller, inFlight);
  const seconds = (performance.now() - begin) / 1_000;
  const after = [await ask(caller, 0), await ask(worker, 0)];
  const sum = (answers: readonly Answer[]): number =>
    answers.reduce((all, { cpu }) => all + cpu, 0);
  return { perSecond: calls / seconds, cpu: (sum(after) - sum(before)) / calls };
}

async function ask(child: ChildProcess, inFlight: number): Promise<Answer> {
  const answered = once(child, 'message');
  child.send(inFlight);
  return ((await answered) as [Answer])[0];
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

await compare();
