import { randomUUID } from 'node:crypto';
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { startRedis } from '../../tools/redis.mjs';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';
import { now, Runs } from './bench-process.js';

const home = new URL('../../bench-recovery/', import.meta.url);

/** What the bench uses of BullMQ; it is no dependency of the library. */
interface Queue {
  add(name: string, data: object, options?: object): Promise<Job>;
  close(): Promise<void>;
  on(event: 'error', listener: () => void): unknown;
}
interface Job {
  waitUntilFinished(events: QueueEvents, ttl?: number): Promise<unknown>;
}
interface QueueEvents {
  waitUntilReady(): Promise<unknown>;
  close(): Promise<void>;
  on(event: 'error', listener: () => void): unknown;
}
interface BullMq {
  Queue: new (name: string, options: object) => Queue;
  QueueEvents: new (name: string, options: object) => QueueEvents;
}

/** Nine tenths of a minute of lock, sweeps of half a minute: a trial can take 104 s, so they run side by side. */
const SIDE_BY_SIDE = 6;
const CRASH_LIMIT_MS = 150_000;

function load(): BullMq {
  return createRequire(home)('bullmq') as BullMq;
}

/** Version of what is compared with. */
export function bullMqVersion(): string {
  return (createRequire(home)('bullmq/package.json') as { version: string }).version;
}

async function startWorker(runs: Runs, port: number): Promise<TestProcess> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('bullmq-worker.mjs', home))], {
    env: { PATH: process.env['PATH'] ?? '', REDIS_PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  runs.watch(child);
  const worker = TestProcess.of(child);
  await worker.message('ready', 30_000);
  return worker;
}

async function open(worker: TestProcess, queue: string): Promise<void> {
  const before = worker.all('open').length;
  worker.send({ type: 'open', queue });
  await eventually('it is open', () => worker.all('open').length > before, 30_000);
}

/** kill -9 or SIGSTOP of a worker in mid-job: until its job runs elsewhere, with BullMQ's defaults. */
export async function bullMqLoss(port: number, signal: 'SIGKILL' | 'SIGSTOP'): Promise<number[]> {
  const { Queue: QueueClass } = load();
  const runs = new Runs();
  const survivor = await startWorker(runs, port);
  const trial = async (index: number): Promise<number> => {
    const name = `${signal}-${index}-${randomUUID()}`;
    const queue = new QueueClass(name, { connection: { port } });
    const victim = await startWorker(runs, port);
    try {
      await open(victim, name);
      const id = randomUUID();
      await queue.add('hold', { id, ms: null });
      await runs.nth(id, 1);
      await open(survivor, name);
      const lostAt = now();
      victim.kill(signal);
      await eventually('it runs elsewhere', () => runs.of(id).length > 1, CRASH_LIMIT_MS);
      return (await runs.nth(id, 2)).t - lostAt;
    } finally {
      victim.kill('SIGCONT');
      await victim.destroy();
      await queue.close();
    }
  };
  try {
    return await Promise.all(Array.from({ length: SIDE_BY_SIDE }, (_, index) => trial(index)));
  } finally {
    await survivor.destroy();
  }
}

/** A worker opens while a job waits: from its "ready" to the start of the job. */
export async function bullMqReadiness(port: number, trials: number): Promise<number[]> {
  const { Queue: QueueClass } = load();
  const runs = new Runs();
  const name = randomUUID();
  const queue = new QueueClass(name, { connection: { port } });
  const worker = await startWorker(runs, port);
  const starts: number[] = [];
  try {
    for (let trial = 0; trial < trials; trial += 1) {
      const id = randomUUID();
      await queue.add('paced', { id, ms: 0 });
      await open(worker, name);
      const opened = worker.all<{ type: string; t: number }>('open').at(-1);
      starts.push(Math.max(0, (await runs.nth(id, 1)).t - (opened?.t ?? 0)));
      const before = worker.all('closed').length;
      worker.send({ type: 'close', queue: name });
      await eventually('it is closed', () => worker.all('closed').length > before);
    }
  } finally {
    await worker.destroy();
    await queue.close();
  }
  return starts;
}

/** redis-server killed with -9 and started again with nothing: until a job that is added then is done. */
export async function bullMqRedisBack(trials: number): Promise<number[]> {
  const { Queue: QueueClass, QueueEvents: EventsClass } = load();
  const redis = await startRedis();
  const runs = new Runs();
  const name = randomUUID();
  const connection = { port: redis.port };
  const queue = new QueueClass(name, { connection });
  const events = new EventsClass(name, { connection });
  for (const one of [queue, events]) one.on('error', () => undefined);
  const workers = [await startWorker(runs, redis.port), await startWorker(runs, redis.port)];
  const done: number[] = [];
  try {
    await events.waitUntilReady();
    for (const worker of workers) await open(worker, name);
    for (let trial = 0; trial < trials; trial += 1) {
      await redis.kill('SIGKILL');
      await redis.restart();
      const backAt = now();
      const id = randomUUID();
      // Added until one runs: what was added before the workers' connections is there, too.
      await queue.add('paced', { id, ms: 0 });
      await runs.nth(id, 1);
      done.push(now() - backAt);
    }
  } finally {
    for (const worker of workers) await worker.destroy();
    await Promise.all([queue.close(), events.close()]).catch(() => undefined);
    await redis.stop();
  }
  return done;
}
