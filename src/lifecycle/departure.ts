import { Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { LEAVE_WAIT_MS, reachable } from '../backend/reachable.js';
import type { Clock } from '../common/clock.js';
import type { Settings } from '../common/settings.js';
import { backendName, messageOf } from '../common/text.js';
import { labelOf } from '../protocol/function-ref.js';
import type { LocalRegistration } from './local-workers.js';
import type { Membership } from './membership.js';
import type { DrainReport } from './work-source.js';
import type { WorkerRegistrations } from './worker-registrations.js';

/**
 * The leave of all workers of this process (promise 9): `shutdown` told, reading stopped, calls finished or handed
 * back, `offline` told.
 *
 * Interleavings:
 * - Loss of the session meanwhile: the calls were handed over, the registry has none of the workers, and the leave
 *   goes on with nothing to finish or to tell.
 * - Redis is away, or stands still, at a step: that step is left out and remembered. The process then leaves without giving its lease
 *   back, so that its session is found dead, and its calls and records with it.
 */
export class Departure {
  private readonly logger = new Logger('COORDINATOR');
  private complete = true;

  constructor(
    private readonly membership: Membership,
    private readonly registrations: WorkerRegistrations,
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly settings: Settings,
  ) {}

  /** Whether everything was told and handed back, as far as it has gone. */
  get leftNothing(): boolean {
    return this.complete && this.membership.work?.leftNothing !== false;
  }

  async run(leaving: readonly LocalRegistration[]): Promise<DrainReport> {
    const { workers, work } = this.membership;
    const { drainTimeoutMs } = this.settings;
    const startedAt = this.clock.now();
    for (const registration of leaving) registration.status = 'draining';
    const change = { kind: 'draining', estimatedDowntimeMs: drainTimeoutMs } as const;
    await this.each(leaving, 'announce the shutdown', (registration) =>
      this.registrations.tellChange(registration.ref, registration.workerId, registration, change),
    );
    const report = (await work?.drain(drainTimeoutMs)) ?? { finished: 0, handedBack: 0 };
    await this.each(leaving, 'tell offline', (registration) =>
      this.registrations.tellOffline(
        registration.ref,
        registration.workerId,
        registration,
        'shutdown',
      ),
    );
    workers.clear();
    if (leaving.length > 0) {
      this.logger.debug(
        `drained ${leaving.length} worker(s) in ${this.clock.now() - startedAt} ms: ${report.finished} call(s) ` +
          `finished, ${report.handedBack} handed back`,
      );
    }
    return report;
  }

  /** Does something for every worker that the registry has; a failure is said and stops nobody else. */
  private async each(
    registrations: readonly LocalRegistration[],
    what: string,
    task: (registration: LocalRegistration) => Promise<unknown>,
  ): Promise<void> {
    const registered = registrations.filter(({ epoch }) => epoch !== undefined);
    if (registered.length === 0) return;
    if (!(await reachable(this.backend, this.clock, LEAVE_WAIT_MS))) {
      this.logger.warn(
        `could not ${what} of ${registered.length} worker(s): ${backendName(this.backend.address)} is away`,
      );
      this.complete = false;
      return;
    }
    await Promise.all(
      registered.map((registration) =>
        task(registration).catch((error: unknown) => {
          this.complete = false;
          this.logger.warn(
            `could not ${what} of ${labelOf(registration.ref)}: ${messageOf(error)}`,
          );
        }),
      ),
    );
  }
}
