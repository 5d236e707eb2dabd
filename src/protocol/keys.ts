import { decodeName, encodeName, functionRef, type FunctionRef } from './function-ref.js';
import { WORKFLOW_EVENTS, type WorkflowAddress, type WorkflowEventType } from './workflow-event.js';

/** The four kinds of news about a worker of a function. */
export type NotificationType = 'ready' | 'shutdown' | 'offline' | 'health';

/** All of them, in the order of a worker's life. */
export const NOTIFICATION_TYPES: readonly NotificationType[] = [
  'ready',
  'shutdown',
  'offline',
  'health',
];

const CHANNEL_HEADS: Readonly<Record<NotificationType, string>> = {
  ready: 'function:ready:',
  shutdown: 'function:shutdown:',
  offline: 'function:offline:',
  health: 'worker:health:',
};

/** What is measured of a function, and where it is too slow: told while somebody listens. */
export type TelemetryType = 'metrics' | 'bottleneck';

const TELEMETRY_HEADS: Readonly<Record<TelemetryType, string>> = {
  metrics: 'function:metrics:',
  bottleneck: 'function:bottleneck:',
};
const CIRCUIT_HEAD = 'circuit:state:';

/** What a channel name tells. */
export interface ChannelAddress {
  readonly type: NotificationType;
  readonly ref: FunctionRef;
}

/**
 * Every Redis key and channel of the library, and the only place that spells them.
 *
 * - All keys of one function carry the hash tag `{functionName:workflowId}`, so a script over them stays in
 *   one slot of a Cluster.
 * - Process and session ids are made by the library of characters that need no encoding.
 * - `prefix` stands in front of every key and channel: pub/sub ignores the database number, so the prefix
 *   is what separates tenants.
 */
export class Keys {
  constructor(readonly prefix: string) {}

  /** Stream of a function's calls. */
  calls(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:calls`;
  }

  /** Hash of a function's worker records: workerId to JSON. */
  workers(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:workers`;
  }

  /** The highest epoch of the function's workers that left lately. */
  lastEpoch(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:epoch`;
  }

  /** A function's definition as JSON. */
  definition(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:definition`;
  }

  /** Sorted set of a function's calls that wait for another attempt, by when they are due. */
  delayed(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:delayed`;
  }

  /** Hash of those calls: what they were in the stream. */
  aside(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:aside`;
  }

  /** A call that is out under an idempotency key and who shares it, or its result. */
  once(ref: FunctionRef, idempotencyKey: string): string {
    return `${this.prefix}nf:{${ref.id}}:once:${idempotencyKey}`;
  }

  /** Set of the pools whose bell is rung when a call of the function is added. */
  bells(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:bells`;
  }

  /** Stream of calls that were given up. */
  deadLetters(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:dead`;
  }

  /** A function's circuit as JSON; absent while it never opened. */
  circuit(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:circuit`;
  }

  /** Hash of what the callers of a function counted for its circuit lately. */
  circuitCounts(ref: FunctionRef): string {
    return `${this.prefix}nf:{${ref.id}}:circuit-counts`;
  }

  /** Set of the names of the functions that a workflow has definitions of. */
  workflow(workflowId: string): string {
    return `${this.prefix}nf:workflow:{${encodeName(workflowId)}}:functions`;
  }

  /** Hash of a workflow's last save: its generation and details. */
  generation(workflowId: string): string {
    return `${this.prefix}nf:workflow:{${encodeName(workflowId)}}:generation`;
  }

  /** The lease of who leads a restart of a workflow's workers. */
  restart(workflowId: string): string {
    return `${this.prefix}nf:workflow:{${encodeName(workflowId)}}:restart`;
  }

  /** A process's lease: alive while the key is. */
  lease(processId: string): string {
    return `${this.prefix}nf:process:{${processId}}:lease`;
  }

  /** Set of `functionId workerId` pairs that a process offers. */
  hosted(processId: string): string {
    return `${this.prefix}nf:process:{${processId}}:hosted`;
  }

  /** Stream of the replies to a process's calls. */
  replies(processId: string): string {
    return `${this.prefix}nf:process:{${processId}}:replies`;
  }

  /** Channel whose subscription is the process's presence, and on which it is addressed directly. */
  control(processId: string): string {
    return `${this.prefix}nf:process:${processId}`;
  }

  /** Exists for a while after a session was declared dead and its calls were handed over. */
  grave(sessionId: string): string {
    return `${this.prefix}nf:process:{${sessionId}}:grave`;
  }

  /** Hash of calls that were given to a session, until they are settled; `#` counts them while the session lives. */
  inbox(sessionId: string): string {
    return `${this.prefix}nf:process:{${sessionId}}:inbox`;
  }

  /** List by which a session that waits for a bell is told of them. */
  given(sessionId: string): string {
    return `${this.prefix}nf:process:{${sessionId}}:given`;
  }

  /** Head of the keys of a pool, the processes that host the same many functions: `:due`, `:wake`, `:offers`. */
  pool(poolId: string): string {
    return `${this.prefix}nf:pool:{${poolId}}`;
  }

  /** Sorted set of the pool's functions that have calls which nobody took. */
  poolDue(poolId: string): string {
    return `${this.pool(poolId)}:due`;
  }

  /** List whose elements each wake one process of the pool. */
  poolWake(poolId: string): string {
    return `${this.pool(poolId)}:wake`;
  }

  /** Sorted set of sessions that wait for the bell and offer to take calls at once. */
  poolOffers(poolId: string): string {
    return `${this.pool(poolId)}:offers`;
  }

  /** Sorted set of the functions that have delayed calls, by when the first is due. */
  delayedFunctions(): string {
    return `${this.prefix}nf:delayed`;
  }

  /** Sorted set of functions whose group was made anew, by when calls that nobody claimed are put back. */
  unclaimed(): string {
    return `${this.prefix}nf:unclaimed`;
  }

  /** Hash of all processes that joined: session to `present` or `absent`, which is about its presence, or `condemned`. */
  processes(): string {
    return `${this.prefix}nf:processes`;
  }

  /** The supervisor's lease. */
  supervisor(): string {
    return `${this.prefix}nf:supervisor`;
  }

  /** The lease of its deputy. */
  deputy(): string {
    return `${this.prefix}nf:deputy`;
  }

  /** Channel of one kind of news about one function. */
  channel(type: NotificationType, ref: FunctionRef): string {
    return `${this.prefix}${CHANNEL_HEADS[type]}${ref.id}`;
  }

  /** The four channels of a function. */
  channels(ref: FunctionRef): string[] {
    return NOTIFICATION_TYPES.map((type) => this.channel(type, ref));
  }

  /** Channel of what is measured of a function, or of its bottlenecks. */
  telemetry(type: TelemetryType, ref: FunctionRef): string {
    return `${this.prefix}${TELEMETRY_HEADS[type]}${ref.id}`;
  }

  /** Pattern of {@link telemetry} of all functions. */
  allTelemetry(type: TelemetryType): string {
    return this.prefixedPattern(`${TELEMETRY_HEADS[type]}*`);
  }

  /** The function that a channel of {@link telemetry} is about; `undefined` for any other channel. */
  parseTelemetry(type: TelemetryType, channel: string): FunctionRef | undefined {
    const head = `${this.prefix}${TELEMETRY_HEADS[type]}`;
    return channel.startsWith(head) ? parseFunctionId(channel.slice(head.length)) : undefined;
  }

  /** Channel on which those who listen to metrics say so. */
  listeners(): string {
    return `${this.prefix}nf:listeners`;
  }

  /** Channel on which processes tell who looks for bottlenecks how they are. */
  vitals(): string {
    return `${this.prefix}nf:vitals`;
  }

  /** Channel on which the changes of a function's circuit are told. */
  circuitChannel(ref: FunctionRef): string {
    return `${this.prefix}${CIRCUIT_HEAD}${ref.id}`;
  }

  /** Channel of one kind of news about one workflow. */
  workflowChannel(type: WorkflowEventType, workflowId: string): string {
    return `${this.prefix}workflow:${type}:${encodeName(workflowId)}`;
  }

  /** A channel without the prefix, as an application names it. */
  unprefixed(channel: string): string {
    return channel.startsWith(this.prefix) ? channel.slice(this.prefix.length) : channel;
  }

  /** A pattern of an application, with the prefix, whose own glob characters mean themselves. */
  prefixedPattern(pattern: string): string {
    return `${this.prefix.replace(/[*?[\]\\]/g, '\\$&')}${pattern}`;
  }

  /** The inverse of {@link prefixedPattern}. */
  unprefixedPattern(pattern: string): string {
    const head = this.prefixedPattern('');
    return pattern.startsWith(head) ? pattern.slice(head.length) : pattern;
  }

  /** What kind of news about which function a channel carries; `undefined` for a foreign channel. */
  parseChannel(channel: string): ChannelAddress | undefined {
    if (!channel.startsWith(this.prefix)) return undefined;
    const name = channel.slice(this.prefix.length);
    const type = NOTIFICATION_TYPES.find((candidate) => name.startsWith(CHANNEL_HEADS[candidate]));
    if (type === undefined) return undefined;
    const ref = parseFunctionId(name.slice(CHANNEL_HEADS[type].length));
    return ref === undefined ? undefined : { type, ref };
  }

  /** The function whose circuit a channel tells of; `undefined` for every other channel. */
  parseCircuitChannel(channel: string): FunctionRef | undefined {
    const head = this.prefix + CIRCUIT_HEAD;
    return channel.startsWith(head) ? parseFunctionId(channel.slice(head.length)) : undefined;
  }

  /** What kind of news about which workflow a channel carries; `undefined` for another channel. */
  parseWorkflowChannel(channel: string): WorkflowAddress | undefined {
    const head = `${this.prefix}workflow:`;
    if (!channel.startsWith(head)) return undefined;
    const [event, name = '', ...more] = channel.slice(head.length).split(':');
    const type = WORKFLOW_EVENTS.find((candidate) => candidate === event);
    const workflowId = decodeName(name);
    if (type === undefined || more.length > 0) return undefined;
    return workflowId === undefined || workflowId === '' ? undefined : { type, workflowId };
  }
}

/** The function behind {@link FunctionRef.id}; `undefined` when the text is none. */
export function parseFunctionId(id: string): FunctionRef | undefined {
  const parts = id.split(':');
  if (parts.length !== 2) return undefined;
  const functionName = decodeName(parts[0] ?? '');
  const workflowId = decodeName(parts[1] ?? '');
  if (functionName === undefined || workflowId === undefined) return undefined;
  try {
    return functionRef(functionName, workflowId);
  } catch {
    return undefined;
  }
}
