import { Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { pause, type Clock } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { isRefused } from '../common/errors.js';
import { messageOf } from '../common/text.js';
import type { LoadedGenerations } from './loaded-generations.js';
import type { Membership } from './membership.js';
import type { SessionKeeper } from './session-keeper.js';
import type { Supervisor } from './supervisor.js';
import type { WorkerRegistrations } from './worker-registrations.js';

const RETRY_MS = 200;

/**
 * Joins the fleet, again and again until Redis lets it, in this order (promise 1): session, consumer groups, read,
 * and only then the registrations, which tell `ready`.
 *
 * Interleavings:
 * - One join at a time: who finds the session lost while one is under way waits for that one.
 * - A join that fails half way takes back what it opened, and the next attempt has a session of its own: whatever
 *   Redis still executes of the failed one belongs to a session that nobody has. Calls that the failed one was delivered
 *   are handed over first.
 * - It is told to stop (a drain): it ends between two steps, and registers nothing any more.
 */
export class FleetJoin {
  private readonly logger = new Logger('COORDINATOR');
  private joining: Promise<void> | undefined;
  /** The last session that was left half way: a read of it may have reached Redis since, through a slow network. */
  private left = '';

  constructor(
    private readonly membership: Membership,
    private readonly keeper: SessionKeeper,
    private readonly registrations: WorkerRegistrations,
    private readonly supervisor: Supervisor,
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly stopping: AbortSignal,
    private readonly supervises: boolean,
    private readonly onJoined: () => void,
    private readonly generations: LoadedGenerations,
    /** Hands over what a session of this process holds; whether all of it is. */
    private readonly releaseAll: (sessionId: string) => Promise<boolean>,
  ) {}

  /** The one that is under way. */
  get underWay(): Promise<void> | undefined {
    return this.joining;
  }

  /** Resolves when joined, or told to stop. */
  run(): Promise<void> {
    this.joining ??= this.untilDone().finally(() => (this.joining = undefined));
    return this.joining;
  }

  private async untilDone(): Promise<void> {
    const trouble = new Complaint((text) => this.logger.warn(`joining the fleet failed: ${text}`));
    for (let attempt = 1; !this.stopping.aborted; attempt += 1) {
      try {
        await this.once();
        if (!this.stopping.aborted) this.onJoined();
        return;
      } catch (error) {
        // Another connection that fails in another way is no news; that Redis refuses it is.
        if (attempt === 1 || isRefused(error)) trouble.tell(messageOf(error));
        this.logger.debug(`joining the fleet failed (attempt ${attempt}): ${messageOf(error)}`);
        await this.undo();
        await pause(this.clock, RETRY_MS, this.stopping);
      }
    }
  }

  private async once(): Promise<void> {
    const { sessionId, offsetMs } = await this.keeper.take();
    const { workers, work } = this.membership;
    if (this.supervises) this.supervisor.start(sessionId);
    work?.open(sessionId, offsetMs);
    const registrations = workers.all();
    // Before the first call can come: it may be bound to a generation.
    await this.generations.loadAll(workers.functions());
    await work?.begin(workers.functions());
    if (this.stopping.aborted) return;
    await Promise.all(
      registrations.map((registration) => this.registrations.register(registration)),
    );
    if (this.left !== '') void this.releaseAll(this.left);
    this.left = '';
    this.logger.debug(`joined as ${sessionId} with ${registrations.length} worker(s)`);
  }

  private async undo(): Promise<void> {
    const { session, work } = this.membership;
    this.membership.forgetSession();
    await work?.abandon('condemned');
    if (session === undefined || !this.backend.isConnected()) return;
    // It reads before it registers. What it was delivered is handed over, or it stays listed, and others find it.
    this.left = session.sessionId;
    if (await this.releaseAll(session.sessionId))
      await this.backend.workers.leave(session).catch(() => undefined);
  }
}
