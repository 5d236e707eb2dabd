import { WorkerNotRegisteredError } from '../../common/errors.js';
import { definitionFingerprint, parseDefinition } from '../../protocol/definition.js';
import { functionRef, type FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import { parseWorkerRecord, type WorkerRecord } from '../../protocol/worker-record.js';
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
import { EPOCH_MEMORY_MS, REPLY_STREAM_TTL_MS } from '../limits.js';
import type { RedisConnection } from './redis-connection.js';
import { ScriptRunner } from './script-runner.js';
import { scripts } from './scripts.js';
import type { UntoldNews } from './untold-news.js';

/** The registry in Redis: a hash of records per function, leases as keys with a time to live. */
export class RedisWorkerStore implements WorkerStore {
  private readonly leaseParts: readonly [string, string];
  private readonly hostedParts: readonly [string, string];
  private readonly controlHead: string;
  private readonly scripts: ScriptRunner;

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
    private readonly untold: UntoldNews,
  ) {
    this.leaseParts = around(keys.lease('\0'));
    this.hostedParts = around(keys.hosted('\0'));
    this.controlHead = keys.control('');
    this.scripts = new ScriptRunner(commands);
  }

  async join(sessionId: string, leaseMs: number, present: boolean): Promise<ProcessSession> {
    const epoch = await this.scripts.run(
      'join',
      scripts.join,
      [this.keys.lease(sessionId), this.keys.processes()],
      [sessionId, leaseMs, present ? 'present' : 'absent'],
    );
    return { sessionId, epoch: Number(epoch) };
  }

  async setPresence(session: ProcessSession, present: boolean): Promise<void> {
    await this.scripts.run(
      'presence',
      scripts.presence,
      [this.keys.processes()],
      [session.sessionId, present ? 'present' : 'absent'],
    );
  }

  async renew(session: ProcessSession, leaseMs: number): Promise<boolean> {
    const kept = await this.commands.command('PEXPIRE', (client) =>
      client.pexpire(this.keys.lease(session.sessionId), leaseMs),
    );
    return kept === 1;
  }

  async heartbeat(session: ProcessSession, processId: string, leaseMs: number): Promise<Pulse> {
    const [alive, now] = (await this.scripts.run(
      'heartbeat',
      scripts.heartbeat,
      [
        this.keys.lease(session.sessionId),
        this.keys.replies(processId),
        this.keys.processes(),
        this.keys.grave(session.sessionId),
      ],
      [leaseMs, REPLY_STREAM_TTL_MS, session.sessionId],
    )) as [number, string];
    const verdict = alive === 1 ? 'alive' : alive === 0 ? 'condemned' : 'forgotten';
    return { verdict, timestamp: Number(now) };
  }

  async leave(session: ProcessSession): Promise<void> {
    await this.commands.command('leave', (client) =>
      client
        .multi()
        .del(this.keys.lease(session.sessionId), this.keys.hosted(session.sessionId))
        .hdel(this.keys.processes(), session.sessionId)
        .exec(),
    );
  }

  async register(registration: Registration): Promise<Registered> {
    const { ref, session } = registration;
    const answer = (await this.scripts.run(
      'register',
      scripts.register,
      [
        this.keys.workers(ref),
        this.keys.definition(ref),
        this.keys.lease(session.sessionId),
        this.keys.hosted(session.sessionId),
        this.keys.workflow(ref.workflowId),
        this.keys.processes(),
        this.keys.lastEpoch(ref),
        this.keys.bells(ref),
        this.keys.calls(ref),
      ],
      [
        ref.functionName,
        ref.workflowId,
        registration.workerId,
        session.sessionId,
        session.epoch,
        registration.leaseMs,
        registration.definition,
        registration.fingerprint,
        this.keys.channel('ready', ref),
        ref.id,
        ...this.leaseParts,
        registration.poolId === '' ? '' : this.keys.pool(registration.poolId),
        registration.generation,
        this.keys.generation(ref.workflowId),
      ],
    )) as [record: string, replaced: string, untold: string] | null;
    if (answer === null) {
      throw new WorkerNotRegisteredError(ref.functionName, ref.workflowId, registration.workerId);
    }
    const [record, replaced, untold] = answer;
    this.untold.note(untold);
    return {
      record: JSON.parse(record) as WorkerRecord,
      replaced: replaced === '' ? undefined : replaced,
    };
  }

  async change(
    ref: FunctionRef,
    workerId: string,
    epoch: number | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord | undefined> {
    const type = change.kind === 'draining' ? 'shutdown' : 'health';
    const status = change.kind === 'healthy' ? 'ready' : change.kind;
    const answer = (await this.scripts.run(
      'change',
      scripts.change,
      [this.keys.workers(ref)],
      [
        workerId,
        epoch ?? '',
        status,
        this.keys.channel(type, ref),
        ref.functionName,
        ref.workflowId,
        type,
        change.kind === 'unhealthy' ? change.reason : '',
        change.kind === 'draining' ? change.estimatedDowntimeMs : '',
        this.controlHead,
      ],
    )) as [record: string, untold: string] | null;
    if (answer === null) return undefined;
    this.untold.note(answer[1]);
    return parseWorkerRecord(answer[0]);
  }

  async unregister(
    ref: FunctionRef,
    workerId: string,
    owner: WorkerOwner,
    reason: string,
  ): Promise<boolean> {
    const [removed, untold] = (await this.scripts.run(
      'unregister',
      scripts.unregister,
      [
        this.keys.workers(ref),
        this.keys.lastEpoch(ref),
        this.keys.bells(ref),
        this.keys.calls(ref),
      ],
      [
        workerId,
        owner.epoch ?? '',
        this.keys.channel('offline', ref),
        ref.functionName,
        ref.workflowId,
        reason,
        ref.id,
        ...this.hostedParts,
        owner.sessionId ?? '',
        EPOCH_MEMORY_MS,
        this.controlHead,
      ],
      owner.sessionId === undefined ? [] : [this.keys.hosted(owner.sessionId)],
    )) as [removed: number, untold: string];
    this.untold.note(untold);
    return removed === 1;
  }

  async find(ref: FunctionRef, workerId: string): Promise<WorkerRecord | undefined> {
    const text = await this.commands.command('HGET', (client) =>
      client.hget(this.keys.workers(ref), workerId),
    );
    return text === null ? undefined : parseWorkerRecord(text);
  }

  countRecorded(refs: readonly FunctionRef[]): Promise<number> {
    return this.commands.command('EXISTS', (client) =>
      client.exists(...refs.map((ref) => this.keys.workers(ref))),
    );
  }

  async snapshot(ref: FunctionRef): Promise<FunctionSnapshot> {
    const [timestamp, definition, ...flat] = (await this.scripts.run(
      'snapshot',
      scripts.snapshot,
      [this.keys.workers(ref), this.keys.definition(ref)],
      this.leaseParts,
    )) as [string, string, ...(string | number)[]];
    const workers: WorkerRecord[] = [];
    const stale: WorkerRecord[] = [];
    for (let i = 0; i < flat.length; i += 2) {
      const record = parseWorkerRecord(String(flat[i]));
      if (record !== undefined) (flat[i + 1] === 1 ? workers : stale).push(record);
    }
    return {
      workers,
      stale,
      definition: definition === '' ? undefined : parseDefinition(definition),
      fingerprint: definition === '' ? '' : definitionFingerprint(definition),
      timestamp: Number(timestamp),
    };
  }

  async putDefinition(ref: FunctionRef, definition: string): Promise<void> {
    await this.commands.command('definition', (client) =>
      client
        .multi()
        .set(this.keys.definition(ref), definition)
        .sadd(this.keys.workflow(ref.workflowId), ref.functionName)
        .exec(),
    );
  }

  async removeDefinition(ref: FunctionRef): Promise<boolean> {
    const results = await this.commands.command('definition', (client) =>
      client
        .multi()
        .del(this.keys.definition(ref))
        .srem(this.keys.workflow(ref.workflowId), ref.functionName)
        .exec(),
    );
    return results?.[0]?.[1] === 1;
  }

  async functions(workflowId: string): Promise<FunctionRef[]> {
    const names = await this.commands.command('functions', (client) =>
      client.smembers(this.keys.workflow(workflowId)),
    );
    return names.sort().flatMap((name) => {
      // A member that no function can have was written by somebody else.
      try {
        return [functionRef(name, workflowId)];
      } catch {
        return [];
      }
    });
  }
}

/** What stands before and after a placeholder: scripts build keys of sessions from it. */
export function around(key: string): readonly [string, string] {
  const [before = '', after = ''] = key.split('\0');
  return [before, after];
}
