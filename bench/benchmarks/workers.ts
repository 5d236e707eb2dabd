import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { metric, WORKER_COUNTS } from '../report/metrics.js';
import { figure, times, type Table } from '../report/table.js';
import type { Benchmark, Run } from './benchmark.js';

const LANES = 64;
/** Applications that share a process: 100 processes would be more memory and cores than most machines have. */
const WORKERS_PER_PROCESS = 25;

/**
 * 1, 10 and 100 workers of one function. Each worker is an application with its own connections, lease and
 * presence; up to 25 of them live in one process. They are started anew in every round: a hundred of them idle
 * would weigh on the others.
 */
export const workers: Benchmark = {
  names: ['workers'],

  async run(run) {
    for (let round = 0; round < run.rounds; round++) {
      for (const count of WORKER_COUNTS) {
        run.say(`round ${round + 1}: ${count} workers of one function`);
        await measure(run, count);
        await run.stage.clear();
      }
    }
  },

  tables: (run) => [table(run)],
};

async function measure(run: Run, count: number): Promise<void> {
  const { stage, measurements, quick } = run;
  const settings = stage.settings();
  for (let left = count; left > 0; left -= WORKERS_PER_PROCESS) {
    const host: HostSettings = {
      ...settings,
      functions: 1,
      workers: Math.min(left, WORKERS_PER_PROCESS),
      handler: 'echo',
    };
    await stage.start<HostCommands>('project-host.ts', host);
  }
  const caller = await stage.start<ProjectCallerCommands>('project-caller.ts', settings);
  await caller.ask('prepare', 1);
  await run.quiet();
  const load = {
    functions: 1,
    durationMs: quick ? 300 : 1_500,
    leadInMs: quick ? 100 : 1_000,
  };
  const { perSecond } = await caller.ask('throughput', { ...load, lanes: LANES });
  const { p50Ms } = await caller.ask('latency', load);
  measurements.add(metric.workersThroughput(count), perSecond);
  measurements.add(metric.workersLatency(count), p50Ms);
}

function table({ measurements }: Run): Table {
  return {
    title: 'Workers of one function',
    head: ['', 'p50 ms', 'to 1', `${LANES}: calls/s`, 'to 1'],
    rows: WORKER_COUNTS.map((count) => {
      const p50 = metric.workersLatency(count);
      const perSecond = metric.workersThroughput(count);
      return [
        figure(count),
        figure(measurements.median(p50)),
        times(measurements.ratio(p50, metric.workersLatency(1))),
        figure(measurements.median(perSecond)),
        times(measurements.ratio(perSecond, metric.workersThroughput(1))),
      ];
    }),
    notes: [
      `a worker is an application with its own connections, lease and presence; up to ${WORKERS_PER_PROCESS} share a process`,
    ],
  };
}
