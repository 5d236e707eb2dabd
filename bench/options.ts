import { parseArgs } from 'node:util';
import { BENCHMARK_NAMES, type BenchmarkName } from './benchmarks/benchmark.js';

/** What `npm run bench -- ...` was asked for. */
export interface BenchOptions {
  readonly only: readonly BenchmarkName[];
  readonly rounds: number;
  readonly quick: boolean;
  /** Prints where the time of a call goes instead of measuring. */
  readonly profile: boolean;
  readonly help: boolean;
}

export const USAGE = `npm run bench -- [options]
  --only latency,status   some of: ${BENCHMARK_NAMES.join(', ')}
  --rounds 5              rounds of each (3)
  --quick                 short rounds: a look at whether everything works, no figures to quote
  --profile               where a call's time goes: top functions of caller and worker, and nothing else
  --help
Exit code: 0 all targets met, 1 one was missed, 2 none was missed but one could not be measured.`;

/** @throws Error that names what is wrong and what is allowed */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      quick: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds ${values.rounds}: allowed is a whole number, 1 or more`);
  const only = values.only === undefined ? BENCHMARK_NAMES : values.only.split(',').map(known);
  return { only, rounds, quick: values.quick, profile: values.profile, help: values.help };
}

function known(name: string): BenchmarkName {
  const found = BENCHMARK_NAMES.find((benchmark) => benchmark === name.trim());
  if (found === undefined)
    throw new Error(`--only ${name}: allowed are ${BENCHMARK_NAMES.join(', ')}`);
  return found;
}
