import { BENCHMARKS } from './benchmarks/all.js';
import type { Run } from './benchmarks/benchmark.js';
import { parseOptions, USAGE, type BenchOptions } from './options.js';
import { printProfiles } from './profile.js';
import { describeMachine, machineLine } from './report/machine.js';
import { Measurements } from './report/measurements.js';
import { metric } from './report/metrics.js';
import { writeResults } from './report/results-file.js';
import { renderTable } from './report/table.js';
import { exitCodeOf, judge, TARGETS } from './report/targets.js';
import { verdictTable } from './report/verdict-table.js';
import { untilQuiet } from './stage/other-load.js';
import { Patience } from './stage/patience.js';
import { Stage } from './stage/stage.js';

/** How long a figure waits for a quiet machine. */
const QUIET_LIMIT_MS = 3_000;

/** How much longer a round may take because of other programs. */
const PATIENCE_A_ROUND_MS = 60_000;

let stage: Stage | undefined;

/** Ends everything that runs, and then this process. */
async function end(code: number): Promise<never> {
  await stage?.close();
  process.exit(code);
}

async function measure(open: Stage, options: BenchOptions): Promise<number> {
  const startedAt = new Date();
  const machine = describeMachine(open.redisVersion, open.natsVersion);
  const measurements = new Measurements();
  const patience = new Patience(options.quick ? 0 : options.rounds * PATIENCE_A_ROUND_MS);
  const run: Run = {
    stage: open,
    measurements,
    rounds: options.rounds,
    quick: options.quick,
    wanted: (name) => options.only.includes(name),
    patience,
    quiet: async () => {
      const limitMs = patience.isLeft ? QUIET_LIMIT_MS : 0;
      const percent = await patience.spend(() => untilQuiet(limitMs));
      measurements.add(metric.otherLoad, percent);
    },
    say: (line) => console.error(`${secondsSince(startedAt)} s  ${line}`),
  };
  console.log(machineLine(machine));
  if (options.quick) console.log('--quick: too short for figures to quote');
  for (const benchmark of BENCHMARKS) {
    if (!benchmark.names.some(run.wanted)) continue;
    await benchmark.run(run);
    await open.clear();
    for (const table of benchmark.tables(run)) console.log(`\n${renderTable(table)}`);
  }
  const verdicts = TARGETS.filter((target) => run.wanted(target.benchmark)).map((target) =>
    judge(target, measurements),
  );
  console.log(`\n${renderTable(verdictTable(verdicts, measurements))}`);
  const file = await writeResults({ startedAt, options, machine, measurements, verdicts });
  console.log(`\n${file}`);
  return exitCodeOf(verdicts);
}

function secondsSince(from: Date): string {
  return String(Math.round((Date.now() - from.getTime()) / 1_000)).padStart(5);
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) return console.log(USAGE);
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => void end(code));
  stage = await Stage.open();
  if (!options.profile) await end(await measure(stage, options));
  await printProfiles(stage);
  await end(0);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  void end(1);
});
