import { Logger } from '@nestjs/common';
import type {
  ProcessSession,
  WorkerChange,
  WorkerOwner,
  WorkerStore,
} from '../backend/worker-store.js';
import { ClosedError, WorkerNotRegisteredError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import type { TypedEvents } from '../common/typed-events.js';
import { definitionFingerprint } from '../protocol/definition.js';
import { labelOf, type FunctionRef } from '../protocol/function-ref.js';
import type { WorkerRecord } from '../protocol/worker-record.js';
import type { WorkerNews } from '../readiness/readiness-view.js';
import type { CoordinatorEvents } from './coordinator-events.js';
import type { LocalRegistration } from './local-workers.js';
import type { Membership } from './membership.js';
import type { DrainReport } from './work-source.js';

/**
 * Makes the registry and this process's workers say the same: registers, changes and removes them, and takes calls
 * of a function exactly while one of its workers here may.
 *
 * Interleavings:
 * - A worker that becomes unhealthy stops taking calls before the registry knows, and one that becomes healthy
 *   takes them before it does: who is `ready` in the registry takes calls.
 * - A worker that had said it is unhealthy stays paused all through a join: beginning to read does not lift a
 *   pause, and it registers as ready, but says `unhealthy` again before its registration is told here.
 * - A word of the registry about a worker (its record, another process's news) is taken over only when it is of
 *   the same epoch and not older than the last one: what was said here meanwhile is newer.
 *
 * Operations on one worker must not overlap: the callers see to it with WorkerOperations.
 */
export class WorkerRegistrations {
  private readonly logger = new Logger('COORDINATOR');
  private readonly lifecycle = new Logger('LIFECYCLE');

  constructor(
    private readonly membership: Membership,
    private readonly store: WorkerStore,
    private readonly settings: Settings,
    private readonly events: TypedEvents<CoordinatorEvents>,
    /** The generation of a workflow that this process has loaded. */
    private readonly generationOf: (workflowId: string) => number,
  ) {}

  /** Record, lease and `ready`, in the present session. */
  async register(registration: LocalRegistration): Promise<WorkerRecord> {
    const { ref, workerId, definition } = registration;
    const { session, work, processId } = this.membership;
    if (session === undefined) throw new ClosedError('WorkerCoordinator');
    const { record, replaced } = await this.store.register({
      ref,
      workerId,
      session,
      leaseMs: this.settings.leaseMs,
      definition,
      fingerprint: definition === '' ? '' : definitionFingerprint(definition),
      poolId: work?.poolOf(ref) ?? '',
      generation: this.generationOf(ref.workflowId),
    });
    registration.epoch = record.epoch;
    registration.seq = record.seq;
    this.events.emit('told', { ref, news: newsOf(record), definition: record.definition });
    this.lifecycle.debug(
      `${workerId} of ${labelOf(ref)} is ready (epoch ${record.epoch}, seq ${record.seq})`,
    );
    // A join that failed half way may have left records of a session of this very process.
    if (replaced !== undefined && !replaced.startsWith(`${processId}.`)) {
      this.logger.warn(
        `workerId ${workerId} of ${labelOf(ref)} was in use by ${replaced}, which lives: give each process its own workerId`,
      );
    }
    // It registers as ready; one that said it is unhealthy before says so again.
    if (registration.status === 'unhealthy') {
      await this.changeHealth(ref, workerId, false, registration.reason ?? 'unhealthy');
    }
    this.events.emit('registered', { ref, workerId, epoch: record.epoch });
    return record;
  }

  /** These functions are read in another way from now on, and their callers have to know. */
  async registerAgain(refs: readonly FunctionRef[]): Promise<void> {
    const ids = new Set(refs.map((ref) => ref.id));
    await Promise.all(
      this.membership.workers
        .all()
        .filter(({ ref, epoch }) => epoch !== undefined && ids.has(ref.id))
        .map((registration) => this.register(registration)),
    );
  }

  /** Stops taking calls when nobody here offers the function any more, and tells `offline`. */
  async remove(ref: FunctionRef, workerId: string, reason: string): Promise<boolean> {
    const { workers, work } = this.membership;
    const registration = workers.find(ref, workerId);
    if (registration !== undefined) {
      workers.forget(ref, workerId);
      // Another worker of the function here may be unhealthy for now: it goes on reading when it is healthy.
      if (workers.offers(ref)) this.follow(ref);
      else await work?.end(ref, this.settings.drainTimeoutMs);
    }
    const removed = await this.tellOffline(ref, workerId, registration, reason);
    this.lifecycle.debug(`${workerId} of ${labelOf(ref)} is offline (${reason})`);
    return removed;
  }

  /** A graceful leave: shutdown told, drained, offline told. */
  async leave(ref: FunctionRef, workerId: string, reason = 'shutdown'): Promise<DrainReport> {
    const { workers, work } = this.membership;
    await this.announceShutdown(ref, workerId, this.settings.drainTimeoutMs);
    const nothing: DrainReport = { finished: 0, handedBack: 0 };
    const drains = workers.find(ref, workerId) !== undefined && !workers.takesCalls(ref);
    const report = drains ? await work?.end(ref, this.settings.drainTimeoutMs) : nothing;
    await this.remove(ref, workerId, reason);
    return report ?? nothing;
  }

  /** @throws WorkerNotRegisteredError */
  async changeHealth(
    ref: FunctionRef,
    workerId: string,
    healthy: boolean,
    reason: string,
  ): Promise<WorkerRecord> {
    const registration = this.membership.workers.find(ref, workerId);
    if (registration !== undefined) {
      this.applyHealth(registration, healthy, reason);
      registration.untold = true;
    }
    const change = healthy
      ? ({ kind: 'healthy' } as const)
      : ({ kind: 'unhealthy', reason } as const);
    const record = await this.change(ref, workerId, registration, change);
    if (registration !== undefined) this.adopt(registration, record);
    if (healthy) this.lifecycle.debug(`${workerId} of ${labelOf(ref)} is healthy`);
    else
      this.lifecycle.warn(
        `${workerId} of ${labelOf(ref)} is unhealthy (${reason}) and takes no calls`,
      );
    return record;
  }

  /** @throws WorkerNotRegisteredError */
  async announceShutdown(
    ref: FunctionRef,
    workerId: string,
    estimatedDowntimeMs: number,
  ): Promise<WorkerRecord> {
    const registration = this.membership.workers.find(ref, workerId);
    if (registration !== undefined) registration.status = 'draining';
    this.follow(ref);
    const record = await this.change(ref, workerId, registration, {
      kind: 'draining',
      estimatedDowntimeMs,
    });
    this.lifecycle.debug(
      `${workerId} of ${labelOf(ref)} is shutting down, back in about ${estimatedDowntimeMs} ms`,
    );
    return record;
  }

  /** What was said of workers here while Redis was away. */
  async tellUntold(): Promise<void> {
    for (const { ref, workerId, epoch, status, reason, untold } of this.membership.workers.all())
      if (untold && epoch !== undefined && status !== 'draining')
        await this.changeHealth(ref, workerId, status === 'ready', reason ?? '');
  }

  /** Changes the record and tells it; `undefined` when the registry has no such worker. */
  async tellChange(
    ref: FunctionRef,
    workerId: string,
    registration: LocalRegistration | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord | undefined> {
    const epoch = registration?.epoch;
    const record = await this.store.change(ref, workerId, epoch, change);
    if (record === undefined) return undefined;
    if (registration !== undefined) registration.seq = record.seq;
    this.events.emit('told', { ref, news: newsOf(record), definition: undefined });
    return record;
  }

  /** Removes the record and tells `offline`; `false` when the registry had no such worker. */
  async tellOffline(
    ref: FunctionRef,
    workerId: string,
    registration: LocalRegistration | undefined,
    reason: string,
  ): Promise<boolean> {
    const owner = ownerOf(registration, this.membership.session);
    const removed = await this.store.unregister(ref, workerId, owner, reason);
    // Nothing can come after it in its epoch. Of another process's worker the epoch is not known here, and its
    // news have to say it.
    if (removed && owner.epoch !== undefined) {
      const news = { workerId, epoch: owner.epoch, seq: Infinity, timestamp: 0, reason } as const;
      this.events.emit('told', { ref, news: { ...news, status: 'gone' }, definition: undefined });
    }
    return removed;
  }

  /** Takes over what the registry says of a worker of this process, when it is newer. */
  adopt(registration: LocalRegistration, record: WorkerRecord): void {
    registration.untold = false;
    if (record.epoch !== registration.epoch || record.seq < registration.seq) return;
    registration.seq = record.seq;
    if (record.status === registration.status || record.status === 'draining') return;
    this.applyHealth(registration, record.status === 'ready', record.reason ?? '');
  }

  /** A worker that is leaving stays so: health cannot bring it back. */
  applyHealth(registration: LocalRegistration, healthy: boolean, reason: string): void {
    if (registration.status === 'draining') return;
    registration.status = healthy ? 'ready' : 'unhealthy';
    registration.reason = healthy ? undefined : reason;
    this.follow(registration.ref);
  }

  /** Reads the function exactly while one of its workers here may take calls. */
  follow(ref: FunctionRef): void {
    const { workers, work } = this.membership;
    if (workers.takesCalls(ref)) work?.resume(ref);
    else work?.pause(ref);
  }

  /** @throws WorkerNotRegisteredError */
  private async change(
    ref: FunctionRef,
    workerId: string,
    registration: LocalRegistration | undefined,
    change: WorkerChange,
  ): Promise<WorkerRecord> {
    const record = await this.tellChange(ref, workerId, registration, change);
    if (record === undefined)
      throw new WorkerNotRegisteredError(ref.functionName, ref.workflowId, workerId);
    return record;
  }
}

function newsOf(record: WorkerRecord): WorkerNews {
  const { workerId, epoch, seq, status, reason, timestamp, generation } = record;
  return { workerId, epoch, seq, status, reason, timestamp, generation };
}

function ownerOf(
  registration: LocalRegistration | undefined,
  session: ProcessSession | undefined,
): WorkerOwner {
  if (registration?.epoch === undefined) return {};
  const { epoch } = registration;
  return session === undefined ? { epoch } : { epoch, sessionId: session.sessionId };
}
