import type { Measurements } from '../report/measurements.js';
import type { Table } from '../report/table.js';
import type { Patience } from '../stage/patience.js';
import type { Stage } from '../stage/stage.js';

/** All benchmarks, in the order in which they run. */
export const BENCHMARK_NAMES = [
  'latency',
  'throughput',
  'readiness',
  'status',
  'functions',
  'workers',
  'waiters',
  'pending',
  'metrics',
  'idle',
  'start-up',
] as const;

export type BenchmarkName = (typeof BENCHMARK_NAMES)[number];

/** What a benchmark works with. */
export interface Run {
  readonly stage: Stage;
  readonly measurements: Measurements;
  readonly rounds: number;
  /** Shortens everything to a look at whether it works. */
  readonly quick: boolean;
  /** Whether one of a benchmark's names was asked for. */
  readonly wanted: (name: BenchmarkName) => boolean;
  /** What is left of the run's time for repeating what others disturbed. */
  readonly patience: Patience;
  /** Waits, for a while at the most, until other programs leave the machine alone; before every figure. */
  readonly quiet: () => Promise<void>;
  /** Progress, for people. */
  readonly say: (line: string) => void;
}

/** One benchmark, or two that share their processes. */
export interface Benchmark {
  readonly names: readonly BenchmarkName[];
  run(run: Run): Promise<void>;
  tables(run: Run): Table[];
}
