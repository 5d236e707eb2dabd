import type { PeerName } from '../peers/registry.js';

/** Payload sizes of the echo, in bytes of text. */
export const SIZES = [100, 10_000] as const;
/** Calls in flight. */
export const LANES = [64, 512] as const;
/** Functions in one worker. */
export const FUNCTION_COUNTS = [1, 100, 1_000] as const;
/** Workers of one function. */
export const WORKER_COUNTS = [1, 10, 100] as const;
/** Waiters for one function. */
export const WAITER_COUNTS = [1, 1_000, 10_000] as const;
/** Functions of the idle process. */
export const IDLE_COUNTS = [1, 1_000] as const;
/** Who listens to metrics while calls are made. */
export const LISTENERS = ['nobody', 'somebody'] as const;
/** Calls that nobody has answered yet. */
export const PENDING_CALLS = 10_000;

export type Size = (typeof SIZES)[number];
export type Listeners = (typeof LISTENERS)[number];
export type Lanes = (typeof LANES)[number];
export type Part = 'p50' | 'p99';
/** Which way a waiting process takes: ours, or that of a bare ioredis subscriber. */
export type Listener = 'waiter' | 'bare subscriber';
/** Whose processor time a call takes. */
export const CPU_PARTS = ['caller', 'worker', 'server'] as const;
export type CpuPart = (typeof CPU_PARTS)[number];
export type FirstCall = 'notified' | 'polling';

/** The names of all metrics, so that who measures, prints and judges means the same. Units in the name. */
export const metric = {
  latency: (peer: PeerName, size: Size, part: Part) => `call ${size} B ${part} ms: ${peer}`,
  throughput: (peer: PeerName, lanes: Lanes) => `${lanes} in flight calls/s: ${peer}`,
  commands: (peer: PeerName, lanes: Lanes) => `${lanes} in flight commands/call: ${peer}`,
  cpu: (peer: PeerName, lanes: Lanes, part: CpuPart) =>
    `${lanes} in flight CPU us/call, ${part}: ${peer}`,
  scripts: (peer: PeerName, lanes: Lanes) => `${lanes} in flight EVALSHA/call: ${peer}`,
  readiness: (listener: Listener, part: Part) => `ready -> told ${part} ms: ${listener}`,
  firstCall: (way: FirstCall, part: Part) => `ready -> first call done ${part} ms: ${way}`,
  status: 'status/s',
  statusCommands: 'commands caused by status',
  functionsLatency: (count: number, calls: 'spread' | 'one') =>
    `${count} functions in a worker, ${calls} called, p50 ms`,
  functionsThroughput: (count: number, calls: 'spread' | 'one') =>
    `${count} functions in a worker, ${calls} called, calls/s at 64`,
  functionsStart: (count: number) => `${count} functions in a worker, start to ready ms`,
  workersLatency: (count: number) => `${count} workers p50 ms`,
  workersThroughput: (count: number) => `${count} workers calls/s at 64`,
  waiters: (count: number) => `${count} waiters released ms`,
  waiterSubscriptions: (count: number) => `${count} waiters subscriptions`,
  pendingBytes: `${PENDING_CALLS} pending bytes/call`,
  pendingSubmitMs: `${PENDING_CALLS} pending until written ms`,
  pendingSettleMs: `${PENDING_CALLS} pending until settled ms`,
  pendingCommands: `${PENDING_CALLS} pending commands/call`,
  metricsThroughput: (listeners: Listeners) => `metrics heard by ${listeners}, calls/s at 64`,
  metricsCpu: (listeners: Listeners) => `metrics heard by ${listeners}, CPU us/call`,
  metricsCommands: (listeners: Listeners) => `metrics heard by ${listeners}, commands/call`,
  metricsTold: (listeners: Listeners) => `metrics heard by ${listeners}, told of them/s`,
  idleCommands: (count: number) => `idle ${count} functions commands/s`,
  idleByName: (count: number, command: string) => `idle ${count} functions, ${command}/s`,
  idleCpu: (count: number) => `idle ${count} functions CPU %`,
  idleBytes: (count: number) => `idle ${count} functions bytes of Redis`,
  supervisorCommands: 'idle supervisor alone commands/s',
  startImport: (what: StartUp) => `start-up import ms: ${what}`,
  otherLoadDuring: 'cores busy with other things during calls %',
  otherLoad: 'cores busy with other things %',
  startReady: (what: StartUp) => `start-up forRoot -> ready ms: ${what}`,
} as const;

export type StartUp = 'worker' | 'caller' | 'Nest alone';
