import { Logger } from '@nestjs/common';
import type { ProcessSession, WorkerStore } from '../backend/worker-store.js';
import { messageOf } from '../common/text.js';
import { labelOf } from '../protocol/function-ref.js';
import type { LocalRegistration } from './local-workers.js';
import type { Membership } from './membership.js';
import type { WorkerRegistrations } from './worker-registrations.js';

/** Own records that are compared with the registry once per lease, in turn. */
const RECORDS_PER_AUDIT = 4;

/**
 * Compares records of this process's workers with the registry: what somebody removed or Redis evicted is
 * registered again, what was said while Redis or pub/sub was away is said, or heard, now. Of two words the
 * registry's stands, unless this process's own has never reached it.
 *
 * Interleavings: a record that was asked for says nothing any more when the session, or the worker, is another one
 * by the time of the answer, nor when the worker has begun to leave.
 */
export class RecordAudit {
  private readonly logger = new Logger('COORDINATOR');
  private audited = 0;

  constructor(
    private readonly membership: Membership,
    private readonly store: WorkerStore,
    private readonly registrations: WorkerRegistrations,
  ) {}

  /** Some of them, in turn. */
  some(session: ProcessSession): Promise<void> {
    return this.compare(session, RECORDS_PER_AUDIT);
  }

  /** All of them: news for this process may have been missed. Never rejects. */
  async all(): Promise<void> {
    const { session } = this.membership;
    if (session === undefined) return;
    try {
      await this.compare(session, Infinity);
    } catch (error) {
      this.logger.debug(`the own records could not be compared: ${messageOf(error)}`);
    }
  }

  private async compare(session: ProcessSession, count: number): Promise<void> {
    const registered = this.membership.workers.all().filter(({ epoch }) => epoch !== undefined);
    const from = registered.length === 0 ? 0 : this.audited % registered.length;
    const some = [...registered, ...registered].slice(
      from,
      from + Math.min(count, registered.length),
    );
    this.audited = from + some.length;
    await Promise.all(some.map((registration) => this.compareOne(session, registration)));
  }

  private async compareOne(
    session: ProcessSession,
    registration: LocalRegistration,
  ): Promise<void> {
    const { ref, workerId, status } = registration;
    const record = await this.store.find(ref, workerId);
    const { membership, registrations } = this;
    if (membership.session !== session) return;
    if (membership.workers.find(ref, workerId) !== registration || status === 'draining') return;
    if (record === undefined) {
      this.logger.warn(`${workerId} of ${labelOf(ref)} is not in the registry: registering again`);
      await registrations.register(registration);
    } else if (registration.untold) {
      const { reason = '' } = registration;
      await registrations.changeHealth(ref, workerId, status === 'ready', reason);
    } else registrations.adopt(registration, record);
  }
}
