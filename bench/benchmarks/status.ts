import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { metric } from '../report/metrics.js';
import { median } from '../report/statistics.js';
import { figure, type Table } from '../report/table.js';
import type { Benchmark } from './benchmark.js';

const QUESTIONS = 100_000;
/** Of one round; all together shorter than a lease, for the others stand still meanwhile. */
const WINDOWS = 9;

/**
 * `getInstantWorkerStatus`, one awaited after the other, from memory. To tell what Redis commands it causes, all
 * other processes of the project are frozen, and the questions are asked in windows that are shorter than the
 * beats of the asking process itself: most windows hold none of its own commands, so the median window shows
 * what is left, which is what the questions caused.
 */
export const status: Benchmark = {
  names: ['status'],

  async run({ stage, measurements, rounds, quiet, say }) {
    const settings: HostSettings = {
      ...stage.settings(),
      functions: 1,
      workers: 1,
      handler: 'echo',
    };
    const host = await stage.start<HostCommands>('project-host.ts', settings);
    const caller = await stage.start<ProjectCallerCommands>('project-caller.ts', settings);
    await caller.ask('prepare', 1);
    await caller.ask('status', QUESTIONS);
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1}: status`);
      await quiet();
      const commands: number[] = [];
      const perSecond: number[] = [];
      host.freeze();
      for (let window = 0; window < WINDOWS; window++) {
        const count = await stage.countCommands();
        const took = await caller.ask('status', QUESTIONS);
        commands.push((await count.stop()).total);
        perSecond.push(QUESTIONS / (took / 1_000));
      }
      host.thaw();
      measurements.add(metric.status, median(perSecond));
      measurements.add(metric.statusCommands, median(commands));
    }
  },

  tables: ({ measurements }): Table[] => [
    {
      title: 'getInstantWorkerStatus',
      head: ['', 'per second', `commands of ${figure(QUESTIONS)}`],
      rows: [
        [
          'from memory',
          figure(measurements.median(metric.status)),
          figure(measurements.median(metric.statusCommands)),
        ],
      ],
    },
  ],
};
