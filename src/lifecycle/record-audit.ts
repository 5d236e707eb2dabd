import { Logger } from '@nestjs/common';
import type { ProcessSession, WorkerStore } from '../backend/worker-store.js';
import { messageOf } from '../common/text.js';
import { takeInTurn } from '../common/turns.js';
import { labelOf } from '../protocol/function-ref.js';
import type { LocalRegistration } from './local-workers.js';
import type { Membership } from './membership.js';
import type { WorkerRegistrations } from './worker-registrations.js';

/** Functions whose records are looked for once per lease, in turn, in one command. */
const FUNCTIONS_PER_LOOK = 500;

/**
 * Compares records of this process's workers with the registry: what somebody removed or Redis evicted is
 * registered again, what was said while Redis or pub/sub was away is said, or heard, now. Of two words the
 * registry's stands, unless this process's own has never reached it.
 *
 * Once per lease it costs two commands, however many functions there are: whether the functions have records at all,
 * and one record in turn. Only when records are missing are those functions' compared one by one.
 *
 * Interleavings: a record that was asked for says nothing any more when the session, or the worker, is another one
 * by the time of the answer, nor when the worker has begun to leave.
 */
export class RecordAudit {
  private readonly logger = new Logger('COORDINATOR');
  private looked = 0;
  private audited = 0;

  constructor(
    private readonly membership: Membership,
    private readonly store: WorkerStore,
    private readonly registrations: WorkerRegistrations,
  ) {}

  /** What is missing, of some functions in turn, and one record. */
  async some(session: ProcessSession): Promise<void> {
    const registered = this.registered();
    const functions = new Map(registered.map(({ ref }) => [ref.id, ref]));
    const refs = takeInTurn([...functions.values()], this.looked, FUNCTIONS_PER_LOOK);
    if (refs.length === 0) return;
    this.looked += refs.length;
    if ((await this.store.countRecorded(refs)) < refs.length) {
      const ids = new Set(refs.map(({ id }) => id));
      return this.compare(
        session,
        registered.filter(({ ref }) => ids.has(ref.id)),
      );
    }
    const next = takeInTurn(registered, this.audited, 1);
    this.audited += next.length;
    await this.compare(session, next);
  }

  /** All of them: news for this process may have been missed. Never rejects. */
  async all(): Promise<void> {
    const { session } = this.membership;
    if (session === undefined) return;
    try {
      await this.compare(session, this.registered());
    } catch (error) {
      this.logger.debug(`the own records could not be compared: ${messageOf(error)}`);
    }
  }

  private registered(): LocalRegistration[] {
    return this.membership.workers.all().filter(({ epoch }) => epoch !== undefined);
  }

  private async compare(
    session: ProcessSession,
    registrations: readonly LocalRegistration[],
  ): Promise<void> {
    await Promise.all(registrations.map((registration) => this.compareOne(session, registration)));
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
