import { Logger } from '@nestjs/common';
import type { WorkerStore } from '../backend/worker-store.js';
import { messageOf, oneLine } from '../common/text.js';
import { isCount, isRecord } from '../protocol/json.js';
import type { CoordinatorEvents } from './coordinator-events.js';
import type { LocalRegistration } from './local-workers.js';
import type { Membership } from './membership.js';
import type { RestartRequest } from './worker-restart.js';
import type { WorkerRegistrations } from './worker-registrations.js';

/**
 * Does what other processes, and scripts, tell this one directly on its session's channel; what is no such
 * message is ignored.
 *
 * That a worker was changed or removed is a hint: who may not change the registry may still publish, for
 * cancellations. What the registry has counts.
 *
 * Interleavings: health that is not newer than the last word about that worker, and the removal of an earlier
 * life of it, come too late and change nothing. While the registry is asked the worker may leave, or live anew:
 * then the answer is about somebody else.
 */
export class ControlMessages {
  private readonly logger = new Logger('COORDINATOR');

  constructor(
    private readonly membership: Membership,
    private readonly store: WorkerStore,
    private readonly registrations: WorkerRegistrations,
    /** Another process has unregistered a worker of this one. */
    private readonly onRemoval: (registration: LocalRegistration) => void,
    /** The supervisor, whose deputy this process is, has looked at so many sessions, and gives none time to return. */
    private readonly onLook: (sessions: number, settled: boolean) => void,
    /** Another process leads a restart of a workflow. */
    private readonly onRestart: (order: RestartRequest) => void,
    /** A process could not restart as this one has ordered. */
    private readonly onRestartFailed: (failure: CoordinatorEvents['restartFailed']) => void,
    /** A process that restarts last leaves that to whoever takes it: a hint, the registry has what is to be done. */
    private readonly onRestartLeft: (left: CoordinatorEvents['restartLeft']) => void,
  ) {}

  obey(message: unknown): void {
    if (!isRecord(message)) return;
    const { work } = this.membership;
    switch (message['type']) {
      case 'looked':
        // One of an older library does not say how many, nor whether its quiet time is over.
        return this.onLook(
          isCount(message['sessions']) ? message['sessions'] : 0,
          message['settled'] === true,
        );
      case 'cancel':
        if (typeof message['callId'] === 'string') work?.cancel(message['callId']);
        return;
      case 'regrouped':
        if (typeof message['functionId'] === 'string') work?.reclaim(message['functionId']);
        return;
      case 'restart':
        return this.hearOfRestart(message);
      case 'restart-failed':
        return this.hearOfFailure(message);
      case 'restart-left':
        if (typeof message['workflowId'] === 'string')
          this.onRestartLeft({ workflowId: message['workflowId'] });
        return;
      case 'unregistered':
      case 'health':
        this.hearOfChange(message);
    }
  }

  private hearOfRestart({ restartId, workflowId, replyTo }: Record<string, unknown>): void {
    if (typeof restartId !== 'string' || typeof workflowId !== 'string') return;
    this.onRestart({ restartId, workflowId, replyTo: typeof replyTo === 'string' ? replyTo : '' });
  }

  private hearOfFailure({ restartId, processId, why }: Record<string, unknown>): void {
    if (typeof restartId !== 'string' || typeof processId !== 'string') return;
    this.onRestartFailed({ restartId, processId, why: oneLine(String(why)) });
  }

  private hearOfChange(message: Record<string, unknown>): void {
    const registration = this.find(message);
    if (registration === undefined) return;
    const removed = message['type'] === 'unregistered' && message['epoch'] === registration.epoch;
    // What it changed itself comes back to it, and is no news.
    const changed = message['type'] === 'health' && Number(message['seq']) > registration.seq;
    if (removed || changed) void this.checkRecord(registration, removed);
  }

  private async checkRecord(registration: LocalRegistration, removed: boolean): Promise<void> {
    const { ref, workerId, epoch } = registration;
    try {
      const record = await this.store.find(ref, workerId);
      if (this.membership.workers.find(ref, workerId) !== registration) return;
      if (epoch === undefined || registration.epoch !== epoch || registration.untold) return;
      if (record?.epoch === epoch) this.registrations.adopt(registration, record);
      else if (removed) this.onRemoval(registration);
    } catch (error) {
      this.logger.debug(`the own record could not be compared: ${messageOf(error)}`);
    }
  }

  private find(message: Record<string, unknown>): LocalRegistration | undefined {
    return this.membership.workers
      .all()
      .find(
        ({ ref, workerId }) =>
          ref.functionName === message['functionName'] &&
          ref.workflowId === message['workflowId'] &&
          workerId === message['workerId'],
      );
  }
}
