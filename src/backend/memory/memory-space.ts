import type { Clock } from '../../common/clock.js';
import { functionRef, type FunctionRef } from '../../protocol/function-ref.js';
import type { RawDeadLetter } from '../dead-letter-store.js';
import { REPLY_STREAM_TTL_MS } from '../limits.js';
import { ExpiringMap } from './expiring-map.js';
import type { MemoryCircuit } from './memory-circuit.js';
import { MemoryFunction, type SharedCall } from './memory-function.js';
import { Pool } from './pool.js';
import { ReplyStream } from './reply-stream.js';
import { Sessions } from './sessions.js';

/** All that is stored under one key prefix: the functions, calls and processes of one tenant. */
export class MemorySpace {
  readonly sessions: Sessions;
  /** Circuits that changed, or of which something was counted, lately; one that is held by hand, for ever. */
  readonly circuits: ExpiringMap<MemoryCircuit>;
  /** What is shared by an idempotency key. */
  readonly shared: ExpiringMap<SharedCall>;
  /** The highest epoch of a function's workers that left lately. */
  readonly lastEpochs: ExpiringMap<number>;
  /** Functions that have delayed calls, and when the first is due. */
  readonly delayed = new Map<string, number>();
  /** Functions whose group was made anew, and when calls that nobody claimed are put back. */
  readonly unclaimed = new Map<string, number>();
  private readonly functions = new Map<string, MemoryFunction>();
  private readonly workflows = new Map<string, Set<string>>();
  private readonly pools = new Map<string, Pool>();
  private readonly replies: ExpiringMap<ReplyStream>;

  constructor(
    private readonly clock: Clock,
    private readonly buried: (ref: FunctionRef, letter: RawDeadLetter) => void = () => undefined,
  ) {
    this.sessions = new Sessions(clock);
    this.circuits = new ExpiringMap(clock);
    this.shared = new ExpiringMap(clock);
    this.lastEpochs = new ExpiringMap(clock);
    this.replies = new ExpiringMap(clock);
  }

  /** The server's clock, whole milliseconds since the epoch. */
  now(): number {
    return Math.floor(this.clock.now());
  }

  /** A function, as far as anything was ever stored of it. */
  find(ref: FunctionRef): MemoryFunction | undefined {
    return this.functions.get(ref.id);
  }

  byId(functionId: string): MemoryFunction | undefined {
    return this.functions.get(functionId);
  }

  /** A function about which something is stored from now on. */
  make(ref: FunctionRef): MemoryFunction {
    let fn = this.functions.get(ref.id);
    if (fn === undefined) this.functions.set(ref.id, (fn = new MemoryFunction(ref)));
    return fn;
  }

  /** Lists a function among those of its workflow. */
  list(ref: FunctionRef): void {
    const names = this.workflows.get(ref.workflowId);
    if (names === undefined) this.workflows.set(ref.workflowId, new Set([ref.functionName]));
    else names.add(ref.functionName);
  }

  unlist(ref: FunctionRef): void {
    const names = this.workflows.get(ref.workflowId);
    names?.delete(ref.functionName);
    if (names?.size === 0) this.workflows.delete(ref.workflowId);
  }

  listed(workflowId: string): FunctionRef[] {
    const names = [...(this.workflows.get(workflowId) ?? [])].sort();
    return names.map((name) => functionRef(name, workflowId));
  }

  pool(poolId: string): Pool {
    let pool = this.pools.get(poolId);
    if (pool === undefined) this.pools.set(poolId, (pool = new Pool()));
    return pool;
  }

  /**
   * Tells a pool's processes, and those who read directly, that a function has calls.
   *
   * @param tokenLost who had the token may be gone with it: what is due already is rung for again
   */
  ring(fn: MemoryFunction, tokenLost = false): void {
    fn.serve();
    for (const poolId of fn.bells) {
      const pool = this.pool(poolId);
      if (pool.note(fn.ref.id) || tokenLost) pool.wakeOne();
    }
  }

  /** A worker has left a pool, or joined another: without a worker its bell is not rung for the function any more. */
  leavePool(poolId: string | undefined, fn: MemoryFunction): void {
    if (poolId === undefined) return;
    for (const worker of fn.workers.values()) if (worker.pool === poolId) return;
    fn.bells.delete(poolId);
    const pool = this.pool(poolId);
    pool.due.delete(fn.ref.id);
    if (pool.due.size === 0) pool.dropTokens();
  }

  /** The replies of a process that listens to them; who does not is gone. */
  repliesOf(processId: string): ReplyStream | undefined {
    return this.replies.get(processId);
  }

  /** Makes a reply stream where there is none; the one that was made. */
  makeReplies(processId: string): ReplyStream | undefined {
    if (this.replies.has(processId)) return undefined;
    const stream = new ReplyStream();
    this.replies.set(processId, stream, REPLY_STREAM_TTL_MS);
    return stream;
  }

  keepReplies(processId: string): void {
    this.replies.touch(processId, REPLY_STREAM_TTL_MS);
  }

  /** Puts a call that is given up to the function's dead letters. */
  bury(fn: MemoryFunction, fields: readonly string[]): void {
    this.buried(fn.ref, fn.letters.add(fields, this.now()));
  }

  /** Notes when a function's first delayed call is due. */
  noteDelayed(fn: MemoryFunction): void {
    const { firstDueAt } = fn.aside;
    if (firstDueAt === undefined) this.delayed.delete(fn.ref.id);
    else this.delayed.set(fn.ref.id, firstDueAt);
  }
}

/** Where what is shared by an idempotency key lies. */
export function sharedKey(ref: FunctionRef, idempotencyKey: string): string {
  return `${ref.id} ${idempotencyKey}`;
}
