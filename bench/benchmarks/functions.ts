import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { FUNCTION_COUNTS, metric } from '../report/metrics.js';
import { figure, times, type Table } from '../report/table.js';
import type { BenchProcess } from '../stage/bench-process.js';
import type { Benchmark, Run } from './benchmark.js';

const LANES = 64;
const TURNS_A_ROUND = 3;

interface Fleet {
  readonly functions: number;
  readonly caller: BenchProcess<ProjectCallerCommands>;
}

/**
 * 1, 100 and 1,000 functions in one worker, each with a caller and a key prefix of its own; they live through all
 * rounds. Calls go to all functions in turn (`spread`, what the target is about), and to one of them.
 */
export const functions: Benchmark = {
  names: ['functions'],

  async run(run) {
    const fleets: Fleet[] = [];
    for (const count of FUNCTION_COUNTS) fleets.push(await startFleet(run, count));
    const turns = run.quick ? 1 : TURNS_A_ROUND;
    for (let turn = 0; turn < run.rounds * turns; turn++) {
      run.say(`round ${Math.floor(turn / turns) + 1}, turn ${(turn % turns) + 1}: functions`);
      for (const fleet of fleets) {
        await run.quiet();
        await measure(run, fleet, 'spread');
        await measure(run, fleet, 'one');
      }
    }
  },

  tables: (run) => [table(run)],
};

async function startFleet({ stage, measurements, quick }: Run, count: number): Promise<Fleet> {
  const settings: HostSettings = {
    ...stage.settings(),
    functions: count,
    workers: 1,
    handler: 'echo',
  };
  const startedAt = performance.now();
  await stage.start<HostCommands>('project-host.ts', settings);
  measurements.add(metric.functionsStart(count), performance.now() - startedAt);
  const caller = await stage.start<ProjectCallerCommands>('project-caller.ts', settings);
  await caller.ask('prepare', count);
  const load = { functions: count, durationMs: quick ? 200 : 1_500, leadInMs: 0 };
  await caller.ask('throughput', { ...load, lanes: LANES });
  return { functions: count, caller };
}

async function measure(
  { measurements, quick }: Run,
  { functions, caller }: Fleet,
  calls: 'spread' | 'one',
): Promise<void> {
  const load = {
    functions: calls === 'spread' ? functions : 1,
    durationMs: quick ? 300 : 600,
    leadInMs: quick ? 150 : 500,
  };
  const { p50Ms } = await caller.ask('latency', load);
  const { perSecond } = await caller.ask('throughput', { ...load, lanes: LANES });
  measurements.add(metric.functionsLatency(functions, calls), p50Ms);
  measurements.add(metric.functionsThroughput(functions, calls), perSecond);
}

function table({ measurements }: Run): Table {
  const cells = (count: number, calls: 'spread' | 'one'): string[] => {
    const p50 = metric.functionsLatency(count, calls);
    const perSecond = metric.functionsThroughput(count, calls);
    return [
      figure(measurements.median(p50)),
      times(measurements.ratio(p50, metric.functionsLatency(1, calls))),
      figure(measurements.median(perSecond)),
      times(measurements.ratio(perSecond, metric.functionsThroughput(1, calls))),
    ];
  };
  return {
    title: 'Functions in one worker',
    head: ['', 'p50 ms', 'to 1', `${LANES}: calls/s`, 'to 1', 'process to ready ms'],
    rows: FUNCTION_COUNTS.flatMap((count) => [
      [
        `${figure(count)}, all called in turn`,
        ...cells(count, 'spread'),
        figure(measurements.median(metric.functionsStart(count))),
      ],
      [`${figure(count)}, one of them called`, ...cells(count, 'one'), ''],
    ]),
  };
}
