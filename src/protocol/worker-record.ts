import { decodeJson, isRecord } from './json.js';
import { isGeneration } from './workflow-event.js';

/** Where a worker stands in its life. */
export type WorkerStatus =
  /** Takes calls. */
  | 'ready'
  /** Registered, but said that it cannot work for now; takes no calls. */
  | 'unhealthy'
  /** Finishes what it runs and takes no calls. */
  | 'draining';

/** A worker of a function as the registry in Redis knows it. */
export interface WorkerRecord {
  readonly workerId: string;
  readonly processId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly status: WorkerStatus;
  /** Why it is unhealthy. */
  readonly reason?: string;
  /** Redis's clock at the last change, milliseconds since the epoch. */
  readonly timestamp: number;
  /** Fingerprint of the definition it registered. */
  readonly definition: string;
  /** The workflow's generation that its process had loaded when it registered; absent in an older library. */
  readonly generation?: number;
}

const STATUSES: readonly string[] = ['ready', 'unhealthy', 'draining'] satisfies WorkerStatus[];

/** Reads a record; `undefined` when it is none. */
export function parseWorkerRecord(text: string): WorkerRecord | undefined {
  let value: unknown;
  try {
    value = decodeJson(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const numbers = [value['epoch'], value['seq'], value['timestamp']];
  if (numbers.some((n) => typeof n !== 'number')) return undefined;
  if (typeof value['workerId'] !== 'string' || typeof value['processId'] !== 'string')
    return undefined;
  if (!STATUSES.includes(String(value['status']))) return undefined;
  if (value['generation'] !== undefined && !isGeneration(value['generation'])) return undefined;
  return value as unknown as WorkerRecord;
}
