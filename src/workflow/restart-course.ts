import type { WorkerStore } from '../backend/worker-store.js';
import type { WorkflowStore } from '../backend/workflow-store.js';
import type { Clock } from '../common/clock.js';
import { CallCancelledError, isFunctionsError, RestartFailedError } from '../common/errors.js';
import type { Dispose } from '../common/typed-events.js';
import type { CoordinatorEvents } from '../lifecycle/coordinator-events.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';
import type { ReadinessView } from '../readiness/readiness-view.js';
import type { ResolvedRestartOptions } from './restart-options.js';
import type { RestartLead } from './restart-lead.js';
import { WorkflowSurvey, type HostProcess } from './workflow-survey.js';

/** What a restart works with. */
export interface RestartSurroundings {
  readonly workflows: WorkflowStore;
  readonly workers: WorkerStore;
  readonly watcher: FunctionReadinessWatcher;
  readonly clock: Clock;
  /** This process's session, which is restarted last; `''` when it has none. */
  readonly ownSession: string;
  readonly onFailure: (listener: (failure: CoordinatorEvents['restartFailed']) => void) => Dispose;
  readonly warn: (text: string) => void;
}

/** One life of a worker. */
export interface Life {
  readonly workerId: string;
  readonly epoch: number;
}

/** What all steps of one restart share: its lead, what they wait for, what ends them, and whose end was ordered. */
export class RestartCourse {
  /** Aborts when the lead is lost, or the restart is cancelled. */
  readonly aborted: AbortSignal;
  /** Lives that were ordered to end: worker ids with epochs, by function. They count for nobody. */
  private readonly ending = new Map<string, Map<string, number>>();

  constructor(
    readonly lead: RestartLead,
    /** The generation that whoever comes back has to have loaded. */
    readonly generation: number,
    readonly options: ResolvedRestartOptions,
    readonly surroundings: RestartSurroundings,
  ) {
    const { signal } = options;
    this.aborted = signal === undefined ? lead.lost : AbortSignal.any([lead.lost, signal]);
  }

  survey(): Promise<WorkflowSurvey> {
    return WorkflowSurvey.take(this.surroundings.workers, this.lead.workflowId);
  }

  /** Waits, for `timeoutMs` at the most, until the view of a function is as it should be. */
  async until(
    ref: FunctionRef,
    signal: AbortSignal,
    isSo: (view: ReadinessView) => boolean,
    late: () => Error,
  ): Promise<void> {
    // A view that was never read knows nobody, and nobody is not "gone".
    const find = (view: ReadinessView): true | undefined =>
      (view.synced && isSo(view)) || undefined;
    const { timeoutMs } = this.options;
    try {
      await this.surroundings.watcher.until(ref, { find, timeoutMs, signal, late });
    } catch (error) {
      if (isFunctionsError(error, 'CALL_CANCELLED')) this.assertGoesOn();
      throw error;
    }
  }

  /** The lives of this process end from now on. */
  noteEnding({ workers }: HostProcess): void {
    for (const { ref, record } of workers) {
      const lives = this.ending.get(ref.id) ?? new Map<string, number>();
      this.ending.set(ref.id, lives.set(record.workerId, record.epoch));
    }
  }

  isEnding(ref: FunctionRef, { workerId, epoch }: Life): boolean {
    return this.ending.get(ref.id)?.get(workerId) === epoch;
  }

  /** @throws RestartFailedError, CallCancelledError */
  assertGoesOn(): void {
    if (this.lead.lost.aborted) throw this.lead.lostError();
    const { signal } = this.options;
    if (signal?.aborted === true)
      throw new CallCancelledError('coordinateRestart', this.lead.workflowId, signal.reason);
  }

  failure({ processId }: HostProcess, why: string): Error {
    return new RestartFailedError(this.lead.workflowId, `process ${processId}: ${why}`);
  }
}
