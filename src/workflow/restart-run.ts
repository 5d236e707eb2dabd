import type { WorkerStore } from '../backend/worker-store.js';
import type { WorkflowStore } from '../backend/workflow-store.js';
import { pause, type Clock } from '../common/clock.js';
import {
  CallCancelledError,
  isFunctionsError,
  RestartFailedError,
  RestartRefusedError,
} from '../common/errors.js';
import { callIsolated, type Dispose } from '../common/typed-events.js';
import type { CoordinatorEvents } from '../lifecycle/coordinator-events.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';
import type { ReadinessView } from '../readiness/readiness-view.js';
import type { ResolvedRestartOptions, RestartProgress } from './restart-options.js';
import type { RestartLead } from './restart-lead.js';
import { functionsOf, WorkflowSurvey, type HostProcess } from './workflow-survey.js';

/** An order is repeated after this, until it is obeyed: messages get lost. */
const REPEAT_MS = 1_000;

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

/**
 * One restart of a workflow's workers, process after process. What it waits for it sees in the readiness views, at once;
 * before it goes on it reads the registry, which decides.
 *
 * Interleavings:
 * - A process dies, or is closed, before or after its order: its old lives are gone, and it is waited for as many healthy
 *   workers as before, whoever brings them.
 * - The order is lost: it is sent again while an old life still takes calls. An obeyed order that comes again changes nothing.
 * - Another worker of a function dies before the next process's turn: it is waited for another one.
 * - The lead is lost: no further order is sent, by the store's own word.
 */
export class RestartRun {
  private readonly restarted: string[] = [];
  /** Lives that were ordered to end: worker ids with epochs, by function. They count for nobody. */
  private readonly ending = new Map<string, Map<string, number>>();
  private readonly aborted: AbortSignal;

  constructor(
    private readonly lead: RestartLead,
    private readonly generation: number,
    private readonly options: ResolvedRestartOptions,
    private readonly surroundings: RestartSurroundings,
  ) {
    const { signal } = options;
    this.aborted = signal === undefined ? lead.lost : AbortSignal.any([lead.lost, signal]);
  }

  /** The processes to restart: this process last, for it leads. @throws RestartRefusedError */
  async plan(): Promise<HostProcess[]> {
    const survey = await this.survey();
    const { ownSession } = this.surroundings;
    const all = survey.processes().filter((process) => this.isMeant(process));
    const alone = all.flatMap((process) => survey.hostedOnlyBy(process));
    if (alone.length > 0 && !this.options.allowInterruption) {
      const names = [...new Set(alone.map(({ functionName }) => functionName))];
      throw new RestartRefusedError(this.lead.workflowId, names);
    }
    const own = all.filter(({ processId }) => processId === ownSession);
    return [...all.filter((process) => !own.includes(process)), ...own];
  }

  /** Restarts them; the processes that were, in their order. */
  async run(plan: readonly HostProcess[]): Promise<readonly string[]> {
    const waiting = [...plan];
    const active = new Set<Promise<void>>();
    const failures: unknown[] = [];
    try {
      while (waiting.length > 0 || active.size > 0) {
        if (failures.length > 0) throw failures[0];
        this.assertGoesOn();
        const next = active.size < this.options.maxUnavailable ? waiting.shift() : undefined;
        if (next === undefined) {
          await Promise.race(active);
          continue;
        }
        await this.untilOthersServe(next);
        // One that runs beside it may have failed meanwhile.
        if (failures.length > 0) throw failures[0];
        this.note(next);
        const step: Promise<void> = this.step(next, plan.length)
          .catch((error: unknown) => void failures.push(error))
          .finally(() => active.delete(step));
        active.add(step);
      }
      if (failures.length > 0) throw failures[0];
    } finally {
      await Promise.allSettled(active);
    }
    return this.restarted;
  }

  private async step(process: HostProcess, total: number): Promise<void> {
    this.tell(process, 'restarting', total);
    const before = await this.survey();
    const done = new AbortController();
    const ends = AbortSignal.any([done.signal, this.aborted]);
    const failed = this.failureOf(process, ends);
    try {
      await Promise.race([this.order(process, ends), failed]);
      await Promise.race([this.untilBack(process, before, ends), failed]);
    } finally {
      done.abort();
    }
    this.restarted.push(process.processId);
    this.tell(process, 'ready', total);
  }

  /** Orders until the process obeys, or its workers are gone otherwise. */
  private async order(process: HostProcess, ends: AbortSignal): Promise<void> {
    const { clock } = this.surroundings;
    const begun = Promise.all(
      process.workers.map(({ ref, record }) =>
        this.until(ref, ends, (view) => {
          const life = view.workers().find(({ workerId }) => workerId === record.workerId);
          return life?.epoch !== record.epoch || life.status === 'draining' ? true : undefined;
        }),
      ),
    );
    let isBegun = false;
    let problem: unknown;
    const noted = begun.then(
      () => void (isBegun = true),
      (error: unknown) => void (problem = error),
    );
    for (;;) {
      this.assertGoesOn();
      await this.send(process);
      await Promise.race([noted, pause(clock, REPEAT_MS, ends)]);
      if (isBegun) return;
      if (problem === undefined) continue;
      if (!isFunctionsError(problem, 'RESTART_FAILED')) throw problem as Error;
      const why = 'it does not obey; it may be of an older version of this library, or be frozen';
      throw this.failure(process, why);
    }
  }

  private async send({ processId }: HostProcess): Promise<void> {
    const { workflows, ownSession } = this.surroundings;
    const { workflowId, restartId } = this.lead;
    const order = { restartId, sessionId: processId, replyTo: ownSession };
    if (!(await workflows.orderRestart(workflowId, order))) throw this.lostLead();
  }

  /** Waits until the old lives are gone, and each function has as many healthy workers as it had. */
  private async untilBack(
    process: HostProcess,
    before: WorkflowSurvey,
    ends: AbortSignal,
  ): Promise<void> {
    for (;;) {
      await Promise.all(
        functionsOf(process).map((ref) =>
          this.until(ref, ends, (view) => {
            const gone = view.workers().every((life) => !this.isEnding(ref, life));
            return gone && view.healthy >= before.healthyOf(ref) ? true : undefined;
          }),
        ),
      );
      const survey = await this.survey();
      const isBack = functionsOf(process).every(
        (ref) =>
          survey.recordsOf(ref).every((record) => !this.isEnding(ref, record)) &&
          survey.healthyOf(ref) >= before.healthyOf(ref),
      );
      if (isBack) return this.assertLoaded(process, survey);
      await this.readAgain(process);
    }
  }

  /** What came back in the same process has to have loaded what was saved; if the process could not say why not. */
  private assertLoaded(process: HostProcess, survey: WorkflowSurvey): void {
    const stale = survey
      .processes()
      .find(({ processId }) => processId === process.processId)
      ?.workers.find(({ record }) => (record.generation ?? 0) < this.generation);
    if (stale !== undefined)
      throw this.failure(process, 'it came back without having loaded the last save: see its log');
  }

  /** Waits until every function of the process has a healthy worker that is not about to end. */
  private async untilOthersServe(process: HostProcess): Promise<void> {
    const survey = await this.survey();
    const alone = new Set(survey.hostedOnlyBy(process).map(({ id }) => id));
    const isLeaving = (ref: FunctionRef, life: Life): boolean =>
      this.isEnding(ref, life) ||
      process.workers.some(
        ({ ref: own, record }) =>
          own.id === ref.id && record.workerId === life.workerId && record.epoch === life.epoch,
      );
    await Promise.all(
      functionsOf(process)
        .filter(({ id }) => !(alone.has(id) && this.options.allowInterruption))
        .map((ref) =>
          this.until(ref, this.aborted, (view) =>
            view.workers().some((life) => life.status === 'ready' && !isLeaving(ref, life))
              ? true
              : undefined,
          ).catch((error: unknown) => {
            if (!isFunctionsError(error, 'RESTART_FAILED')) throw error;
            throw this.failure(
              process,
              `no other worker of ${ref.functionName} is healthy, and it would be without one`,
            );
          }),
        ),
    );
  }

  private async until(
    ref: FunctionRef,
    signal: AbortSignal,
    find: (view: ReadinessView) => true | undefined,
  ): Promise<void> {
    const { watcher } = this.surroundings;
    const { timeoutMs } = this.options;
    const late = (): Error =>
      new RestartFailedError(
        this.lead.workflowId,
        `${ref.functionName} did not have its workers back within ${timeoutMs} ms: ` +
          watcher.watch(ref).situation(),
      );
    // A view that was never read knows nobody, and nobody is not "gone".
    const known = (view: ReadinessView): true | undefined => (view.synced ? find(view) : undefined);
    try {
      await watcher.until(ref, { find: known, timeoutMs, signal, late });
    } catch (error) {
      if (!isFunctionsError(error, 'CALL_CANCELLED')) throw error;
      this.assertGoesOn();
      throw error;
    }
  }

  private async readAgain(process: HostProcess): Promise<void> {
    await pause(this.surroundings.clock, REPEAT_MS / 10, this.aborted);
    this.assertGoesOn();
    await Promise.all(
      functionsOf(process).map((ref) => this.surroundings.watcher.watch(ref).read()),
    );
  }

  private failureOf(process: HostProcess, ends: AbortSignal): Promise<never> {
    const { restartId } = this.lead;
    const failed = new Promise<never>((_, reject) => {
      const dispose = this.surroundings.onFailure((failure) => {
        if (failure.restartId !== restartId) return;
        if (process.processId.startsWith(`${failure.processId}.`))
          reject(this.failure(process, failure.why));
      });
      ends.addEventListener('abort', dispose, { once: true });
    });
    failed.catch(() => undefined);
    return failed;
  }

  private isMeant({ workers }: HostProcess): boolean {
    if (this.options.only === 'all') return true;
    return workers.some(({ record }) => (record.generation ?? 0) < this.generation);
  }

  private note({ workers }: HostProcess): void {
    for (const { ref, record } of workers) {
      const lives = this.ending.get(ref.id) ?? new Map<string, number>();
      this.ending.set(ref.id, lives.set(record.workerId, record.epoch));
    }
  }

  private isEnding(ref: FunctionRef, { workerId, epoch }: Life): boolean {
    return this.ending.get(ref.id)?.get(workerId) === epoch;
  }

  private survey(): Promise<WorkflowSurvey> {
    return WorkflowSurvey.take(this.surroundings.workers, this.lead.workflowId);
  }

  private tell(process: HostProcess, phase: RestartProgress['phase'], total: number): void {
    const { onProgress } = this.options;
    if (onProgress === undefined) return;
    const progress = {
      workflowId: this.lead.workflowId,
      phase,
      processId: process.processId,
      functions: functionsOf(process).map(({ functionName }) => functionName),
      done: this.restarted.length,
      total,
    };
    callIsolated(
      () => onProgress(progress),
      (error) => this.surroundings.warn(`onProgress of a restart failed: ${String(error)}`),
    );
  }

  /** @throws RestartFailedError, CallCancelledError */
  private assertGoesOn(): void {
    if (this.lead.lost.aborted) throw this.lostLead();
    const { signal } = this.options;
    if (signal?.aborted === true)
      throw new CallCancelledError('coordinateRestart', this.lead.workflowId, signal.reason);
  }

  private lostLead(): Error {
    const why = 'this process lost the lead, because it did not reach Redis for too long';
    return new RestartFailedError(this.lead.workflowId, why);
  }

  private failure({ processId }: HostProcess, why: string): Error {
    return new RestartFailedError(this.lead.workflowId, `process ${processId}: ${why}`);
  }
}

type Life = { readonly workerId: string; readonly epoch: number };
