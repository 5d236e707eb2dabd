import type { FunctionRef } from './function-ref.js';
import { decodeJson, isRecord } from './json.js';
import { parseNews, type Malformed } from './notification.js';

/**
 * - `closed`: calls pass
 * - `open`: calls are refused
 * - `half-open`: one call in the whole fleet passes, to see whether the function works again
 */
export type CircuitState = 'closed' | 'open' | 'half-open';

/** What is stored of a function's circuit: the truth about it. Times are Redis's, milliseconds since the epoch. */
export interface CircuitRecord {
  /** Grows with each change; 0: there never was one. */
  readonly generation: number;
  readonly state: CircuitState;
  /** When it came into this state. */
  readonly since: number;
  /** `open`: when it is tried again, absent when only by hand. `half-open`: when the probe is given up. */
  readonly retryAt?: number;
  /** Why it is not closed: `failure-rate`, `probe-failed`, or an operator's word. */
  readonly reason?: string;
  /** `half-open`: the process whose call is the probe. */
  readonly prober?: string;
}

/** A change of a circuit, as its channel tells it. */
export interface CircuitNotification extends CircuitRecord {
  readonly type: 'circuit';
  readonly functionName: string;
  readonly workflowId: string;
  /** Redis's clock. */
  readonly timestamp: number;
}

/** The circuit of a function of which nothing is stored. */
export const NO_RECORD: CircuitRecord = Object.freeze({ generation: 0, state: 'closed', since: 0 });

const STATES: readonly unknown[] = ['closed', 'open', 'half-open'] satisfies CircuitState[];

/** Reads a record; `''` is that of a circuit that never changed. */
export function parseCircuitRecord(text: string): CircuitRecord | Malformed {
  if (text === '') return NO_RECORD;
  let value: unknown;
  try {
    value = decodeJson(text);
  } catch {
    return { malformed: 'it is not JSON' };
  }
  if (!isRecord(value)) return { malformed: 'it is not an object' };
  const problem = problemOf(value);
  return problem === undefined ? recordOf(value) : { malformed: problem };
}

/** Reads the news of a circuit, checked against the channel they came on. */
export function parseCircuitNotification(
  ref: FunctionRef,
  text: string,
): CircuitNotification | Malformed {
  const news = parseNews(text);
  if ('malformed' in news) return news;
  const { data } = news;
  if (data['type'] !== 'circuit') return { malformed: 'its type is not circuit' };
  const { functionName, workflowId } = ref;
  if (data['functionName'] !== functionName || data['workflowId'] !== workflowId)
    return { malformed: 'it names another function than its channel' };
  const { timestamp } = data;
  if (!isTime(timestamp)) return { malformed: 'timestamp is not a number' };
  const problem = problemOf(data);
  if (problem !== undefined) return { malformed: problem };
  return { type: 'circuit', functionName, workflowId, timestamp, ...recordOf(data) };
}

function problemOf(value: Record<string, unknown>): string | undefined {
  if (!STATES.includes(value['state'])) return 'its state is none that this version knows';
  if (!isTime(value['generation'])) return 'generation is not a number';
  if (!isTime(value['since'])) return 'since is not a number';
  const { retryAt } = value;
  if (retryAt !== undefined && !isTime(retryAt)) return 'retryAt is not a number';
  if (value['state'] === 'half-open' && retryAt === undefined) return 'retryAt is missing';
  for (const field of ['reason', 'prober'])
    if (value[field] !== undefined && typeof value[field] !== 'string')
      return `${field} is not a string`;
  return undefined;
}

function isTime(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** The fields that this version knows; others are a later version's. */
function recordOf(value: Record<string, unknown>): CircuitRecord {
  const { generation, state, since, retryAt, reason, prober } = value;
  return {
    ...{ generation, state, since },
    ...(retryAt === undefined ? {} : { retryAt }),
    ...(reason === undefined ? {} : { reason }),
    ...(prober === undefined ? {} : { prober }),
  } as CircuitRecord;
}
