import type { FunctionDefinition } from '../protocol/definition.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { WorkerRecord } from '../protocol/worker-record.js';

/** One life of a process: what its lease, its presence and its worker records hang on. */
export interface ProcessSession {
  readonly sessionId: string;
  /** Redis's clock when it joined; grows with every life. */
  readonly epoch: number;
}

/** A worker to be registered. */
export interface Registration {
  readonly ref: FunctionRef;
  readonly workerId: string;
  readonly session: ProcessSession;
  readonly leaseMs: number;
  /** `encodeDefinition` of the function; `''` keeps what is stored. */
  readonly definition: string;
  readonly fingerprint: string;
  /** The pool through whose bell the process hears of the function's calls; `''` when it reads them directly. */
  readonly poolId: string;
  /** The workflow's generation that its process has loaded. One that the store does not know any more comes back by it. */
  readonly generation: number;
}

/** A registered worker, and whose place it took. */
export interface Registered {
  readonly record: WorkerRecord;
  /** Another living process's session that had this workerId. */
  readonly replaced: string | undefined;
}

/** A change of a worker that is told to everybody. */
export type WorkerChange =
  | { readonly kind: 'draining'; readonly estimatedDowntimeMs: number }
  | { readonly kind: 'healthy' }
  | { readonly kind: 'unhealthy'; readonly reason: string };

/** Whose registration is meant; a field left out matches any. */
export interface WorkerOwner {
  readonly epoch?: number;
  readonly sessionId?: string;
}

/** Everything the registry knows of a function at one moment. */
export interface FunctionSnapshot {
  /** Workers whose process's lease is alive. */
  readonly workers: readonly WorkerRecord[];
  /** Workers that are registered although their process's lease has run out. */
  readonly stale: readonly WorkerRecord[];
  readonly definition: FunctionDefinition | undefined;
  /** Fingerprint of the stored definition; `''` when there is none. */
  readonly fingerprint: string;
  /** Redis's clock at that moment, milliseconds since the epoch. */
  readonly timestamp: number;
}

/** Answer to a heartbeat. */
export interface Pulse {
  /**
   * - `alive`: the lease is kept
   * - `condemned`: the session was declared dead, and its calls are handed over: join anew
   * - `forgotten`: Redis was emptied, and nobody has its calls: join anew
   */
  readonly verdict: 'alive' | 'condemned' | 'forgotten';
  /** Redis's clock. */
  readonly timestamp: number;
}

/**
 * Port: the registry, which is the truth about who can work. Changes and their notification are one atomic
 * step.
 */
export interface WorkerStore {
  /** Takes a lease. `present`: the session's presence is in place; without it only the lease proves its life. */
  join(sessionId: string, leaseMs: number, present: boolean): Promise<ProcessSession>;
  /** Says whether the session's presence is in place: one that said it is not is not missed. */
  setPresence(session: ProcessSession, present: boolean): Promise<void>;
  /**
   * Keeps the lease while there is one, which proves that the session lives: who ends a session ends its lease.
   * `false`: {@link heartbeat} tells what became of it.
   */
  renew(session: ProcessSession, leaseMs: number): Promise<boolean>;
  /** Keeps the lease, and the reply stream of `processId`; takes a lease that ran out while the session lives. */
  heartbeat(session: ProcessSession, processId: string, leaseMs: number): Promise<Pulse>;
  /** Gives the lease back. */
  leave(session: ProcessSession): Promise<void>;
  /** Record, lease and `ready` in one step. */
  register(registration: Registration): Promise<Registered>;
  /** Changes a worker and tells it; `undefined` when no worker with that id (and epoch) is registered. */
  change(
    ref: FunctionRef,
    workerId: string,
    epoch: number | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord | undefined>;
  /** Removes a worker and tells `offline`; `false` when it was not registered (by that owner). */
  unregister(
    ref: FunctionRef,
    workerId: string,
    owner: WorkerOwner,
    reason: string,
  ): Promise<boolean>;
  /** One worker's record. */
  find(ref: FunctionRef, workerId: string): Promise<WorkerRecord | undefined>;
  /** How many of these functions have a record of any worker. */
  countRecorded(refs: readonly FunctionRef[]): Promise<number>;
  snapshot(ref: FunctionRef): Promise<FunctionSnapshot>;
  /** Stores a definition without a worker. */
  putDefinition(ref: FunctionRef, definition: string): Promise<void>;
  /** Removes a definition; `false` when there was none. */
  removeDefinition(ref: FunctionRef): Promise<boolean>;
  /** All functions that a workflow has definitions of. */
  functions(workflowId: string): Promise<FunctionRef[]>;
}
