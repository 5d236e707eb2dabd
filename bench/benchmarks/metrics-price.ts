import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from '../peers/ioredis.js';
import type { PeerSettings } from '../peers/peer.js';
import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { LISTENERS, metric, type Listeners } from '../report/metrics.js';
import { figure, times, type Table } from '../report/table.js';
import type { BenchProcess } from '../stage/bench-process.js';
import type { Benchmark, Run } from './benchmark.js';

const LANES = 64;
const TURNS_A_ROUND = 3;
/** What metrics are told on. */
const CHANNELS = ['function:metrics:', 'function:bottleneck:', 'nf:listeners', 'nf:vitals'];

/** A caller and a worker with a key prefix of their own, which nobody listens to, or somebody. */
interface Side {
  readonly listeners: Listeners;
  readonly settings: PeerSettings;
  readonly host: BenchProcess<HostCommands>;
  readonly caller: BenchProcess<ProjectCallerCommands>;
}

/**
 * What metrics cost a call: two pairs of a caller and a worker take turns, one that nobody listens to and one whose
 * metrics and bottlenecks a third process watches. And what is told of metrics in each, by MONITOR, while calls are
 * made: nothing where nobody listens.
 */
export const metricsPrice: Benchmark = {
  names: ['metrics'],

  async run(run) {
    const sides: Side[] = [];
    for (const listeners of LISTENERS) sides.push(await startSide(run, listeners));
    const turns = run.quick ? 1 : TURNS_A_ROUND;
    for (let turn = 0; turn < run.rounds * turns; turn++) {
      run.say(`round ${Math.floor(turn / turns) + 1}, turn ${(turn % turns) + 1}: metrics`);
      for (const side of turn % 2 === 0 ? sides : sides.toReversed()) await measure(run, side);
    }
    for (const side of sides) await countTold(run, side);
  },

  tables: (run) => [table(run)],
};

async function startSide({ stage, quick }: Run, listeners: Listeners): Promise<Side> {
  const settings = stage.settings();
  const hosting: HostSettings = { ...settings, functions: 1, workers: 1, handler: 'echo' };
  const host = await stage.start<HostCommands>('project-host.ts', hosting);
  const caller = await stage.start<ProjectCallerCommands>('project-caller.ts', settings);
  await caller.ask('prepare', 1);
  if (listeners === 'somebody') {
    const listener = await stage.start<ProjectCallerCommands>('project-caller.ts', settings);
    await listener.ask('listenToMetrics');
  }
  const load = { functions: 1, durationMs: quick ? 200 : 1_500, leadInMs: 0 };
  await caller.ask('throughput', { ...load, lanes: LANES });
  return { listeners, settings, host, caller };
}

async function measure(run: Run, { listeners, host, caller }: Side): Promise<void> {
  const { stage, measurements, quick } = run;
  await run.quiet();
  const busyMs = async (): Promise<number> => {
    const [ofCaller, ofWorker] = await Promise.all([caller.ask('cpuMs'), host.ask('cpuMs')]);
    return ofCaller + ofWorker;
  };
  const load = {
    functions: 1,
    lanes: LANES,
    durationMs: quick ? 300 : 1_000,
    leadInMs: quick ? 100 : 500,
  };
  const before = await busyMs();
  const count = await stage.countCommands();
  const { perSecond, calls } = await caller.ask('throughput', load);
  const { total } = await count.stop();
  measurements.add(metric.metricsCpu(listeners), (((await busyMs()) - before) / calls) * 1_000);
  measurements.add(metric.metricsThroughput(listeners), perSecond);
  measurements.add(metric.metricsCommands(listeners), total / calls);
}

/** Counts what is published about metrics while calls are made, one at a time. */
async function countTold(run: Run, { listeners, settings, caller }: Side): Promise<void> {
  const { stage, quick, measurements } = run;
  const monitor: Redis = await stage.admin.monitor();
  let told = 0;
  monitor.on('monitor', (_time: string, [name = '', channel = '']: string[]) => {
    const isTold = CHANNELS.some((start) => channel.startsWith(settings.keyPrefix + start));
    if (name.toLowerCase() === 'publish' && isTold) told += 1;
  });
  const durationMs = quick ? 1_500 : 10_000;
  await caller.ask('latency', { functions: 1, durationMs, leadInMs: 0 });
  // What Redis has said by now has to be read.
  await pause(100);
  monitor.disconnect();
  measurements.add(metric.metricsTold(listeners), told / (durationMs / 1_000));
}

function table({ measurements }: Run): Table {
  const titles = { nobody: 'nobody listens', somebody: 'somebody watches' };
  return {
    title: 'Metrics: what they cost while calls are made',
    head: [
      '',
      `${LANES}: calls/s`,
      'CPU us/call',
      'to nobody',
      'Redis commands/call',
      'told of metrics/s',
    ],
    rows: LISTENERS.map((listeners) => {
      const cpu = metric.metricsCpu(listeners);
      return [
        titles[listeners],
        figure(measurements.median(metric.metricsThroughput(listeners))),
        figure(measurements.median(cpu)),
        times(measurements.ratio(cpu, metric.metricsCpu('nobody'))),
        figure(measurements.median(metric.metricsCommands(listeners))),
        figure(measurements.median(metric.metricsTold(listeners))),
      ];
    }),
    notes: ['CPU: of caller and worker; told: messages on channels of metrics, by MONITOR'],
  };
}
