import type { BacklogMetrics } from '../protocol/metrics.js';
import type { FunctionMeter } from './function-meter.js';
import type { Latencies } from './histograms.js';
import type { Measured } from './metrics-report.js';

/** A function as it is at the moment of a scrape. */
export interface Scraped extends Measured {
  readonly backlog: BacklogMetrics | undefined;
}

/** One value, of one function unless it says otherwise. */
export interface Sample {
  readonly value: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A metric that Prometheus sees. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Of one function; nothing where the process has nothing to say. */
  readonly read: (fn: Scraped) => readonly Sample[] | Latencies;
}

const one = (value: number): Sample[] => [{ value }];
const byCode = (counts: Record<string, number>): Sample[] =>
  Object.entries(counts).map(([code, value]) => ({ value, labels: { code } }));

const ofMeter = (
  type: Family['type'],
  name: string,
  help: string,
  read: (meter: FunctionMeter) => readonly Sample[] | Latencies,
): Family => ({ name: `nestjs_functions_${name}`, help, type, read: ({ meter }) => read(meter) });

/** Of functions that are hosted here. */
const ofHost = (name: string, help: string, read: (fn: Scraped) => number | undefined): Family => ({
  name: `nestjs_functions_${name}`,
  help,
  type: 'gauge',
  read: (fn) => {
    const value = fn.load === undefined ? undefined : read(fn);
    return value === undefined ? [] : one(value);
  },
});

/** Everything that is measured per function; docs/metrics.md lists it. */
export const FAMILIES: readonly Family[] = [
  ofMeter('counter', 'calls_total', 'Calls that this process made and that are settled', (fn) =>
    one(fn.calls),
  ),
  ofMeter('counter', 'call_errors_total', 'Errors that these calls got, by code', (fn) =>
    byCode(fn.callErrors.toRecord()),
  ),
  ofMeter('gauge', 'calls_waiting', 'Calls that wait for a worker', (fn) => one(fn.waiting)),
  ofMeter('gauge', 'calls_pending', 'Calls that have a worker and no answer yet', (fn) =>
    one(fn.pending),
  ),
  ofMeter('histogram', 'call_wait_seconds', 'From a call until it had a worker', (fn) => fn.wait),
  ofMeter(
    'histogram',
    'call_duration_seconds',
    'From the submission of a call to its answer',
    (fn) => fn.roundTrip,
  ),
  ofMeter('counter', 'runs_total', 'Runs that ended in this process', (fn) => one(fn.runs)),
  ofMeter('counter', 'run_errors_total', 'Errors that runs ended with, by code', (fn) =>
    byCode(fn.runErrors.toRecord()),
  ),
  ofMeter('counter', 'run_retries_total', 'Further runs that a retry policy ordered', (fn) =>
    one(fn.retries),
  ),
  ofMeter(
    'counter',
    'hand_overs_total',
    'How often calls that ended in this process had changed their worker',
    (fn) => one(fn.handOvers),
  ),
  ofMeter(
    'histogram',
    'run_queue_seconds',
    'From the entry in Redis to the start of the handler',
    (fn) => fn.queue,
  ),
  ofMeter('histogram', 'run_duration_seconds', 'How long handlers ran', (fn) => fn.run),
  ofHost('runs_running', 'Handlers that run', ({ load }) => load?.running),
  ofHost('runs_queued', 'Calls that wait in this process for a place', ({ load }) => load?.queued),
  ofHost('backlog_calls', 'Calls in Redis, waiting and running', ({ backlog }) => backlog?.calls),
  ofHost(
    'backlog_waiting_calls',
    'Calls in Redis that no worker has taken',
    ({ backlog }) => backlog?.waiting,
  ),
  ofHost(
    'backlog_oldest_seconds',
    'Age of the oldest call in Redis',
    ({ backlog }) => backlog && backlog.oldestMs / 1_000,
  ),
];

/** Upper bounds of the buckets of histograms, in seconds. */
export const BUCKETS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
