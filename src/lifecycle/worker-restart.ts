import { Logger } from '@nestjs/common';
import type { StoredGeneration } from '../backend/workflow-store.js';
import { pause, type Clock } from '../common/clock.js';
import { messageOf } from '../common/text.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { LoadedGenerations } from './loaded-generations.js';
import type { Membership } from './membership.js';

/** An order to restart this process's workers of a workflow. */
export interface RestartRequest {
  readonly restartId: string;
  readonly workflowId: string;
  /** The session that leads the restart. */
  readonly replyTo: string;
}

/** What a restart does with this process's workers, and whom it tells. */
export interface RestartSteps {
  leave(ref: FunctionRef, workerId: string): Promise<unknown>;
  /** As {@link leave}, whatever the registry says of the worker. */
  remove(ref: FunctionRef, workerId: string): Promise<unknown>;
  register(ref: FunctionRef, workerId: string, definition: string): Promise<unknown>;
  /** Loads the workflow anew: the application's handlers. */
  reload(workflowId: string, generation: StoredGeneration): Promise<void>;
  /** Ends the process instead. */
  exit(): void;
  /** Whether the process is being closed, so that its workers do not come back. */
  isClosing(): boolean;
  /** Whether the registry knows of the order: anybody who may cancel calls can send one. */
  isOrdered(request: RestartRequest): Promise<boolean>;
  /** Tells the leader that it failed. */
  report(request: RestartRequest, why: string): Promise<unknown>;
}

const LEAVE_ATTEMPTS = 5;
const RETRY_MS = 200;

/**
 * Restarts this process's workers of a workflow: they leave as for a shutdown, the application loads the workflow anew,
 * and they register in a new epoch, under the generation that the registry had before the loading began.
 *
 * Interleavings:
 * - The same order comes again, as long as its leader has not seen that it is obeyed: it is one restart.
 * - Another order comes meanwhile: this restart serves it, for its leader waits for another epoch, whatever made it.
 * - The loading fails: the workers register with what they had, under the old generation, and the leader is told.
 * - The process is closed meanwhile: registering is refused, and nothing is told: the leader waits for another process.
 */
export class WorkerRestart {
  private readonly logger = new Logger('WORKFLOW');
  private readonly underWay = new Set<string>();
  private readonly obeyed = new Map<string, string>();

  constructor(
    private readonly membership: Membership,
    private readonly generations: LoadedGenerations,
    private readonly clock: Clock,
    private readonly mode: 'reload' | 'exit',
    private readonly steps: RestartSteps,
  ) {}

  /** Obeys an order; never rejects. */
  async obey(request: RestartRequest): Promise<void> {
    const { workflowId, restartId } = request;
    if (this.underWay.has(workflowId) || this.obeyed.get(workflowId) === restartId) return;
    this.obeyed.set(workflowId, restartId);
    this.underWay.add(workflowId);
    try {
      if (await this.steps.isOrdered(request)) await this.restart(request);
      else this.logger.debug(`an order to restart ${workflowId} is nobody's: left alone`);
    } catch (error) {
      await this.tellFailure(request, error);
    } finally {
      this.underWay.delete(workflowId);
    }
  }

  private async restart(request: RestartRequest): Promise<void> {
    const { workflowId } = request;
    const mine = this.membership.workers.all().filter(({ ref }) => ref.workflowId === workflowId);
    if (mine.length === 0) return;
    if (this.mode === 'exit') {
      this.logger.log(`workflow ${workflowId} restarts: this process ends`);
      return this.steps.exit();
    }
    const workers = mine.map(({ ref, workerId, definition }) => ({ ref, workerId, definition }));
    await Promise.all(workers.map(({ ref, workerId }) => this.leave(ref, workerId)));
    try {
      const next = await this.generations.next(workflowId);
      await this.steps.reload(workflowId, next);
      this.generations.note(workflowId, next);
    } catch (error) {
      // Before they are back: the leader would take that for success.
      await this.tellFailure(request, error);
    }
    await Promise.all(
      workers.map(({ ref, workerId, definition }) =>
        this.steps.register(ref, workerId, definition),
      ),
    );
  }

  private async tellFailure(request: RestartRequest, error: unknown): Promise<void> {
    const why = messageOf(error);
    if (this.steps.isClosing()) {
      this.logger.debug(`the restart of workflow ${request.workflowId} is left to others: ${why}`);
      return;
    }
    this.logger.error(
      `the workers of workflow ${request.workflowId} could not be restarted: ${why}`,
    );
    await this.steps.report(request, why).catch(() => undefined);
  }

  /** Until the registry has nothing of it: what registers over the record of a living worker goes on in its epoch. */
  private async leave(ref: FunctionRef, workerId: string): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        if (attempt === 1) await this.steps.leave(ref, workerId);
        else await this.steps.remove(ref, workerId);
        return;
      } catch (error) {
        this.logger.debug(
          `${workerId} of ${ref.functionName} could not leave: ${messageOf(error)}`,
        );
        if (attempt === LEAVE_ATTEMPTS) return;
        await pause(this.clock, RETRY_MS);
      }
    }
  }
}
