import { setTimeout as pause } from 'node:timers/promises';
import { callsKey } from './calls-key.js';
import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { metric, PENDING_CALLS } from '../report/metrics.js';
import { figure, type Table } from '../report/table.js';
import { sharedClockMs } from '../stage/shared-clock.js';
import type { Stage } from '../stage/stage.js';
import type { Benchmark, Run } from './benchmark.js';

const LOOK_MS = 2;

/**
 * 10,000 calls that nobody answers: the handler holds what it runs, the rest lies in the stream. Then all are
 * released. What a pending call weighs in its caller, and what all of them cost Redis from first to last.
 */
export const pending: Benchmark = {
  names: ['pending'],

  async run(run) {
    for (let round = 0; round < run.rounds; round++) {
      run.say(`round ${round + 1}: ${PENDING_CALLS} calls pending`);
      await measure(run);
      await run.stage.clear();
    }
  },

  tables: ({ measurements }): Table[] => [
    {
      title: `${figure(PENDING_CALLS)} calls pending at one caller`,
      head: ['', 'written ms', 'released -> settled ms', 'bytes/call', 'commands/call'],
      rows: [
        [
          '100 B each',
          figure(measurements.median(metric.pendingSubmitMs)),
          figure(measurements.median(metric.pendingSettleMs)),
          figure(measurements.median(metric.pendingBytes)),
          figure(measurements.median(metric.pendingCommands)),
        ],
      ],
      notes: ["bytes: the caller's heap and buffers, after garbage collection, promise included"],
    },
  ],
};

async function measure({ stage, measurements, quiet }: Run): Promise<void> {
  const settings: HostSettings = { ...stage.settings(), functions: 1, workers: 1, handler: 'hold' };
  const host = await stage.start<HostCommands>('project-host.ts', settings);
  const caller = await stage.start<ProjectCallerCommands>('project-caller.ts', settings, [
    '--expose-gc',
  ]);
  await caller.ask('prepare', 1);
  await quiet();
  const before = await caller.ask('usedBytes');
  const count = await stage.countCommands();
  const submittedAt = await caller.ask('submit', PENDING_CALLS);
  const writtenAt = await allWritten(stage, callsKey(settings.keyPrefix));
  const after = await caller.ask('usedBytes');
  const releasedAt = sharedClockMs();
  await host.ask('release');
  const settledAt = await caller.ask('settled');
  const { total } = await count.stop();
  measurements.add(metric.pendingBytes, (after - before) / PENDING_CALLS);
  measurements.add(metric.pendingSubmitMs, writtenAt - submittedAt);
  measurements.add(metric.pendingSettleMs, settledAt - releasedAt);
  measurements.add(metric.pendingCommands, total / PENDING_CALLS);
}

/** When the stream held all of them: nothing leaves it before it is settled. */
async function allWritten({ admin }: Stage, key: string): Promise<number> {
  while ((await admin.xlen(key)) < PENDING_CALLS) await pause(LOOK_MS);
  return sharedClockMs();
}
