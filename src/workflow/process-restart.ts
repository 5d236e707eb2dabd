import { pause } from '../common/clock.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { RestartCourse } from './restart-course.js';
import { functionsOf, type HostProcess, type WorkflowSurvey } from './workflow-survey.js';

/** An order is repeated after this, until it is obeyed: messages get lost. */
const REPEAT_MS = 1_000;

/** How many healthy workers a function had before. */
export type HealthyBefore = (ref: FunctionRef) => number;

/**
 * The restart of one process. What it waits for it sees in the readiness views, at once; before it is done it reads the
 * registry, which decides.
 *
 * Interleavings:
 * - The process dies, or is closed, before or after its order: its old lives are gone, and it is waited for as many
 *   healthy workers as before, whoever brings them.
 * - The order is lost: it is sent again while an old life still takes calls. An obeyed order that comes again changes nothing.
 * - The lead is lost: no further order is sent, by the store's own word.
 */
export class ProcessRestart {
  private readonly functions: readonly FunctionRef[];

  constructor(
    private readonly process: HostProcess,
    private readonly course: RestartCourse,
    private readonly healthyBefore: HealthyBefore,
  ) {
    this.functions = functionsOf(process);
  }

  /** @throws RestartFailedError, CallCancelledError, BackendUnavailableError, BackendRefusedError */
  async run(): Promise<void> {
    const done = new AbortController();
    const ends = AbortSignal.any([done.signal, this.course.aborted]);
    const failed = this.failed(ends);
    try {
      await Promise.race([this.order(ends), failed]);
      await Promise.race([this.untilBack(ends), failed]);
    } finally {
      done.abort();
    }
  }

  /** Orders until the process obeys, or its workers are gone otherwise. */
  private async order(ends: AbortSignal): Promise<void> {
    const { clock } = this.course.surroundings;
    const begun = this.untilBegun(ends).then(() => true);
    // It may be late while an order is being sent.
    begun.catch(() => undefined);
    const again = (): Promise<boolean> => pause(clock, REPEAT_MS, ends).then(() => false);
    do {
      this.course.assertGoesOn();
      await this.send();
    } while (!(await Promise.race([begun, again()])) && !ends.aborted);
    this.course.assertGoesOn();
  }

  private async send(): Promise<void> {
    const { lead, surroundings } = this.course;
    const { restartId, workflowId } = lead;
    const { processId: sessionId } = this.process;
    const order = { restartId, sessionId, replyTo: surroundings.ownSession };
    if (!(await surroundings.workflows.orderRestart(workflowId, order))) throw lead.lostError();
  }

  private async untilBegun(ends: AbortSignal): Promise<void> {
    const late = (): Error =>
      this.failure('it does not obey; it may be of an older version of this library, or be frozen');
    await Promise.all(
      this.process.workers.map(({ ref, record }) =>
        this.course.until(
          ref,
          ends,
          (view) => {
            const life = view.workers().find(({ workerId }) => workerId === record.workerId);
            return life?.epoch !== record.epoch || life.status === 'draining';
          },
          late,
        ),
      ),
    );
  }

  /** Waits until the old lives are gone, and each function has as many healthy workers as it had. */
  private async untilBack(ends: AbortSignal): Promise<void> {
    const { course, functions } = this;
    for (;;) {
      await Promise.all(functions.map((ref) => this.untilSeenBack(ref, ends)));
      const survey = await course.survey();
      const isBack = functions.every(
        (ref) =>
          survey.recordsOf(ref).every((record) => !course.isEnding(ref, record)) &&
          survey.healthyOf(ref) >= this.healthyBefore(ref),
      );
      if (isBack) return this.assertLoaded(survey);
      await this.readAgain();
    }
  }

  private untilSeenBack(ref: FunctionRef, ends: AbortSignal): Promise<void> {
    const { course } = this;
    const { timeoutMs } = course.options;
    return course.until(
      ref,
      ends,
      (view) =>
        view.workers().every((life) => !course.isEnding(ref, life)) &&
        view.healthy >= this.healthyBefore(ref),
      () =>
        this.failure(
          `${ref.functionName} did not have its workers back within ${timeoutMs} ms: ` +
            course.surroundings.watcher.watch(ref).situation(),
        ),
    );
  }

  /** What came back in the same process has to have loaded what was saved; if the process could not say why not. */
  private assertLoaded(survey: WorkflowSurvey): void {
    const stale = survey
      .processes()
      .find(({ processId }) => processId === this.process.processId)
      ?.workers.find(({ record }) => (record.generation ?? 0) < this.course.generation);
    if (stale !== undefined)
      throw this.failure('it came back without having loaded the last save: see its log');
  }

  private async readAgain(): Promise<void> {
    const { clock, watcher } = this.course.surroundings;
    await pause(clock, REPEAT_MS / 10, this.course.aborted);
    this.course.assertGoesOn();
    await Promise.all(this.functions.map((ref) => watcher.watch(ref).read()));
  }

  /** Rejects when the process says that it has failed. */
  private failed(ends: AbortSignal): Promise<never> {
    const { lead, surroundings } = this.course;
    const failed = new Promise<never>((_, reject) => {
      const dispose = surroundings.onFailure(({ restartId, processId, why }) => {
        if (restartId === lead.restartId && this.process.processId.startsWith(`${processId}.`))
          reject(this.failure(why));
      });
      ends.addEventListener('abort', dispose, { once: true });
    });
    failed.catch(() => undefined);
    return failed;
  }

  private failure(why: string): Error {
    return this.course.failure(this.process, why);
  }
}
