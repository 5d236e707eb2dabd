import type { WorkflowStore } from '../backend/workflow-store.js';
import type { Clock, Timer } from '../common/clock.js';
import { RestartFailedError } from '../common/errors.js';

/** How long the lead of a restart outlives who has it: long enough for a pause of its event loop. */
export const LEAD_LEASE_MS = 6_000;
const RENEWALS = 3;

/**
 * The lead of a restart: kept until it is given back, or lost. Whoever loses it, because it was frozen or cut off for
 * longer than the lease, learns it here; and what it still orders is refused by the store.
 */
export class RestartLead {
  private readonly ended = new AbortController();
  private readonly timer: Timer;
  private keptAt: number;
  private isLetGo = false;

  constructor(
    private readonly store: WorkflowStore,
    private readonly clock: Clock,
    readonly workflowId: string,
    readonly restartId: string,
  ) {
    this.keptAt = clock.elapsed();
    this.timer = clock.every(LEAD_LEASE_MS / RENEWALS, () => void this.keep());
  }

  /** Aborts when the lead is lost. */
  get lost(): AbortSignal {
    return this.ended.signal;
  }

  /** Says that it is lost. */
  lostError(): Error {
    const why = 'this process lost the lead, because it did not reach Redis for too long';
    return new RestartFailedError(this.workflowId, why);
  }

  /** It is somebody else's now: nothing is kept, or given back. */
  letGo(): void {
    this.timer.cancel();
    this.isLetGo = true;
  }

  /** Gives it back; without Redis it ends by itself. */
  async giveBack(): Promise<void> {
    this.timer.cancel();
    if (this.isLetGo) return;
    await this.store.endRestart(this.workflowId, this.restartId).catch(() => undefined);
  }

  private async keep(): Promise<void> {
    const since = this.clock.elapsed();
    try {
      const kept = await this.store.keepRestart(this.workflowId, this.restartId, LEAD_LEASE_MS);
      if (kept) this.keptAt = since;
      else this.lose();
    } catch {
      if (this.clock.elapsed() - this.keptAt >= LEAD_LEASE_MS) this.lose();
    }
  }

  private lose(): void {
    this.timer.cancel();
    this.ended.abort();
  }
}
