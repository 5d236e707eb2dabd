import { hasCounts, isCount, isRecord } from './json.js';

/** How a function does at a worker, over the last half second. */
export interface WorkerVitals {
  readonly runs: number;
  readonly medianMs: number;
  readonly running: number;
  /** Median of how long those that run have been running. */
  readonly runningMs: number;
}

/** How a caller waits for workers of a function now. */
export interface CallerVitals {
  readonly waiting: number;
  readonly oldestWaitMs: number;
}

/** One function in one process. */
export interface FunctionVitals {
  /** The function's id. */
  readonly id: string;
  readonly worker?: WorkerVitals;
  readonly caller?: CallerVitals;
}

/** What a process tells who looks for bottlenecks, twice a second. */
export interface Vitals {
  readonly type: 'vitals';
  readonly version: 1;
  readonly processId: string;
  readonly workerId: string;
  readonly eventLoopLagMs: number;
  readonly functions: readonly FunctionVitals[];
}

/** Functions that one message tells of at the most. */
export const MAX_VITALS = 200;

/** Reads what came on the channel of vitals; `undefined` when it is none, or of another version. */
export function parseVitals(data: unknown): Vitals | undefined {
  if (!isRecord(data) || data['type'] !== 'vitals' || data['version'] !== 1) return undefined;
  const { processId, workerId, eventLoopLagMs, functions } = data;
  if (!isText(processId) || !isText(workerId) || !isCount(eventLoopLagMs)) return undefined;
  if (!Array.isArray(functions) || functions.length > MAX_VITALS) return undefined;
  return functions.every(isFunctionVitals) ? (data as unknown as Vitals) : undefined;
}

function isFunctionVitals(value: unknown): boolean {
  if (!isRecord(value) || !isText(value['id'])) return false;
  const { worker, caller } = value;
  const isWorker =
    worker === undefined ||
    (isRecord(worker) && hasCounts(worker, ['runs', 'medianMs', 'running', 'runningMs']));
  const isCaller =
    caller === undefined || (isRecord(caller) && hasCounts(caller, ['waiting', 'oldestWaitMs']));
  return isWorker && isCaller;
}

/** The longest function id has about 4,600 characters. */
function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= 8_192;
}
