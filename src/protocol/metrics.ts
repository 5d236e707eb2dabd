import type { FunctionRef } from './function-ref.js';
import { hasCounts, isRecord } from './json.js';
import type { Malformed } from './notification.js';

/** Version of the packet; a reader drops others, and counts them. */
export const METRICS_VERSION = 1;
/** Further codes of a function's errors are counted under {@link OTHER_CODES}. */
export const MAX_ERROR_CODES = 32;
/** Where errors are counted whose code is one too many. */
export const OTHER_CODES = 'OTHER';
/** Longer ones were not made by the library, and could be far larger when unpacked. */
const MAX_HDR_LENGTH = 16_384;
const MAX_CODE_LENGTH = 128;

/** How long something took, since the measurement began. */
export interface LatencyRecord {
  readonly count: number;
  readonly sumMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** HdrHistogram V2, compressed, base64; microseconds. `''`: nothing was measured. */
  readonly hdr: string;
}

/** Errors by their code. */
export type ErrorCounts = Readonly<Record<string, number>>;

/** What a process measured of the calls that it makes of a function. */
export interface CallerMetrics {
  /** Settled, one way or another. */
  readonly calls: number;
  readonly errors: ErrorCounts;
  /** Calls that wait for a worker now. */
  readonly waiting: number;
  /** How long the first of them has been waiting. */
  readonly oldestWaitMs: number;
  /** Calls that are on their way, or run, now. */
  readonly pending: number;
  /** From the call until there was a worker. */
  readonly wait: LatencyRecord;
  /** From the submission to the answer. */
  readonly roundTrip: LatencyRecord;
}

/** A function's calls in Redis, waiting and running. */
export interface BacklogMetrics {
  readonly calls: number;
  /** Those that no worker has taken. */
  readonly waiting: number;
  /** Age of the oldest one; 0 when there is none. */
  readonly oldestMs: number;
}

/** What a process measured of the runs of a function. */
export interface WorkerMetrics {
  /** Ended, one way or another. */
  readonly runs: number;
  readonly errors: ErrorCounts;
  /** Runs that failed, and follow-up runs were ordered for. */
  readonly retries: number;
  /** How often calls that ended here had changed their worker before. */
  readonly handOvers: number;
  /** Calls whose handler runs now. */
  readonly running: number;
  /** Calls that wait here for a place. */
  readonly queued: number;
  /** From the entry in Redis to the start of the handler. */
  readonly queue: LatencyRecord;
  /** Of the handler. */
  readonly run: LatencyRecord;
  /** Absent when it could not be asked for. */
  readonly backlog?: BacklogMetrics;
}

/** What a process publishes of a function, once a second while somebody listens. */
export interface MetricsNotification {
  readonly type: 'metrics';
  readonly version: typeof METRICS_VERSION;
  readonly functionName: string;
  readonly workflowId: string;
  /** The process's default workerId. */
  readonly workerId: string;
  readonly processId: string;
  /** When it began to measure, on Redis's clock: what is counted is counted from then on. */
  readonly epoch: number;
  /** Counts the process's reports of the function in an epoch. */
  readonly seq: number;
  /** Redis's clock. */
  readonly timestamp: number;
  readonly eventLoopLagMs: number;
  /** Absent when the process has made no call of the function. */
  readonly caller?: CallerMetrics;
  /** Absent when the process does not host the function. */
  readonly worker?: WorkerMetrics;
}

/** Reads what came on a metrics channel, checked against the function that the channel is about. */
export function parseMetrics(ref: FunctionRef, data: unknown): MetricsNotification | Malformed {
  if (!isRecord(data)) return { malformed: 'its data is not an object' };
  if (data['type'] !== 'metrics') return { malformed: 'its type is not metrics' };
  if (data['version'] !== METRICS_VERSION)
    return { malformed: `its version is not ${METRICS_VERSION}` };
  if (data['functionName'] !== ref.functionName || data['workflowId'] !== ref.workflowId)
    return { malformed: 'it names another function than its channel' };
  for (const field of ['workerId', 'processId']) {
    const value = data[field];
    if (typeof value !== 'string' || value === '' || value.length > 512)
      return { malformed: `${field} is missing` };
  }
  if (!hasCounts(data, ['epoch', 'seq', 'timestamp', 'eventLoopLagMs']))
    return { malformed: 'epoch, seq, timestamp or eventLoopLagMs is not a number' };
  if (data['caller'] !== undefined && !isCaller(data['caller']))
    return { malformed: 'what it says of the caller is not complete' };
  if (data['worker'] !== undefined && !isWorker(data['worker']))
    return { malformed: 'what it says of the worker is not complete' };
  return data as unknown as MetricsNotification;
}

function isCaller(value: unknown): boolean {
  return (
    isRecord(value) &&
    hasCounts(value, ['calls', 'waiting', 'oldestWaitMs', 'pending']) &&
    isErrors(value['errors']) &&
    isLatency(value['wait']) &&
    isLatency(value['roundTrip'])
  );
}

function isWorker(value: unknown): boolean {
  return (
    isRecord(value) &&
    hasCounts(value, ['runs', 'retries', 'handOvers', 'running', 'queued']) &&
    isErrors(value['errors']) &&
    isLatency(value['queue']) &&
    isLatency(value['run']) &&
    (value['backlog'] === undefined || isBacklog(value['backlog']))
  );
}

function isBacklog(value: unknown): boolean {
  return isRecord(value) && hasCounts(value, ['calls', 'waiting', 'oldestMs']);
}

function isErrors(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const codes = Object.keys(value);
  return (
    codes.length <= MAX_ERROR_CODES + 1 &&
    codes.every((code) => code.length <= MAX_CODE_LENGTH) &&
    hasCounts(value, codes)
  );
}

function isLatency(value: unknown): boolean {
  return (
    isRecord(value) &&
    hasCounts(value, ['count', 'sumMs', 'p50Ms', 'p99Ms', 'maxMs']) &&
    typeof value['hdr'] === 'string' &&
    value['hdr'].length <= MAX_HDR_LENGTH
  );
}

/** The question whether somebody listens: an answer needs no more than to have received it. */
export function isProbe(data: unknown): boolean {
  return isRecord(data) && data['type'] === 'probe';
}

/** A code as it is counted: short, for handlers choose their own. */
export function countedCode(code: string): string {
  return code.slice(0, MAX_CODE_LENGTH);
}
