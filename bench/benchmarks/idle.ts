import { setTimeout as pause } from 'node:timers/promises';
import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import { IDLE_COUNTS, metric } from '../report/metrics.js';
import { figure, type Table } from '../report/table.js';
import type { Benchmark, Run } from './benchmark.js';

/** A process that has just started still settles. */
const SETTLE_MS = 3_000;

/**
 * What a process costs that hosts functions nobody calls or listens to. Another process holds the supervisor's
 * office, and is measured alone first; what comes on top when the idle one joins is the idle one's.
 */
export const idle: Benchmark = {
  names: ['idle'],

  async run(run) {
    const settings = run.stage.settings();
    const supervisor = await run.stage.start<ProjectCallerCommands>('project-caller.ts', settings);
    for (let round = 0; round < run.rounds; round++) {
      run.say(`round ${round + 1}: idle`);
      await until(() => supervisor.ask('isSupervisor'));
      await pause(run.quick ? 500 : SETTLE_MS);
      const alone = await commandsPerSecond(run);
      run.measurements.add(metric.supervisorCommands, alone);
      for (const count of IDLE_COUNTS) {
        const host: HostSettings = { ...settings, functions: count, workers: 1, handler: 'echo' };
        await measure(run, host, alone);
      }
    }
  },

  tables: ({ measurements }): Table[] => [
    {
      title: 'An idle process',
      head: ['', 'commands/s', 'CPU % of a core'],
      rows: [
        ...IDLE_COUNTS.map((count) => [
          `${figure(count)} functions, supervisor elsewhere`,
          figure(measurements.median(metric.idleCommands(count))),
          figure(measurements.median(metric.idleCpu(count))),
        ]),
        [
          'the supervisor alone, itself included',
          figure(measurements.median(metric.supervisorCommands)),
          '',
        ],
      ],
      notes: ['commands: those inside scripts included'],
    },
  ],
};

async function measure(run: Run, settings: HostSettings, aloneRate: number): Promise<void> {
  const host = await run.stage.start<HostCommands>('project-host.ts', settings);
  await pause(run.quick ? 500 : SETTLE_MS);
  const cpuBefore = await host.ask('cpuMs');
  const startedAt = performance.now();
  const rate = await commandsPerSecond(run);
  const cpuMs = (await host.ask('cpuMs')) - cpuBefore;
  run.measurements.add(metric.idleCommands(settings.functions), rate - aloneRate);
  run.measurements.add(
    metric.idleCpu(settings.functions),
    (cpuMs / (performance.now() - startedAt)) * 100,
  );
  await host.stop();
}

async function commandsPerSecond({ stage, quick }: Run): Promise<number> {
  const count = await stage.countCommands();
  const startedAt = performance.now();
  await pause(quick ? 2_000 : 10_000);
  const { total } = await count.stop();
  return total / ((performance.now() - startedAt) / 1_000);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await pause(50);
}
