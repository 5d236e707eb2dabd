import { WorkerNotRegisteredError } from '../../common/errors.js';
import { definitionFingerprint, parseDefinition } from '../../protocol/definition.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys, NotificationType } from '../../protocol/keys.js';
import type { WorkerRecord } from '../../protocol/worker-record.js';
import { EPOCH_MEMORY_MS } from '../limits.js';
import type {
  FunctionSnapshot,
  ProcessSession,
  Pulse,
  Registered,
  Registration,
  WorkerChange,
  WorkerOwner,
  WorkerStore,
} from '../worker-store.js';
import type { MemoryConnection } from './memory-connection.js';
import type { MemoryFunction, StoredWorker } from './memory-function.js';
import type { MemorySpace } from './memory-space.js';

/** The registry in the memory of this process. */
export class MemoryWorkerStore implements WorkerStore {
  constructor(
    private readonly connection: MemoryConnection,
    private readonly keys: Keys,
  ) {}

  join(sessionId: string, leaseMs: number, present: boolean): Promise<ProcessSession> {
    return this.connection.run((space) => {
      space.sessions.leases.set(sessionId, true, leaseMs);
      space.sessions.states.set(sessionId, present ? 'present' : 'absent');
      return { sessionId, epoch: space.now() };
    });
  }

  setPresence({ sessionId }: ProcessSession, present: boolean): Promise<void> {
    return this.connection.run(({ sessions: { states } }) => {
      const state = states.get(sessionId);
      if (state === undefined || state === 'condemned') return;
      states.set(sessionId, present ? 'present' : 'absent');
    });
  }

  renew({ sessionId }: ProcessSession, leaseMs: number): Promise<boolean> {
    return this.connection.run(({ sessions }) => sessions.leases.touch(sessionId, leaseMs));
  }

  heartbeat({ sessionId }: ProcessSession, processId: string, leaseMs: number): Promise<Pulse> {
    return this.connection.run((space) => {
      const { states, leases, graves } = space.sessions;
      space.keepReplies(processId);
      const timestamp = space.now();
      const state = states.get(sessionId);
      if (state === 'condemned' || (state === undefined && graves.has(sessionId)))
        return { verdict: 'condemned', timestamp };
      if (state === undefined) return { verdict: 'forgotten', timestamp };
      // A lease that ran out while the event loop stood still is taken again: nobody was condemned meanwhile.
      leases.set(sessionId, true, leaseMs);
      return { verdict: 'alive', timestamp };
    });
  }

  leave({ sessionId }: ProcessSession): Promise<void> {
    return this.connection.run(({ sessions }) => sessions.forget(sessionId));
  }

  register(registration: Registration): Promise<Registered> {
    return this.connection.run((space) => {
      const { ref, session, workerId } = registration;
      const state = space.sessions.states.get(session.sessionId);
      // A session that was condemned, or that is forgotten, has to join anew first.
      if (state === undefined || state === 'condemned')
        throw new WorkerNotRegisteredError(ref.functionName, ref.workflowId, workerId);
      const fn = space.make(ref);
      const before = fn.workers.get(workerId);
      const record = newRecord(space, fn, registration);
      space.sessions.leases.set(session.sessionId, true, registration.leaseMs);
      fn.workers.set(workerId, record);
      if (registration.definition !== '') fn.definition = registration.definition;
      space.sessions.host(session.sessionId, ref, workerId);
      space.list(ref);
      this.hearBell(space, fn, before?.pool, record.pool);
      space.saved.bringBack(ref.workflowId, registration.generation);
      const { processId, definition, generation } = record;
      this.tell('ready', fn, record, { processId, definition, healthy: true, generation });
      const isOther = before !== undefined && before.processId !== session.sessionId;
      const replaced =
        isOther && space.sessions.leases.has(before.processId) ? before.processId : undefined;
      return { record, replaced };
    });
  }

  change(
    ref: FunctionRef,
    workerId: string,
    epoch: number | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord | undefined> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      const before = fn?.workers.get(workerId);
      if (fn === undefined || before === undefined) return undefined;
      if (epoch !== undefined && epoch !== before.epoch) return undefined;
      const isHealth = change.kind !== 'draining';
      // A worker that drains is leaving: health cannot bring it back, and would only hide that it leaves.
      if (isHealth && before.status === 'draining') return before;
      const { reason: _, ...kept } = before;
      const reason =
        change.kind === 'unhealthy' && change.reason !== '' ? change.reason : undefined;
      const record: StoredWorker = {
        ...kept,
        timestamp: space.now(),
        seq: before.seq + 1,
        status: change.kind === 'healthy' ? 'ready' : change.kind,
        ...(reason === undefined ? {} : { reason }),
      };
      fn.workers.set(workerId, record);
      if (change.kind === 'draining')
        this.tell('shutdown', fn, record, { estimatedDowntimeMs: change.estimatedDowntimeMs });
      else {
        const more = { healthy: record.status === 'ready', reason };
        this.tellProcess(record.processId, this.tell('health', fn, record, more));
      }
      return record;
    });
  }

  unregister(
    ref: FunctionRef,
    workerId: string,
    owner: WorkerOwner,
    reason: string,
  ): Promise<boolean> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      const record = fn?.workers.get(workerId);
      if (fn === undefined || record === undefined) return false;
      if (owner.epoch !== undefined && owner.epoch !== record.epoch) return false;
      if (owner.sessionId !== undefined && owner.sessionId !== record.processId) return false;
      fn.workers.delete(workerId);
      space.sessions.unhost(record.processId, ref, workerId);
      // Its process may be gone: nothing is given to it any more. One that lives offers anew.
      if (record.pool !== undefined) space.pool(record.pool).offers.delete(record.processId);
      space.leavePool(record.pool, fn);
      // It may have spent the token that told of a call.
      if (fn.queue.size > 0) space.ring(fn, true);
      const last = Math.max(record.epoch, space.lastEpochs.get(ref.id) ?? 0);
      space.lastEpochs.set(ref.id, last, EPOCH_MEMORY_MS);
      const gone = { ...record, seq: record.seq + 1, timestamp: space.now() };
      this.tell('offline', fn, gone, { reason });
      // Its own process knows, or has to learn, that it is not to take calls any more.
      if (owner.sessionId === undefined) {
        const { functionName, workflowId } = ref;
        const { epoch } = record;
        const data = { type: 'unregistered', functionName, workflowId, workerId, epoch };
        this.tellProcess(record.processId, data);
      }
      return true;
    });
  }

  find(ref: FunctionRef, workerId: string): Promise<WorkerRecord | undefined> {
    return this.connection.run((space) => space.find(ref)?.workers.get(workerId));
  }

  countRecorded(refs: readonly FunctionRef[]): Promise<number> {
    return this.connection.run(
      (space) => refs.filter((ref) => (space.find(ref)?.workers.size ?? 0) > 0).length,
    );
  }

  snapshot(ref: FunctionRef): Promise<FunctionSnapshot> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      const all = [...(fn?.workers.values() ?? [])];
      const { leases } = space.sessions;
      const definition = fn?.definition ?? '';
      return {
        workers: all.filter(({ processId }) => leases.has(processId)),
        stale: all.filter(({ processId }) => !leases.has(processId)),
        definition: definition === '' ? undefined : parseDefinition(definition),
        fingerprint: definition === '' ? '' : definitionFingerprint(definition),
        timestamp: space.now(),
      };
    });
  }

  putDefinition(ref: FunctionRef, definition: string): Promise<void> {
    return this.connection.run((space) => {
      space.make(ref).definition = definition;
      space.list(ref);
    });
  }

  removeDefinition(ref: FunctionRef): Promise<boolean> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      space.unlist(ref);
      if (fn === undefined || fn.definition === '') return false;
      fn.definition = '';
      return true;
    });
  }

  functions(workflowId: string): Promise<FunctionRef[]> {
    return this.connection.run((space) => space.listed(workflowId));
  }

  /** Leaves the pool that the worker was in, and joins the one that it is in now. */
  private hearBell(
    space: MemorySpace,
    fn: MemoryFunction,
    before: string | undefined,
    now: string | undefined,
  ): void {
    if (before !== now) space.leavePool(before, fn);
    if (now === undefined || fn.bells.has(now)) return;
    fn.bells.add(now);
    // What came before there was a bell.
    if (fn.queue.size > 0) space.ring(fn);
  }

  /** Publishes news of a worker; what it said. */
  private tell(
    type: NotificationType,
    { ref }: MemoryFunction,
    { workerId, epoch, seq, timestamp }: WorkerRecord,
    more: Readonly<Record<string, unknown>>,
  ): object {
    const { functionName, workflowId } = ref;
    const data = { type, functionName, workflowId, workerId, epoch, seq, timestamp, ...more };
    const channel = this.keys.channel(type, ref);
    this.publish(channel, channel, data);
    return data;
  }

  /** Tells a session directly. */
  private tellProcess(sessionId: string, data: object): void {
    this.publish(this.keys.control(sessionId), 'control', data);
  }

  private publish(channel: string, pattern: string, data: object): void {
    this.connection.server.pubsub.publish(channel, JSON.stringify({ pattern, data }));
  }
}

/**
 * A life that begins anew has a higher epoch than any before it, in this session too: watchers remember that the
 * worker left at (epoch, seq), and what is older than that is no news to them.
 */
function newRecord(
  space: MemorySpace,
  fn: MemoryFunction,
  registration: Registration,
): StoredWorker {
  const { ref, workerId, session, fingerprint, poolId, generation } = registration;
  const before = fn.workers.get(workerId);
  const timestamp = space.now();
  let epoch = Math.max(timestamp, session.epoch, (space.lastEpochs.get(ref.id) ?? 0) + 1);
  let seq = 1;
  if (before?.processId === session.sessionId) {
    epoch = before.epoch;
    seq = before.seq + 1;
  } else if (before !== undefined) epoch = Math.max(epoch, before.epoch + 1);
  return {
    workerId,
    processId: session.sessionId,
    epoch,
    seq,
    status: 'ready',
    timestamp,
    definition: fingerprint,
    generation,
    ...(poolId === '' ? {} : { pool: poolId }),
  };
}
