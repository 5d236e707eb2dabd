import { RestartRefusedError } from '../common/errors.js';
import { callIsolated } from '../common/typed-events.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import { ProcessRestart, type HealthyBefore } from './process-restart.js';
import type { Life, RestartCourse } from './restart-course.js';
import type { RestartProgress } from './restart-options.js';
import type { RestartRest } from './restart-rest.js';
import { functionsOf, type HostProcess } from './workflow-survey.js';

/**
 * One restart of a workflow's workers, process after process.
 *
 * Interleaving: another worker of a function dies before the next process's turn: it is waited for another one.
 */
export class RestartRun {
  private readonly restarted: string[] = [];

  constructor(private readonly course: RestartCourse) {}

  /** The processes to restart: this process last, for it leads. @throws RestartRefusedError */
  async plan(): Promise<HostProcess[]> {
    const { lead, options, surroundings } = this.course;
    const survey = await this.course.survey();
    const all = survey.processes().filter((process) => this.isMeant(process));
    const alone = all.flatMap((process) => survey.hostedOnlyBy(process));
    if (alone.length > 0 && !options.allowInterruption) {
      const names = [...new Set(alone.map(({ functionName }) => functionName))];
      throw new RestartRefusedError(lead.workflowId, names);
    }
    const own = all.filter(({ processId }) => processId === surroundings.ownSession);
    return [...all.filter((process) => !own.includes(process)), ...own];
  }

  /** Restarts them, of a plan of so many; the processes that were, in their order. */
  async run(plan: readonly HostProcess[], total: number): Promise<readonly string[]> {
    const waiting = [...plan];
    const active = new Set<Promise<void>>();
    const failures: unknown[] = [];
    const assertGoesWell = (): void => {
      if (failures.length > 0) throw failures[0] as Error;
    };
    try {
      while (waiting.length > 0) {
        assertGoesWell();
        this.course.assertGoesOn();
        if (active.size === this.course.options.maxUnavailable) {
          await Promise.race(active);
          continue;
        }
        const next = waiting.shift() as HostProcess;
        await this.untilOthersServe(next);
        // One that runs beside it may have failed meanwhile.
        assertGoesWell();
        this.course.noteEnding(next);
        const step: Promise<void> = this.step(next, total)
          .catch((error: unknown) => void failures.push(error))
          .finally(() => active.delete(step));
        active.add(step);
      }
    } finally {
      await Promise.allSettled(active);
    }
    assertGoesWell();
    return this.restarted;
  }

  /** What is left for other processes when this one, the last, restarts by its end. Others serve by then. */
  async leave(own: HostProcess, total: number): Promise<RestartRest & { heirs: string[] }> {
    const { course } = this;
    await this.untilOthersServe(own);
    course.assertGoesOn();
    this.tell(own, 'restarting', total);
    const survey = await course.survey();
    const healthy = functionsOf(own).map(
      (ref) => [ref.functionName, survey.healthyOf(ref)] as const,
    );
    const others = survey.processes().filter(({ processId }) => processId !== own.processId);
    const { timeoutMs, allowInterruption } = course.options;
    return {
      process: own,
      healthy: new Map(healthy),
      heirs: others.map(({ processId }) => processId),
      total,
      generation: course.generation,
      timeoutMs,
      allowInterruption,
    };
  }

  /** Restarts the process that was left to this one. */
  async finish({ process, healthy }: RestartRest): Promise<void> {
    await this.untilOthersServe(process);
    this.course.assertGoesOn();
    this.course.noteEnding(process);
    const before: HealthyBefore = ({ functionName }) => healthy.get(functionName) ?? 0;
    await new ProcessRestart(process, this.course, before).run();
  }

  private async step(process: HostProcess, total: number): Promise<void> {
    this.tell(process, 'restarting', total);
    const before = await this.course.survey();
    await new ProcessRestart(process, this.course, (ref) => before.healthyOf(ref)).run();
    this.restarted.push(process.processId);
    this.tell(process, 'ready', total);
  }

  /** Waits until every function of the process has a healthy worker that is not about to end. */
  private async untilOthersServe(process: HostProcess): Promise<void> {
    const { course } = this;
    const survey = await course.survey();
    const alone = new Set(survey.hostedOnlyBy(process).map(({ id }) => id));
    await Promise.all(
      functionsOf(process)
        .filter(({ id }) => !(alone.has(id) && course.options.allowInterruption))
        .map((ref) =>
          course.until(
            ref,
            course.aborted,
            (view) =>
              view
                .workers()
                .some(
                  (life) =>
                    life.status === 'ready' &&
                    !course.isEnding(ref, life) &&
                    !isOf(process, ref, life),
                ),
            () =>
              course.failure(
                process,
                `no other worker of ${ref.functionName} is healthy, and it would be without one`,
              ),
          ),
        ),
    );
  }

  private isMeant({ workers }: HostProcess): boolean {
    const { options, generation } = this.course;
    if (options.only === 'all') return true;
    return workers.some(({ record }) => (record.generation ?? 0) < generation);
  }

  private tell(process: HostProcess, phase: RestartProgress['phase'], total: number): void {
    const { options, lead, surroundings } = this.course;
    const { onProgress } = options;
    if (onProgress === undefined) return;
    const progress = {
      workflowId: lead.workflowId,
      phase,
      processId: process.processId,
      functions: functionsOf(process).map(({ functionName }) => functionName),
      done: this.restarted.length,
      total,
    };
    callIsolated(
      () => onProgress(progress),
      (error) => surroundings.warn(`onProgress of a restart failed: ${String(error)}`),
    );
  }
}

function isOf({ workers }: HostProcess, ref: FunctionRef, { workerId, epoch }: Life): boolean {
  return workers.some(
    ({ ref: own, record }) =>
      own.id === ref.id && record.workerId === workerId && record.epoch === epoch,
  );
}
