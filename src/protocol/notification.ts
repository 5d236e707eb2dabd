import { decodeJson, isCount, isRecord } from './json.js';
import type { ChannelAddress, NotificationType } from './keys.js';

/** Facts that every notification carries. */
interface NotificationBase {
  readonly functionName: string;
  readonly workflowId: string;
  readonly workerId: string;
  /** One life of the worker; grows when it registers anew. */
  readonly epoch: number;
  /** Counts the worker's notifications in its epoch. */
  readonly seq: number;
  /** Redis's clock, milliseconds since the epoch. */
  readonly timestamp: number;
}

/** A worker is fully able to run the function: its group exists and its read is in place. */
export interface ReadyNotification extends NotificationBase {
  readonly type: 'ready';
  /** The process that hosts the worker. */
  readonly processId?: string;
  /** Fingerprint of the definition that it registered. */
  readonly definition?: string;
  /** Whether the worker is healthy; `true` when absent. */
  readonly healthy?: boolean;
  /** The generation of the workflow that its process has loaded; absent in an older library. */
  readonly generation?: number;
}

/** A worker takes no further calls and is about to leave. */
export interface ShutdownNotification extends NotificationBase {
  readonly type: 'shutdown';
  /** How long the worker expects to be away, in milliseconds. */
  readonly estimatedDowntimeMs: number;
}

/** A worker is gone. */
export interface OfflineNotification extends NotificationBase {
  readonly type: 'offline';
  /** Why: `shutdown`, `unregistered`, `process_died`, `lease_expired`, or the application's own word. */
  readonly reason: string;
}

/** A worker's health, periodically and on change. */
export interface HealthNotification extends NotificationBase {
  readonly type: 'health';
  readonly healthy: boolean;
  /** Why it is not healthy. */
  readonly reason?: string;
}

/** News about a worker of a function. */
export type Notification =
  ReadyNotification | ShutdownNotification | OfflineNotification | HealthNotification;

/** A Nest packet: what travels on a channel. */
export interface Packet {
  readonly pattern: unknown;
  readonly data: unknown;
}

/** A message that is not what its channel is for. */
export interface Malformed {
  readonly malformed: string;
}

/** Larger messages on a channel are foreign: ours stay below 2 kB. */
export const MAX_NOTIFICATION_LENGTH = 64 * 1024;

/** Reads a Nest packet. */
export function parsePacket(text: string): Packet | Malformed {
  let value: unknown;
  try {
    value = decodeJson(text);
  } catch {
    return { malformed: 'it is not JSON' };
  }
  if (!isRecord(value) || !('pattern' in value) || !('data' in value)) {
    return { malformed: 'it is not a Nest packet {"pattern", "data"}' };
  }
  return { pattern: value['pattern'], data: value['data'] };
}

/** Reads a Nest packet of this library's own news: what is in its data. */
export function parseNews(text: string): { readonly data: Record<string, unknown> } | Malformed {
  if (text.length > MAX_NOTIFICATION_LENGTH) {
    return {
      malformed: `it has ${text.length} characters, ${MAX_NOTIFICATION_LENGTH} at most are allowed`,
    };
  }
  const packet = parsePacket(text);
  if ('malformed' in packet) return packet;
  const { data } = packet;
  return isRecord(data) ? { data } : { malformed: 'its data is not an object' };
}

/** Reads a notification, checked against the channel it came on. */
export function parseNotification(address: ChannelAddress, text: string): Notification | Malformed {
  const news = parseNews(text);
  if ('malformed' in news) return news;
  const { data } = news;
  const problem = problemOf(address, data);
  return problem === undefined ? (data as unknown as Notification) : { malformed: problem };
}

/** Whether a parse failed. */
export function isMalformed<T extends object>(value: T | Malformed): value is Malformed {
  return 'malformed' in value;
}

function problemOf(address: ChannelAddress, data: Record<string, unknown>): string | undefined {
  if (data['type'] !== address.type) return `its type is not ${address.type}`;
  if (
    data['functionName'] !== address.ref.functionName ||
    data['workflowId'] !== address.ref.workflowId
  ) {
    return 'it names another function than its channel';
  }
  if (typeof data['workerId'] !== 'string' || data['workerId'] === '') return 'workerId is missing';
  if (!isCount(data['epoch'])) return 'epoch is not a number';
  if (!isCount(data['seq'])) return 'seq is not a number';
  if (!isCount(data['timestamp'])) return 'timestamp is not a number';
  return detailProblemOf(address.type, data);
}

/** What is wrong with what news of this kind carry. A waiting call waits for it: no tables, no loops. */
function detailProblemOf(
  type: NotificationType,
  data: Record<string, unknown>,
): string | undefined {
  const isOptional = (field: string, expected: string): boolean =>
    data[field] === undefined || typeof data[field] === expected;
  switch (type) {
    case 'ready':
      if (!isOptional('processId', 'string')) return 'processId is not a string';
      if (!isOptional('definition', 'string')) return 'definition is not a string';
      if (!isOptional('generation', 'number')) return 'generation is not a number';
      return isOptional('healthy', 'boolean') ? undefined : 'healthy is not a boolean';
    case 'shutdown':
      return typeof data['estimatedDowntimeMs'] === 'number'
        ? undefined
        : 'estimatedDowntimeMs is not a number';
    case 'offline':
      return typeof data['reason'] === 'string' ? undefined : 'reason is not a string';
    case 'health':
      if (typeof data['healthy'] !== 'boolean') return 'healthy is not a boolean';
      return isOptional('reason', 'string') ? undefined : 'reason is not a string';
  }
}
