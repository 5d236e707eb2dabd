import { setTimeout as pause } from 'node:timers/promises';
import { functionName, WORKFLOW } from '../processes/function-name.js';
import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { metric, WAITER_COUNTS } from '../report/metrics.js';
import { figure, type Table } from '../report/table.js';
import type { Benchmark } from './benchmark.js';

const QUIET_MS = 50;
const SAMPLES = 5;

/** 1, 1,000 and 10,000 waiters for one function in one process, released by one ready. */
export const waiters: Benchmark = {
  names: ['waiters'],

  async run({ stage, measurements, rounds, quick, quiet, say }) {
    const settings: HostSettings = {
      ...stage.settings(),
      functions: 1,
      workers: 1,
      handler: 'echo',
    };
    const host = await stage.start<HostCommands>('project-host.ts', settings);
    const waiter = await stage.start<ProjectCallerCommands>('project-caller.ts', settings);
    await host.ask('unregister');
    const channel = `${settings.keyPrefix}function:ready:${functionName(0)}:${WORKFLOW}`;
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1}: waiters`);
      for (let sample = 0; sample < (quick ? 1 : SAMPLES); sample++) {
        await quiet();
        for (const count of WAITER_COUNTS) {
          await waiter.ask('arm', { how: 'wait', count });
          await pause(QUIET_MS);
          const [, subscriptions] = await stage.admin.pubsub('NUMSUB', channel);
          const readyAt = await host.ask('register');
          const { lastAt } = await waiter.ask('released');
          await host.ask('unregister');
          measurements.add(metric.waiters(count), lastAt - readyAt);
          measurements.add(metric.waiterSubscriptions(count), Number(subscriptions));
        }
      }
    }
  },

  tables: ({ measurements }): Table[] => [
    {
      title: 'Waiters for one function, released by one ready',
      head: ['', 'ready -> last one released ms', 'subscriptions'],
      rows: WAITER_COUNTS.map((count) => [
        figure(count),
        figure(measurements.median(metric.waiters(count))),
        figure(measurements.median(metric.waiterSubscriptions(count))),
      ]),
    },
  ],
};
