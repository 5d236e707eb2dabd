import { randomUUID } from 'node:crypto';
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, SETTINGS } from '../backend/tokens.js';
import type { RestartLease } from '../backend/workflow-store.js';
import type { Clock } from '../common/clock.js';
import { RestartInProgressError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { assertName } from '../protocol/function-ref.js';
import { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';
import {
  resolveRestartOptions,
  type ResolvedRestartOptions,
  type RestartOptions,
  type RestartReport,
} from './restart-options.js';
import { RestartCourse } from './restart-course.js';
import { LEAD_LEASE_MS, RestartLead } from './restart-lead.js';
import { RestartRun } from './restart-run.js';
import { RestartSuccession } from './restart-succession.js';
import type { HostProcess } from './workflow-survey.js';

/** Leads restarts of workflows: one at a time for each, whichever process leads it. */
@Injectable()
export class WorkflowRestarts {
  private readonly logger = new Logger('WORKFLOW');
  private readonly succession: RestartSuccession;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
  ) {
    this.succession = new RestartSuccession(backend.workflows, clock, coordinator, (...course) =>
      this.course(...course),
    );
  }

  /** Carries on what other processes leave, from now on. */
  start(): void {
    this.succession.start();
  }

  stop(): void {
    this.succession.stop();
  }

  /** See `EnhancedFunctionRegistry.coordinateRestart`. */
  async coordinateRestart(workflowId: string, options: RestartOptions): Promise<RestartReport> {
    assertName('The workflowId', workflowId);
    const resolved = resolveRestartOptions(options);
    const { workflows } = this.backend;
    const { processId: holder, sessionId: session } = this.coordinator;
    const lease: RestartLease = { restartId: randomUUID(), holder, session };
    const held = await workflows.beginRestart(workflowId, lease, LEAD_LEASE_MS);
    if (held !== undefined) throw new RestartInProgressError(workflowId, held.holder);
    const lead = new RestartLead(workflows, this.clock, workflowId, lease.restartId);
    try {
      return await this.run(lead, resolved);
    } catch (error) {
      this.logger.warn(`the restart of workflow ${workflowId} has ended: ${messageOf(error)}`);
      throw error;
    } finally {
      await lead.giveBack();
    }
  }

  private async run(lead: RestartLead, options: ResolvedRestartOptions): Promise<RestartReport> {
    const { workflows } = this.backend;
    const { workflowId, restartId } = lead;
    const since = this.clock.elapsed();
    const { generation } = await workflows.current(workflowId);
    const run = new RestartRun(this.course(lead, generation, options));
    const plan = await run.plan();
    const told = JSON.stringify({ restartId, processes: plan.length });
    await workflows.tell(workflowId, 'restarting', told);
    if (plan.length === 0 && options.only === 'all')
      this.logger.warn(`nobody hosts workflow ${workflowId}, and nothing restarts: check its name`);
    this.logger.log(`restarting workflow ${workflowId}: ${plan.length} process(es)`);
    const leaver = this.leaver(plan);
    const turns = leaver === undefined ? plan : plan.slice(0, -1);
    const restarted = await run.run(turns, plan.length);
    if (leaver !== undefined)
      await this.succession.leave(lead, await run.leave(leaver, plan.length));
    else await workflows.tell(workflowId, 'ready', told);
    const durationMs = Math.round(this.clock.elapsed() - since);
    if (leaver === undefined)
      this.logger.log(`workflow ${workflowId} is restarted, in ${durationMs} ms`);
    return { workflowId, generation, restarted, handedOver: leaver !== undefined, durationMs };
  }

  /** This process, when it restarts too, and by its end: it cannot see itself back. */
  private leaver(plan: readonly HostProcess[]): HostProcess | undefined {
    if (this.settings.restart !== 'exit') return undefined;
    const last = plan.at(-1);
    return last?.processId === this.coordinator.sessionId ? last : undefined;
  }

  private course(
    lead: RestartLead,
    generation: number,
    options: ResolvedRestartOptions,
  ): RestartCourse {
    const { workflows, workers } = this.backend;
    return new RestartCourse(lead, generation, options, {
      workflows,
      workers,
      watcher: this.watcher,
      clock: this.clock,
      ownSession: this.coordinator.sessionId,
      onFailure: (listener) => this.coordinator.on('restartFailed', listener),
      warn: (text) => this.logger.warn(text),
    });
  }
}
