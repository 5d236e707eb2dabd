import { setTimeout as pause } from 'node:timers/promises';
import type { BareSubscriberCommands } from '../processes/bare-subscriber.js';
import type { Wait } from '../processes/listening.js';
import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { metric } from '../report/metrics.js';
import { percentile } from '../report/statistics.js';
import { figure, times, type Table } from '../report/table.js';
import type { BenchProcess } from '../stage/bench-process.js';
import type { Benchmark, Run } from './benchmark.js';

/** `ready` comes between this and twice as long after the wait began, at no beat of any timer. */
const QUIET_MS = 10;

interface Processes {
  readonly host: BenchProcess<HostCommands>;
  readonly waiter: BenchProcess<ProjectCallerCommands>;
  readonly bare: BenchProcess<BareSubscriberCommands>;
}

/**
 * From the moment at which the worker hands the command that publishes `ready` to its Redis client, to the
 * moment at which a waiting process goes on: through the library, and in a bare ioredis subscriber. The two are
 * measured in turn, each alone on the channel, so that neither waits for the other's processor. Then the same up
 * to the end of a first call, which was made before there was a worker: by news, and by the polling registry.
 */
export const readiness: Benchmark = {
  names: ['readiness'],

  async run(run) {
    const settings: HostSettings = {
      ...run.stage.settings(),
      functions: 1,
      workers: 1,
      handler: 'echo',
    };
    const processes: Processes = {
      host: await run.stage.start('project-host.ts', settings),
      waiter: await run.stage.start('project-caller.ts', settings),
      bare: await run.stage.start('bare-subscriber.ts', settings),
    };
    await processes.host.ask('unregister');
    for (let round = 0; round < run.rounds; round++) {
      run.say(`round ${round + 1}: readiness`);
      await run.quiet();
      await measureListeners(run, processes);
      await measureFirstCalls(run, processes);
    }
  },

  tables: (run) => [table(run)],
};

async function measureListeners({ measurements, quick }: Run, processes: Processes): Promise<void> {
  const waiter: number[] = [];
  const bare: number[] = [];
  const warmUp = quick ? 3 : 10;
  for (let sample = -warmUp; sample < (quick ? 20 : 150); sample++) {
    const waited = await sampleOf(processes, 'wait');
    const heard = await sampleBare(processes);
    if (sample < 0) continue;
    waiter.push(waited);
    bare.push(heard);
  }
  for (const part of ['p50', 'p99'] as const) {
    const percent = part === 'p50' ? 50 : 99;
    measurements.add(metric.readiness('waiter', part), percentile(waiter, percent));
    measurements.add(metric.readiness('bare subscriber', part), percentile(bare, percent));
  }
}

async function measureFirstCalls(
  { measurements, quick }: Run,
  processes: Processes,
): Promise<void> {
  const samples = { notified: [] as number[], polling: [] as number[] };
  for (let sample = 0; sample < (quick ? 4 : 20); sample++) {
    samples.notified.push(await sampleOf(processes, 'notified call'));
    samples.polling.push(await sampleOf(processes, 'polling call'));
  }
  for (const way of ['notified', 'polling'] as const) {
    measurements.add(metric.firstCall(way, 'p50'), percentile(samples[way], 50));
    measurements.add(metric.firstCall(way, 'p99'), percentile(samples[way], 99));
  }
}

/** Milliseconds from ready to the release of one waiting process of the library. */
async function sampleOf({ host, waiter }: Processes, how: Wait): Promise<number> {
  await waiter.ask('arm', { how, count: 1 });
  await quiet(how === 'polling call' ? 500 : 0);
  const readyAt = await host.ask('register');
  const { lastAt } = await waiter.ask('released');
  await host.ask('unregister');
  await waiter.ask('stopWatching');
  return lastAt - readyAt;
}

async function sampleBare({ host, bare }: Processes): Promise<number> {
  await bare.ask('arm');
  await quiet(0);
  const readyAt = await host.ask('register');
  const heardAt = await bare.ask('heard');
  await host.ask('unregister');
  return heardAt - readyAt;
}

/** A random part keeps ready off the beat of the polls. */
function quiet(randomMs: number): Promise<unknown> {
  return pause(QUIET_MS + Math.random() * (QUIET_MS + randomMs));
}

function table({ measurements }: Run): Table {
  const row = (title: string, p50: string, p99: string, to?: string): string[] => [
    title,
    figure(measurements.median(p50)),
    figure(measurements.median(p99)),
    to === undefined ? '' : times(measurements.ratio(p50, to)),
  ];
  const bare = metric.readiness('bare subscriber', 'p50');
  const polling = metric.firstCall('polling', 'p50');
  return {
    title: 'Readiness (ms from the command that publishes ready)',
    head: ['', 'p50', 'p99', 'to the floor'],
    rows: [
      row(
        'waitForFunction resolved',
        metric.readiness('waiter', 'p50'),
        metric.readiness('waiter', 'p99'),
        bare,
      ),
      row('bare ioredis subscriber', bare, metric.readiness('bare subscriber', 'p99')),
      row(
        'first call done, by news',
        metric.firstCall('notified', 'p50'),
        metric.firstCall('notified', 'p99'),
        polling,
      ),
      row('first call done, polling', polling, metric.firstCall('polling', 'p99')),
    ],
  };
}
