import type { BacklogMetrics, ErrorCounts } from '../protocol/metrics.js';
import type { LatencySummary } from './histograms.js';

/** One process, as it measured one function. */
export interface ProcessFunctionMetrics {
  readonly processId: string;
  readonly workerId: string;
  /** When it said so, on Redis's clock. */
  readonly timestamp: number;
  /** Since when it counts, on Redis's clock. */
  readonly since: number;
  /** Calls that it made, and runs that it did. */
  readonly calls: number;
  readonly runs: number;
  readonly callsPerSecond: number;
  readonly runsPerSecond: number;
  readonly waiting: number;
  readonly pending: number;
  readonly running: number;
  readonly queued: number;
  readonly roundTrip: LatencySummary;
  readonly run: LatencySummary;
}

/** One function, over all processes that measured it. */
export interface FunctionMetrics {
  readonly functionName: string;
  readonly workflowId: string;
  /** Calls that were settled at their callers, and errors that these got, by code. */
  readonly calls: number;
  readonly callErrors: ErrorCounts;
  /** Runs that ended at workers, and what their handlers failed with, by code. */
  readonly runs: number;
  readonly runErrors: ErrorCounts;
  /** Further runs that a retry policy ordered. */
  readonly retries: number;
  /** How often calls that are over had changed their worker. */
  readonly handOvers: number;
  /** Per second, between the last two reports. */
  readonly callsPerSecond: number;
  readonly runsPerSecond: number;
  /** Calls that wait for a worker now, and how long the first has been waiting. */
  readonly waiting: number;
  readonly oldestWaitMs: number;
  /** Calls that callers wait for now. */
  readonly pending: number;
  /** Handlers that run now, and calls that wait at workers for a place. */
  readonly running: number;
  readonly queued: number;
  /** Calls in Redis, as the last worker found them; `undefined` when none said so. */
  readonly backlog: BacklogMetrics | undefined;
  /** From a call until it had a worker. */
  readonly wait: LatencySummary;
  /** From the submission to the answer. */
  readonly roundTrip: LatencySummary;
  /** From the entry in Redis to the start of the handler. */
  readonly queue: LatencySummary;
  /** Of the handler. */
  readonly run: LatencySummary;
  readonly processes: readonly ProcessFunctionMetrics[];
}

/** A process that reported lately. */
export interface ProcessMetrics {
  readonly processId: string;
  readonly workerId: string;
  readonly eventLoopLagMs: number;
}

/** What the fleet measured, as far as it was heard. */
export interface FleetMetrics {
  /** When it was put together, on Redis's clock. */
  readonly timestamp: number;
  /** Sorted by workflow and name. */
  readonly functions: readonly FunctionMetrics[];
  readonly processes: readonly ProcessMetrics[];
  /** Packets that could not be read (of a newer version, or foreign), came late, or were too many. */
  readonly dropped: number;
  /** Reports that were published and did not come, or came late: what they said is in the next ones. */
  readonly lost: number;
}
