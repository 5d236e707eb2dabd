import { setTimeout as pause } from 'node:timers/promises';
import type { ProjectCallerCommands } from '../processes/project-caller.js';
import type { HostCommands, HostSettings } from '../processes/project-host.js';
import type { Measurements } from '../report/measurements.js';
import { IDLE_COUNTS, metric } from '../report/metrics.js';
import { figure, type Table } from '../report/table.js';
import type { Benchmark, Run } from './benchmark.js';

/** Commands per second, by name. */
type Rates = ReadonlyMap<string, number>;

/** A process that has just started still settles. */
const SETTLE_MS = 3_000;

/**
 * What a process costs that hosts functions nobody calls or listens to. Two other processes hold the offices of
 * supervisor and deputy, and are measured alone first; what comes on top when the idle one joins is the idle one's.
 */
export const idle: Benchmark = {
  names: ['idle'],

  async run(run) {
    const settings = run.stage.settings();
    const supervisor = await run.stage.start<ProjectCallerCommands>('project-caller.ts', settings);
    await until(() => supervisor.ask('isSupervisor'));
    await run.stage.start<ProjectCallerCommands>('project-caller.ts', settings);
    await until(() => run.stage.admin.exists(`${settings.keyPrefix}nf:deputy`).then(Boolean));
    for (let round = 0; round < run.rounds; round++) {
      run.say(`round ${round + 1}: idle`);
      await until(() => supervisor.ask('isSupervisor'));
      await pause(run.quick ? 500 : SETTLE_MS);
      const alone = await commandsPerSecond(run);
      run.measurements.add(metric.supervisorCommands, sumOf(alone));
      for (const count of IDLE_COUNTS) {
        const host: HostSettings = { ...settings, functions: count, workers: 1, handler: 'echo' };
        await measure(run, host, alone);
      }
    }
  },

  tables: ({ measurements }): Table[] => [
    {
      title: 'An idle process',
      head: ['', 'commands/s', 'CPU % of a core', 'kB of Redis'],
      rows: [
        ...IDLE_COUNTS.map((count) => [
          `${figure(count)} functions, supervisor elsewhere`,
          figure(measurements.median(metric.idleCommands(count))),
          figure(measurements.median(metric.idleCpu(count))),
          figure((measurements.median(metric.idleBytes(count)) ?? NaN) / 1_000),
        ]),
        [
          'supervisor and deputy alone, themselves included',
          figure(measurements.median(metric.supervisorCommands)),
          '',
          '',
        ],
      ],
      notes: [
        'commands: those inside scripts included; memory: what Redis has more with it, four connections included',
        ...IDLE_COUNTS.map((count) => breakdown(measurements, count)),
      ],
    },
  ],
};

async function measure(run: Run, settings: HostSettings, alone: Rates): Promise<void> {
  const bytesBefore = await run.stage.redisBytes();
  const host = await run.stage.start<HostCommands>('project-host.ts', settings);
  await pause(run.quick ? 500 : SETTLE_MS);
  const cpuBefore = await host.ask('cpuMs');
  const startedAt = performance.now();
  const rates = await commandsPerSecond(run);
  const cpuMs = (await host.ask('cpuMs')) - cpuBefore;
  run.measurements.add(metric.idleCommands(settings.functions), sumOf(rates) - sumOf(alone));
  for (const [name, rate] of rates)
    run.measurements.add(
      metric.idleByName(settings.functions, name),
      rate - (alone.get(name) ?? 0),
    );
  run.measurements.add(
    metric.idleCpu(settings.functions),
    (cpuMs / (performance.now() - startedAt)) * 100,
  );
  const bytes = (await run.stage.redisBytes()) - bytesBefore;
  const name = metric.idleBytes(settings.functions);
  // Definitions and streams outlive their workers: later rounds find them there.
  if (run.measurements.values(name).length === 0) run.measurements.add(name, bytes);
  await host.stop();
}

async function commandsPerSecond({ stage, quick }: Run): Promise<Rates> {
  const count = await stage.countCommands();
  const startedAt = performance.now();
  // Four leases: what is done once in each comes in bursts, and one more or less at an edge counts for less.
  await pause(quick ? 2_000 : 20_000);
  const { byName } = await count.stop();
  const seconds = (performance.now() - startedAt) / 1_000;
  return new Map(Object.entries(byName).map(([name, calls]) => [name, calls / seconds]));
}

function sumOf(rates: Rates): number {
  return [...rates.values()].reduce((sum, rate) => sum + rate, 0);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await pause(50);
}

/** Which commands they are; what the other process does now and then leaves a trace below 0.1/s. */
function breakdown(measurements: Measurements, count: number): string {
  const start = metric.idleByName(count, '').replace(/\/s$/, '');
  const shown = measurements
    .startingWith(start)
    .filter((name) => (measurements.median(name) ?? 0) >= 0.1)
    .map((name) => `${name.slice(start.length)} ${figure(measurements.median(name))}`);
  return `${figure(count)} functions: ${shown.join(', ')}`;
}
