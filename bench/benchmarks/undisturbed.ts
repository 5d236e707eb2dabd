import { cpus } from 'node:os';
import type { PeerName } from '../peers/registry.js';
import { cpuMs as ownCpuMs } from '../processes/cpu-ms.js';
import type { PeerCallerCommands } from '../processes/peer-caller.js';
import type { PeerWorkerCommands } from '../processes/peer-worker.js';
import { metric, type CpuPart } from '../report/metrics.js';
import type { BenchProcess } from '../stage/bench-process.js';
import { machineBusyMs } from '../stage/other-load.js';
import type { Run } from './benchmark.js';

/** Other programs that take more of all cores than this disturb a figure. */
const DISTURBED_PERCENT = 10;
/** How often a figure is taken at the most. */
const ATTEMPTS = 4;

/** The two processes of a peer. */
export interface Pair {
  readonly peer: PeerName;
  readonly worker: BenchProcess<PeerWorkerCommands>;
  readonly caller: BenchProcess<PeerCallerCommands>;
}

/** A figure and what it took. */
export interface Undisturbed<T> {
  readonly result: T;
  /** Processor time that it took. */
  readonly cpuMs: Readonly<Record<CpuPart, number>>;
}

/**
 * Measures, and measures again when other programs took more than a little of the cores meanwhile: what the machine
 * was busy less what caller, worker, servers and this process took. Of a few tries the least disturbed counts, so
 * that each peer is measured with the cores to itself, whatever speed comes of it.
 */
export async function undisturbed<T>(
  run: Run,
  pair: Pair,
  measure: () => Promise<T>,
): Promise<Undisturbed<T>> {
  let best: (Undisturbed<T> & { readonly otherPercent: number }) | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    await run.quiet();
    const take = (): Promise<Taken<T>> => takeOnce(run, pair, measure);
    const { before, result, after } = await (attempt === 0 ? take() : run.patience.spend(take));
    const otherMs = after.machine - before.machine - (after.ours - before.ours);
    const otherPercent = Math.max(0, (otherMs / (after.at - before.at) / cpus().length) * 100);
    if (best === undefined || otherPercent < best.otherPercent) {
      const cpuMs = {
        caller: after.caller - before.caller,
        worker: after.worker - before.worker,
        server: after.server - before.server,
      };
      best = { result, cpuMs, otherPercent };
    }
    if (otherPercent < DISTURBED_PERCENT || !run.patience.isLeft) break;
  }
  if (best === undefined) throw new Error('nothing was measured');
  run.measurements.add(metric.otherLoadDuring, best.otherPercent);
  return best;
}

/** A figure between two looks at the processor times. */
interface Taken<T> {
  readonly before: CpuTimes;
  readonly result: T;
  readonly after: CpuTimes;
}

async function takeOnce<T>(run: Run, pair: Pair, measure: () => Promise<T>): Promise<Taken<T>> {
  const before = await cpuNow(run, pair);
  const result = await measure();
  return { before, result, after: await cpuNow(run, pair) };
}

type CpuTimes = Awaited<ReturnType<typeof cpuNow>>;

/** Processor times so far, in milliseconds. */
async function cpuNow({ stage }: Run, { peer, worker, caller }: Pair) {
  const [ofCaller, ofWorker, servers] = await Promise.all([
    caller.ask('cpuMs'),
    worker.ask('cpuMs'),
    stage.serversCpuMs(),
  ]);
  return {
    caller: ofCaller,
    worker: ofWorker,
    server: peer === 'nats' ? servers.nats : servers.redis,
    ours: ofCaller + ofWorker + servers.redis + servers.nats + ownCpuMs(),
    machine: machineBusyMs(),
    at: performance.now(),
  };
}
