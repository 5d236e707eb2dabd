import type { Benchmark } from './benchmark.js';
import { functions } from './functions.js';
import { idle } from './idle.js';
import { latencyAndThroughput } from './latency-and-throughput.js';
import { metricsPrice } from './metrics-price.js';
import { pending } from './pending.js';
import { readiness } from './readiness.js';
import { startUp } from './start-up.js';
import { status } from './status.js';
import { waiters } from './waiters.js';
import { workers } from './workers.js';

/** In the order in which they run. */
export const BENCHMARKS: readonly Benchmark[] = [
  latencyAndThroughput,
  readiness,
  status,
  functions,
  workers,
  waiters,
  pending,
  metricsPrice,
  idle,
  startUp,
];
