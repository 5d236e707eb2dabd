import { isRecord } from '../protocol/json.js';
import type { LocalRegistration } from './local-workers.js';
import type { Membership } from './membership.js';
import type { WorkerRegistrations } from './worker-registrations.js';

/**
 * Does what other processes, and scripts, tell this one directly on its session's channel; what is no such
 * message is ignored.
 *
 * Interleavings: health that is not newer than the last word about that worker, and the removal of an earlier
 * life of it, come too late and change nothing.
 */
export class ControlMessages {
  constructor(
    private readonly membership: Membership,
    private readonly registrations: WorkerRegistrations,
    /** Another process has unregistered a worker of this one. */
    private readonly onRemoval: (registration: LocalRegistration) => void,
    /** The supervisor, whose deputy this process is, has looked. */
    private readonly onLook: () => void,
  ) {}

  obey(message: unknown): void {
    if (!isRecord(message)) return;
    const { work } = this.membership;
    switch (message['type']) {
      case 'looked':
        return this.onLook();
      case 'cancel':
        if (typeof message['callId'] === 'string') work?.cancel(message['callId']);
        return;
      case 'regrouped':
        if (typeof message['functionId'] === 'string') work?.reclaim(message['functionId']);
        return;
      case 'unregistered': {
        const registration = this.find(message);
        if (registration?.epoch === message['epoch'] && registration !== undefined)
          this.onRemoval(registration);
        return;
      }
      case 'health':
        this.hearHealth(message);
    }
  }

  private hearHealth(message: Record<string, unknown>): void {
    const { healthy, reason } = message;
    const registration = this.find(message);
    const seq = Number(message['seq']);
    if (typeof healthy !== 'boolean') return;
    if (registration === undefined || !(seq > registration.seq)) return;
    registration.seq = seq;
    this.registrations.applyHealth(registration, healthy, typeof reason === 'string' ? reason : '');
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
