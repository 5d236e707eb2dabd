import type { BenchmarkName } from '../benchmarks/benchmark.js';
import type { PeerName } from '../peers/registry.js';
import type { Measurements } from './measurements.js';
import { metric, type Lanes } from './metrics.js';

/** A figure, or a ratio of two, and what it has to keep. */
export interface Target {
  readonly benchmark: BenchmarkName;
  readonly what: string;
  readonly of: string;
  /** The metric that it is divided by. */
  readonly to?: string;
  /** The metric that it is reduced by. */
  readonly minus?: string;
  readonly bound: 'at most' | 'at least';
  readonly limit: number;
  /** Of the figure; a ratio has none. */
  readonly unit: string;
}

/** What became of a target. */
export type Verdict =
  | { readonly target: Target; readonly state: 'met' | 'missed'; readonly value: number }
  | { readonly target: Target; readonly state: 'not measured'; readonly reason: string };

const OURS = 'nestjs-functions';

function latencyTarget(peer: PeerName, limit: number): Target {
  return {
    benchmark: 'latency',
    what: `one at a time, p50, to ${peer}`,
    of: metric.latency(OURS, 100, 'p50'),
    to: metric.latency(peer, 100, 'p50'),
    bound: 'at most',
    limit,
    unit: 'x',
  };
}

function throughputTarget(lanes: Lanes, peer: PeerName, limit: number): Target {
  return {
    benchmark: 'throughput',
    what: `${lanes} in flight, calls/s, to ${peer}`,
    of: metric.throughput(OURS, lanes),
    to: metric.throughput(peer, lanes),
    bound: 'at least',
    limit,
    unit: 'x',
  };
}

/** The ratios to reach. */
export const TARGETS: readonly Target[] = [
  latencyTarget('nest-redis', 0.75),
  latencyTarget('bullmq', 0.35),
  latencyTarget('nats', 1),
  latencyTarget('moleculer', 1.1),
  throughputTarget(64, 'nest-redis', 1.5),
  throughputTarget(64, 'bullmq', 10),
  throughputTarget(64, 'moleculer', 1.4),
  throughputTarget(64, 'nats', 1.4),
  throughputTarget(512, 'nest-redis', 2.5),
  throughputTarget(512, 'bullmq', 8),
  throughputTarget(512, 'moleculer', 2),
  throughputTarget(512, 'nats', 2),
  throughputTarget(512, 'floor-streams', 0.8),
  {
    benchmark: 'throughput',
    what: 'Redis commands per call at 512 in flight',
    of: metric.commands(OURS, 512),
    bound: 'at most',
    limit: 2.6,
    unit: 'commands',
  },
  {
    benchmark: 'readiness',
    what: 'ready -> waiter released, p50, to a bare subscriber',
    of: metric.readiness('waiter', 'p50'),
    to: metric.readiness('bare subscriber', 'p50'),
    bound: 'at most',
    limit: 1.25,
    unit: 'x',
  },
  {
    benchmark: 'readiness',
    what: 'ready -> waiter released, p99',
    of: metric.readiness('waiter', 'p99'),
    bound: 'at most',
    limit: 20,
    unit: 'ms',
  },
  {
    benchmark: 'status',
    what: 'getInstantWorkerStatus per second',
    of: metric.status,
    bound: 'at least',
    limit: 1_000_000,
    unit: '/s',
  },
  {
    benchmark: 'status',
    what: 'Redis commands that it causes',
    of: metric.statusCommands,
    bound: 'at most',
    limit: 0,
    unit: 'commands',
  },
  {
    benchmark: 'functions',
    what: '1,000 functions in one worker, calls/s at 64, to 1',
    of: metric.functionsThroughput(1_000, 'spread'),
    to: metric.functionsThroughput(1, 'spread'),
    bound: 'at least',
    limit: 0.8,
    unit: 'x',
  },
  {
    benchmark: 'functions',
    what: '1,000 functions in one worker, p50, to 1',
    of: metric.functionsLatency(1_000, 'spread'),
    to: metric.functionsLatency(1, 'spread'),
    bound: 'at most',
    limit: 1.5,
    unit: 'x',
  },
  {
    benchmark: 'waiters',
    what: '10,000 waiters released by one ready',
    of: metric.waiters(10_000),
    bound: 'at most',
    limit: 100,
    unit: 'ms',
  },
  {
    benchmark: 'waiters',
    what: 'subscriptions of 10,000 waiters',
    of: metric.waiterSubscriptions(10_000),
    bound: 'at most',
    limit: 1,
    unit: 'subscription',
  },
  {
    benchmark: 'metrics',
    what: 'told of metrics while nobody listens',
    of: metric.metricsTold('nobody'),
    bound: 'at most',
    limit: 0,
    unit: '/s',
  },
  {
    benchmark: 'idle',
    what: 'idle process with 1,000 functions',
    of: metric.idleCommands(1_000),
    bound: 'at most',
    limit: 5,
    unit: 'commands/s',
  },
  {
    benchmark: 'idle',
    what: 'growth of that from 1 to 1,000 functions',
    of: metric.idleCommands(1_000),
    minus: metric.idleCommands(1),
    bound: 'at most',
    // What the windows' edges leave: a heartbeat more or less in some seconds.
    limit: 0.5,
    unit: 'commands/s',
  },
];

/** Holds a target against what was measured. A target without its figures is never met. */
export function judge(target: Target, measurements: Measurements): Verdict {
  for (const needed of [target.of, target.to, target.minus]) {
    if (needed === undefined || measurements.median(needed) !== undefined) continue;
    return { target, state: 'not measured', reason: measurements.reason(needed) };
  }
  const value = valueOf(target, measurements);
  const holds = target.bound === 'at most' ? value <= target.limit : value >= target.limit;
  return { target, state: holds ? 'met' : 'missed', value };
}

function valueOf({ of, to, minus }: Target, measurements: Measurements): number {
  const value = measurements.median(of) ?? NaN;
  if (to !== undefined) return value / (measurements.median(to) ?? NaN);
  return value - (minus === undefined ? 0 : (measurements.median(minus) ?? NaN));
}

/** 1: a target was missed. 2: none was, but one could not be measured. 0: all that was asked for is met. */
export function exitCodeOf(verdicts: readonly Verdict[]): 0 | 1 | 2 {
  if (verdicts.some(({ state }) => state === 'missed')) return 1;
  return verdicts.some(({ state }) => state === 'not measured') ? 2 : 0;
}
