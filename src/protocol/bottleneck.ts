import type { FunctionRef } from './function-ref.js';
import { isRecord } from './json.js';
import type { Malformed } from './notification.js';

/** Version of the packet; a reader drops others, and counts them. */
export const BOTTLENECK_VERSION = 1;

/** Facts that every word about a bottleneck carries. */
interface BottleneckBase {
  readonly type: 'bottleneck';
  readonly version: typeof BOTTLENECK_VERSION;
  readonly functionName: string;
  readonly workflowId: string;
  /** `began`; `lasts`, once a second; `ended`. One of which nothing was heard for five seconds is over, too. */
  readonly state: 'began' | 'lasts' | 'ended';
  /** When it was found, on Redis's clock. */
  readonly since: number;
  /** Redis's clock. */
  readonly timestamp: number;
  /** The process that looks for bottlenecks. */
  readonly detectedBy: string;
}

/** A function's backlog grows faster than it is served. */
export interface BacklogBottleneck extends BottleneckBase {
  readonly kind: 'backlog';
  readonly figures: {
    /** Calls in Redis, and those of them that no worker has taken. */
    readonly calls: number;
    readonly waiting: number;
    readonly oldestMs: number;
    readonly growthPerSecond: number;
    readonly servedPerSecond: number;
  };
}

/** A worker of a function is slower than the others. */
export interface SlowWorkerBottleneck extends BottleneckBase {
  readonly kind: 'slow-worker';
  readonly processId: string;
  readonly workerId: string;
  readonly figures: {
    readonly medianMs: number;
    /** Of the medians of the others. */
    readonly peersMedianMs: number;
    readonly peers: number;
    readonly runsPerSecond: number;
  };
}

/** Calls of a process wait for a worker of a function. */
export interface StarvedCallerBottleneck extends BottleneckBase {
  readonly kind: 'starved-caller';
  readonly processId: string;
  readonly workerId: string;
  readonly figures: { readonly waiting: number; readonly oldestWaitMs: number };
}

/** What is told on `function:bottleneck:${functionName}:${workflowId}`. */
export type BottleneckNotification =
  BacklogBottleneck | SlowWorkerBottleneck | StarvedCallerBottleneck;

const STATES: readonly unknown[] = ['began', 'lasts', 'ended'];
const FIGURES: Readonly<Record<BottleneckNotification['kind'], readonly string[]>> = {
  backlog: ['calls', 'waiting', 'oldestMs', 'growthPerSecond', 'servedPerSecond'],
  'slow-worker': ['medianMs', 'peersMedianMs', 'peers', 'runsPerSecond'],
  'starved-caller': ['waiting', 'oldestWaitMs'],
};

/** Reads what came on a channel of bottlenecks, checked against the function that the channel is about. */
export function parseBottleneck(
  ref: FunctionRef,
  data: unknown,
): BottleneckNotification | Malformed {
  if (!isRecord(data)) return { malformed: 'its data is not an object' };
  if (data['type'] !== 'bottleneck') return { malformed: 'its type is not bottleneck' };
  if (data['version'] !== BOTTLENECK_VERSION)
    return { malformed: `its version is not ${BOTTLENECK_VERSION}` };
  if (data['functionName'] !== ref.functionName || data['workflowId'] !== ref.workflowId)
    return { malformed: 'it names another function than its channel' };
  const { kind, state, figures, detectedBy } = data;
  if (!isKind(kind)) return { malformed: 'its kind is none that this version knows' };
  if (!STATES.includes(state)) return { malformed: 'its state is none that this version knows' };
  if (!hasNumbers(data, ['since', 'timestamp']))
    return { malformed: 'since or timestamp is not a number' };
  const places = kind === 'backlog' ? [] : [data['processId'], data['workerId']];
  if (![detectedBy, ...places].every((name) => typeof name === 'string'))
    return { malformed: 'it does not say whose it is' };
  if (!isRecord(figures) || !hasNumbers(figures, FIGURES[kind]))
    return { malformed: 'its figures are not complete' };
  return data as unknown as BottleneckNotification;
}

function isKind(kind: unknown): kind is BottleneckNotification['kind'] {
  return typeof kind === 'string' && Object.hasOwn(FIGURES, kind);
}

/** Below zero, too: a backlog that is worked off grows by less than nothing. */
function hasNumbers(value: Record<string, unknown>, fields: readonly string[]): boolean {
  return fields.every((field) => Number.isFinite(value[field]));
}
