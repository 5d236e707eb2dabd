import { randomUUID } from 'node:crypto';
import { EnhancedFunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { BenchWorker, now, Runs } from './bench-process.js';

/** Calls in flight during a rolling restart, and how long each takes. */
const STREAMS = 12;
const PACE_MS = 20;
/** Fleets that freeze side by side: a trial is five seconds of waiting. */
const FREEZING_FLEETS = 4;

/** What a rolling restart cost. */
export interface Rolling {
  readonly calls: number;
  readonly lost: number;
  readonly twice: number;
  /** The slowest call while each worker was replaced. */
  readonly slowest: readonly number[];
}

/** A caller in this process, and worker processes that come and go. */
class BenchFleet {
  readonly runs = new Runs();
  readonly workers: BenchWorker[] = [];
  private count = 0;

  private constructor(
    private readonly fleet: Fleet,
    private readonly url: string,
    readonly registry: EnhancedFunctionRegistry,
  ) {}

  /** @param supervises the caller, whom nobody kills; else one of the workers */
  static async start(url: string, workers: number, supervises = true): Promise<BenchFleet> {
    const fleet = new Fleet(url);
    const caller = await fleet.start({ options: { worker: false, supervise: supervises } });
    const bench = new BenchFleet(fleet, url, caller.get(EnhancedFunctionRegistry));
    if (supervises)
      await eventually('the caller supervises', () => caller.get(WorkerCoordinator).isSupervisor);
    await Promise.all(Array.from({ length: workers }, () => bench.add()));
    return bench;
  }

  async add(): Promise<BenchWorker> {
    this.count += 1;
    const worker = await BenchWorker.start(this.runs, {
      url: this.url,
      prefix: this.fleet.prefix,
      id: `w-${this.count}`,
    });
    this.workers.push(worker);
    return worker;
  }

  remove(worker: BenchWorker): void {
    this.workers.splice(this.workers.indexOf(worker), 1);
  }

  /** Makes the worker that supervises the first one, once it has a deputy. */
  async putSupervisorFirst(): Promise<void> {
    await eventually('one supervises, and has a deputy', async () => {
      const offices = [`${this.fleet.prefix}nf:supervisor`, `${this.fleet.prefix}nf:deputy`];
      if ((await this.fleet.redis.exists(...offices)) < offices.length) return false;
      const roles = await Promise.all(this.workers.map((worker) => worker.supervises()));
      const found = this.workers[roles.indexOf(true)];
      if (found === undefined) return false;
      this.remove(found);
      this.workers.unshift(found);
      return true;
    });
  }

  /** Lets a call be held by the first worker while all others look away. */
  async holdOnFirst(ids: readonly string[], start: (id: string) => void): Promise<BenchWorker> {
    const [victim, ...others] = this.workers;
    if (victim === undefined) throw new Error('no worker');
    await Promise.all(others.map((worker) => worker.order('pause')));
    for (const id of ids) start(id);
    await Promise.all(ids.map((id) => this.runs.nth(id, 1)));
    await Promise.all(others.map((worker) => worker.order('resume')));
    return victim;
  }

  async close(): Promise<void> {
    for (const { process } of this.workers) process.kill('SIGCONT');
    await Promise.all(this.workers.map(({ process }) => process.destroy()));
    await this.fleet.close();
  }
}

/**
 * kill -9 of a worker in mid-call: until its call runs elsewhere, and until an at-most-once caller is told.
 *
 * @param ofSupervisor of the very worker that looks after the dead; its deputy has to see that first
 */
export async function processDeath(
  url: string,
  trials: number,
  ofSupervisor = false,
): Promise<{ elsewhere: number[]; told: number[] }> {
  const fleet = await BenchFleet.start(url, ofSupervisor ? 3 : 2, !ofSupervisor);
  const elsewhere: number[] = [];
  const told: number[] = [];
  try {
    for (let trial = 0; trial < trials; trial += 1) {
      const [plain, once] = [randomUUID(), randomUUID()];
      const calls: Promise<unknown>[] = [];
      let toldAt = 0;
      if (ofSupervisor) await fleet.putSupervisorFirst();
      const victim = await fleet.holdOnFirst([plain, once], (id) => {
        const delivery = id === once ? 'at-most-once' : 'at-least-once';
        const call = fleet.registry.call('hold', { id }, { delivery });
        calls.push(id === once ? call.catch(() => (toldAt = now())) : call);
      });
      fleet.remove(victim);
      const killedAt = now();
      victim.process.kill('SIGKILL');
      await Promise.all(calls);
      elsewhere.push((await fleet.runs.nth(plain, 2)).t - killedAt);
      told.push(toldAt - killedAt);
      await fleet.add();
    }
  } finally {
    await fleet.close();
  }
  return { elsewhere, told };
}

/** SIGSTOP of a worker in mid-call: until its call runs elsewhere. */
export async function freeze(url: string, trials: number): Promise<number[]> {
  const elsewhere: number[] = [];
  const fleets = await Promise.all(
    Array.from({ length: FREEZING_FLEETS }, () => BenchFleet.start(url, 2)),
  );
  const one = async (fleet: BenchFleet): Promise<void> => {
    while (elsewhere.length < trials) {
      const id = randomUUID();
      let call: Promise<unknown> | undefined;
      const victim = await fleet.holdOnFirst([id], () => {
        call = fleet.registry.call('hold', { id });
      });
      const frozenAt = now();
      victim.process.kill('SIGSTOP');
      await call;
      elsewhere.push((await fleet.runs.nth(id, 2)).t - frozenAt);
      const before = victim.process.all('registered').length;
      victim.process.kill('SIGCONT');
      await eventually(
        'it registers anew',
        () => victim.process.all('registered').length >= before + 2,
      );
    }
  };
  try {
    await Promise.all(fleets.map(one));
  } finally {
    await Promise.all(fleets.map((fleet) => fleet.close()));
  }
  return elsewhere;
}

/** A worker becomes ready while a call waits for it: until its handler starts. */
export async function readiness(url: string, trials: number): Promise<number[]> {
  const fleet = await BenchFleet.start(url, 1);
  const starts: number[] = [];
  try {
    const [worker] = fleet.workers;
    for (let trial = 0; worker !== undefined && trial < trials; trial += 1) {
      await worker.order('leave');
      const id = randomUUID();
      const call = fleet.registry.call('paced', { id, ms: 0 });
      await eventually(
        'it waits',
        async () =>
          (await fleet.registry.getInstantWorkerStatus('paced', 'default')).isWaitingForWorker,
      );
      await worker.order('join');
      await call;
      const registered = worker.process.all<{ type: string; t: number }>('registered').at(-1);
      starts.push(Math.max(0, (await fleet.runs.nth(id, 1)).t - (registered?.t ?? 0)));
    }
  } finally {
    await fleet.close();
  }
  return starts;
}

/** Workers replaced one after the other under a steady stream of calls. */
export async function rolling(url: string, restarts: number): Promise<Rolling> {
  const fleet = await BenchFleet.start(url, 2);
  const slowest: number[] = [];
  const ids: string[] = [];
  let going = true;
  let lost = 0;
  let worst = 0;
  const stream = async (): Promise<void> => {
    while (going) {
      const id = randomUUID();
      ids.push(id);
      const startedAt = now();
      await fleet.registry.call('paced', { id, ms: PACE_MS }).catch(() => (lost += 1));
      worst = Math.max(worst, now() - startedAt);
    }
  };
  const streams = Array.from({ length: STREAMS }, stream);
  try {
    for (let restart = 0; restart < restarts; restart += 1) {
      await fleet.add();
      worst = 0;
      const [old] = fleet.workers;
      if (old === undefined) break;
      old.process.kill('SIGTERM');
      await old.process.exit(30_000);
      fleet.remove(old);
      slowest.push(worst);
    }
  } finally {
    going = false;
    await Promise.all(streams);
    await fleet.close();
  }
  const twice = ids.filter((id) => fleet.runs.of(id).length > 1).length;
  return { calls: ids.length, lost, twice, slowest };
}

/** redis-server killed with -9 and started again with nothing: until a call is done. */
export async function redisBack(trials: number): Promise<number[]> {
  const redis = await startRedis();
  const fleet = await BenchFleet.start(redis.url, 2);
  const done: number[] = [];
  try {
    for (let trial = 0; trial < trials; trial += 1) {
      await fleet.registry.call('paced', { id: randomUUID(), ms: 0 });
      await redis.kill('SIGKILL');
      const call = fleet.registry.call('paced', { id: randomUUID(), ms: 0 });
      await redis.restart();
      const backAt = now();
      await call;
      done.push(Math.max(0, now() - backAt));
    }
  } finally {
    await fleet.close();
    await redis.stop();
  }
  return done;
}
