import { randomUUID } from 'node:crypto';
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK } from '../backend/tokens.js';
import type { Clock } from '../common/clock.js';
import { RestartInProgressError } from '../common/errors.js';
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

/** Leads restarts of workflows: one at a time for each, whichever process leads it. */
@Injectable()
export class WorkflowRestarts {
  private readonly logger = new Logger('WORKFLOW');

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
  ) {}

  /** See `EnhancedFunctionRegistry.coordinateRestart`. */
  async coordinateRestart(workflowId: string, options: RestartOptions): Promise<RestartReport> {
    assertName('The workflowId', workflowId);
    const resolved = resolveRestartOptions(options);
    const { workflows } = this.backend;
    const lease = { restartId: randomUUID(), holder: this.coordinator.processId };
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
    const { workflows, workers } = this.backend;
    const { workflowId, restartId } = lead;
    const since = this.clock.elapsed();
    const { generation } = await workflows.current(workflowId);
    const course = new RestartCourse(lead, generation, options, {
      workflows,
      workers,
      watcher: this.watcher,
      clock: this.clock,
      ownSession: this.coordinator.sessionId,
      onFailure: (listener) => this.coordinator.on('restartFailed', listener),
      warn: (text) => this.logger.warn(text),
    });
    const run = new RestartRun(course);
    const plan = await run.plan();
    await workflows.tell(
      workflowId,
      'restarting',
      JSON.stringify({ restartId, processes: plan.length }),
    );
    if (plan.length === 0 && options.only === 'all')
      this.logger.warn(`nobody hosts workflow ${workflowId}, and nothing restarts: check its name`);
    this.logger.log(`restarting workflow ${workflowId}: ${plan.length} process(es)`);
    const restarted = await run.run(plan);
    await workflows.tell(
      workflowId,
      'ready',
      JSON.stringify({ restartId, processes: restarted.length }),
    );
    const durationMs = Math.round(this.clock.elapsed() - since);
    this.logger.log(`workflow ${workflowId} is restarted, in ${durationMs} ms`);
    return { workflowId, generation, restarted, durationMs };
  }
}
