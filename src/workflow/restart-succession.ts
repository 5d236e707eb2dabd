import { Logger } from '@nestjs/common';
import type { WorkflowStore } from '../backend/workflow-store.js';
import type { Clock, Timer } from '../common/clock.js';
import { messageOf } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import type { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import type { RestartCourse } from './restart-course.js';
import { LEAD_LEASE_MS, RestartLead } from './restart-lead.js';
import { resolveRestartOptions, type ResolvedRestartOptions } from './restart-options.js';
import { encodeRest, parseRest, type RestartRest } from './restart-rest.js';
import { RestartRun } from './restart-run.js';

/** How long a process that leaves a restart waits for another one to take it, before it ends all the same. */
const TAKE_OVER_MS = 2_000;

/**
 * A process that leads a restart, and restarts itself by its end, cannot see itself back. It leaves that, in Redis, to
 * whoever takes it first: one of those that were restarted before, or the one that is started in its place.
 *
 * Interleavings:
 * - Several processes hear of it: the step that takes the lead lets one have it.
 * - Taken before the leaver ends: it is ordered to, as any other process. Before that others serve.
 * - Nobody takes it within {@link TAKE_OVER_MS} (nobody is there, or of an older version): the leaver ends by itself; who
 *   joins with workers of the workflow looks for what is left, behind its registration, so that it is found in either
 *   order.
 * - The leaver dies instead: the same. How many workers there were is part of what is left, for they are fewer by then.
 * - Whoever took it dies, too: the lead is free, the process that was left comes back by itself, and nobody tells `ready`.
 */
export class RestartSuccession {
  private readonly logger = new Logger('WORKFLOW');
  private disposers: Dispose[] = [];
  private farewell: Timer | undefined;

  constructor(
    private readonly workflows: WorkflowStore,
    private readonly clock: Clock,
    private readonly coordinator: WorkerCoordinator,
    private readonly courseOf: (
      lead: RestartLead,
      generation: number,
      options: ResolvedRestartOptions,
    ) => RestartCourse,
  ) {}

  start(): void {
    const { coordinator } = this;
    this.disposers = [
      coordinator.on('restartLeft', ({ workflowId }) => this.takeOver(workflowId)),
      coordinator.on('state', ({ to }) => {
        if (to === 'active') this.lookAll();
      }),
    ];
  }

  stop(): void {
    for (const dispose of this.disposers) dispose();
    this.farewell?.cancel();
  }

  /**
   * Leaves the rest of a restart to others, and ends this process once they let it, or nobody is there.
   *
   * @throws RestartFailedError, BackendUnavailableError, BackendRefusedError; the process goes on then
   */
  async leave(lead: RestartLead, rest: RestartRest & { heirs: readonly string[] }): Promise<void> {
    const { workflowId, restartId } = lead;
    const legacy = { restartId, rest: encodeRest(rest), sessions: rest.heirs };
    if (!(await this.workflows.leaveRestart(workflowId, legacy, rest.timeoutMs)))
      throw lead.lostError();
    lead.letGo();
    this.logger.log(`workflow ${workflowId} restarts: this process, which leads it, comes last`);
    if (rest.heirs.length === 0) return this.coordinator.exit();
    this.farewell = this.clock.every(TAKE_OVER_MS, () => void this.endUnlessTaken(lead));
  }

  private async endUnlessTaken({ workflowId, restartId }: RestartLead): Promise<void> {
    try {
      const isTaken = await this.workflows.leadsRestart(workflowId, restartId);
      this.farewell?.cancel();
      if (!isTaken) this.coordinator.exit();
    } catch (error) {
      this.logger.debug(`who leads the restart is not known yet: ${messageOf(error)}`);
    }
  }

  private lookAll(): void {
    const workflows = new Set(this.coordinator.workers().map(({ ref }) => ref.workflowId));
    for (const workflowId of workflows) void this.takeOver(workflowId);
  }

  /** Carries on what was left of a restart, if anything was, and nobody else does; never rejects. */
  private async takeOver(workflowId: string): Promise<void> {
    const { processId: holder, sessionId: session } = this.coordinator;
    try {
      const left = await this.workflows.takeRestart(workflowId, { holder, session }, LEAD_LEASE_MS);
      if (left !== undefined) await this.carryOn(workflowId, left);
    } catch (error) {
      this.logger.debug(`no restart of ${workflowId} is taken over: ${messageOf(error)}`);
    }
  }

  private async carryOn(
    workflowId: string,
    left: { readonly restartId: string; readonly rest: string },
  ): Promise<void> {
    const { restartId } = left;
    const lead = new RestartLead(this.workflows, this.clock, workflowId, restartId);
    try {
      const rest = parseRest(workflowId, left.rest);
      if (rest === undefined) throw new Error('what was left of it cannot be read');
      const { timeoutMs, allowInterruption, total } = rest;
      const options = resolveRestartOptions({ timeoutMs, allowInterruption });
      await new RestartRun(this.courseOf(lead, rest.generation, options)).finish(rest);
      const told = JSON.stringify({ restartId, processes: total });
      await this.workflows.tell(workflowId, 'ready', told);
      this.logger.log(`workflow ${workflowId} is restarted; its leader came last`);
    } catch (error) {
      this.logger.warn(
        `the restart of workflow ${workflowId}, which its leader left to this process, has ended: ` +
          messageOf(error),
      );
    } finally {
      await lead.giveBack();
    }
  }
}
