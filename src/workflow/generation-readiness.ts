import { Inject, Injectable } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK } from '../backend/tokens.js';
import type { Clock } from '../common/clock.js';
import { GenerationGoneError, NoWorkerError, ReadinessTimeoutError } from '../common/errors.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { ReadinessView } from '../readiness/readiness-view.js';
import { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';

/** What of a call's options a wait for its generation needs. */
export interface GenerationWait {
  readonly ifUnavailable?: 'wait' | 'fail' | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Waits for a worker that has loaded a generation of a workflow.
 *
 * Interleavings:
 * - `ready` of that generation before or after the wait begins: it is in the view, or wakes the waiter.
 * - the last worker of it leaves: there are newer ones, and it will not come back; a fresh read of the registry confirms
 *   it. Leaves it after that, the call is answered with the same error by whoever reads it.
 * - no worker has it yet, and older ones are there: they will be restarted, so it is waited for.
 */
@Injectable()
export class GenerationReadiness {
  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
  ) {}

  /** @throws GenerationGoneError, NoWorkerError, ReadinessTimeoutError, CallCancelledError, BackendUnavailableError */
  async waitFor(
    ref: FunctionRef,
    generation: number,
    timeoutMs: number,
    { ifUnavailable, signal }: GenerationWait,
  ): Promise<void> {
    if (ifUnavailable === 'fail') return this.assertServed(ref, generation);
    const until = this.clock.elapsed() + timeoutMs;
    for (;;) {
      const leftMs = Math.max(0, until - this.clock.elapsed());
      const late = (): Error => this.late(ref, generation, timeoutMs);
      const find = (view: ReadinessView): boolean | undefined => standing(view, generation);
      try {
        if (await this.watcher.until(ref, { find, timeoutMs: leftMs, signal, late })) return;
      } catch (error) {
        if (error instanceof ReadinessTimeoutError) await this.assertCurrent(ref, generation);
        throw error;
      }
      await this.watcher.watch(ref).read();
      if (standing(this.watcher.watch(ref).view, generation) === false)
        throw this.gone(ref, generation);
    }
  }

  private async assertServed(ref: FunctionRef, generation: number): Promise<void> {
    const { view } = await this.watcher.watchSynced(ref);
    const served = standing(view, generation);
    if (served === true) return;
    if (served === false) throw this.gone(ref, generation);
    throw new NoWorkerError(ref.functionName, ref.workflowId, this.situation(ref, generation));
  }

  /** What was saved again since, before anybody had loaded it, does not come any more. */
  private async assertCurrent(ref: FunctionRef, generation: number): Promise<void> {
    const current = await this.backend.workflows.current(ref.workflowId).catch(() => undefined);
    if (current !== undefined && current.generation > generation) throw this.gone(ref, generation);
  }

  private late(ref: FunctionRef, generation: number, timeoutMs: number): Error {
    const { functionName, workflowId } = ref;
    const problem = this.watcher.watch(ref).problem();
    const situation = this.situation(ref, generation);
    return new ReadinessTimeoutError(functionName, workflowId, timeoutMs, situation, problem);
  }

  private situation(ref: FunctionRef, generation: number): string {
    const watch = this.watcher.watch(ref);
    const others = watch.view
      .workers()
      .map(
        (worker) => `${worker.workerId} has loaded ${worker.generation ?? 'none that it tells'}`,
      );
    if (others.length === 0) return watch.situation();
    const known = others.slice(0, 5).join(', ');
    return `none has loaded generation ${generation} (${known}); coordinateRestart() lets them load the last save`;
  }

  private gone({ functionName, workflowId }: FunctionRef, generation: number): Error {
    return new GenerationGoneError(functionName, workflowId, generation);
  }
}

/** `true`: somebody serves the generation. `false`: nobody will. `undefined`: nobody does yet. */
function standing(view: ReadinessView, generation: number): boolean | undefined {
  if (view.healthyOf(generation)) return true;
  if (!view.synced) return undefined;
  const workers = view.workers();
  const isLeft = workers.some(
    (worker) => worker.generation === generation && worker.status !== 'draining',
  );
  if (isLeft) return undefined;
  return workers.some((worker) => (worker.generation ?? -1) > generation) ? false : undefined;
}
