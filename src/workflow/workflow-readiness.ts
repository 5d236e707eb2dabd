import { Inject, Injectable } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, SETTINGS } from '../backend/tokens.js';
import { pause, type Clock } from '../common/clock.js';
import {
  CallCancelledError,
  InvalidArgumentError,
  isFunctionsError,
  WorkflowNotReadyError,
} from '../common/errors.js';
import { createDeferred } from '../common/deferred.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { processHold } from '../common/process-hold.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { assertName, encodeName, functionRef, type FunctionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';
import type { WorkerInfo } from '../readiness/function-watch.js';
import {
  assertSignal,
  assertTimeout,
  FunctionReadinessWatcher,
  type WaitOptions,
} from '../readiness/function-readiness-watcher.js';

/** What of a workflow to wait for, and how long. */
export interface WorkflowReadyOptions extends WaitOptions {
  /** Names of functions; default: those that the registry has definitions of. */
  readonly functions?: readonly string[] | undefined;
}

/** A workflow that is ready. */
export interface WorkflowWorkers {
  readonly workflowId: string;
  /** Per function, a healthy worker. */
  readonly workers: readonly WorkerInfo[];
}

/** While news come, the registry is read once more after so many poll intervals all the same. */
const SAFETY_NET_FACTOR = 10;

interface Wait {
  readonly workflowId: string;
  readonly names: readonly string[] | undefined;
  readonly timeoutMs: number;
  readonly until: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Waits until all functions of a workflow are ready at the same moment.
 *
 * Interleavings:
 * - a function becomes ready, and another one is lost again before the last is there: all views are looked at together
 *   behind the last wait, and waited on anew.
 * - a function is registered for the first time meanwhile: the definitions are read again behind the last wait.
 * - the first function of a workflow is registered: its name is not known before. The pattern of all `ready` of the
 *   workflow is subscribed to, acknowledged, and only then the definitions are read, so that one is read or heard.
 */
@Injectable()
export class WorkflowReadiness {
  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
  ) {}

  /**
   * Resolves when every function of the workflow has a healthy worker.
   *
   * @throws WorkflowNotReadyError which are not, and why
   * @throws CallCancelledError, BackendRefusedError, InvalidNameError, InvalidArgumentError, ClosedError
   */
  async waitForWorkflow(
    workflowId: string,
    options: WorkflowReadyOptions = {},
  ): Promise<WorkflowWorkers> {
    const wait = this.checked(workflowId, options);
    for (;;) {
      const refs = await this.functionsOf(wait);
      await this.waitForAll(wait, refs);
      const workers = refs.map((ref) => this.readyWorker(ref));
      const isWhole = wait.names !== undefined || (await this.areStill(wait, refs));
      const ready = workers.filter((worker) => worker !== undefined);
      if (isWhole && ready.length === refs.length) return { workflowId, workers: ready };
    }
  }

  /** The functions that a workflow has definitions of; of which there is one at the least. */
  private async functionsOf(wait: Wait): Promise<readonly FunctionRef[]> {
    const { workflowId, names } = wait;
    if (names !== undefined) return names.map((name) => functionRef(name, workflowId));
    const known = await this.read(wait);
    return known.length > 0 ? known : this.waitForFirst(wait);
  }

  private async waitForFirst(wait: Wait): Promise<readonly FunctionRef[]> {
    let rung = createDeferred();
    const pattern = `function:ready:*:${encodeName(wait.workflowId)}`;
    const subscribed = this.notifications
      .subscribePattern(pattern, () => rung.resolve())
      .catch(() => undefined);
    try {
      for (;;) {
        const subscription = await Promise.race([subscribed, this.pollInterval(wait, 1)]);
        // Before the read: no news between it and the wait are missed.
        rung = createDeferred();
        const known = await this.read(wait);
        if (known.length > 0) return known;
        // A user that may not subscribe to patterns polls.
        const isHearing = subscription !== undefined && this.notifications.state === 'connected';
        await this.pollInterval(wait, isHearing ? SAFETY_NET_FACTOR : 1, rung.promise);
      }
    } finally {
      void subscribed.then((subscription) => subscription?.unsubscribe());
    }
  }

  /** The definitions; while Redis cannot be reached, again and again. */
  private async read(wait: Wait): Promise<readonly FunctionRef[]> {
    for (;;) {
      try {
        return await this.backend.workers.functions(wait.workflowId);
      } catch (error) {
        if (!isFunctionsError(error) || !error.retryable) throw error;
        await this.pollInterval(wait, 1, undefined, error);
      }
    }
  }

  private async areStill(wait: Wait, refs: readonly FunctionRef[]): Promise<boolean> {
    const now = await this.read(wait);
    return now.every(({ id }) => refs.some((ref) => ref.id === id));
  }

  private async waitForAll(wait: Wait, refs: readonly FunctionRef[]): Promise<void> {
    const { workflowId, signal } = wait;
    const late = (): Error => this.notReady(wait, refs);
    const find = (view: { healthy: number }): true | undefined => view.healthy > 0 || undefined;
    const leftMs = Math.max(0, wait.until - this.clock.elapsed());
    try {
      await Promise.all(
        refs.map((ref) => this.watcher.until(ref, { find, timeoutMs: leftMs, signal, late })),
      );
    } catch (error) {
      if (!isFunctionsError(error, 'CALL_CANCELLED')) throw error;
      throw cancelled(workflowId, signal);
    }
  }

  private readyWorker(ref: FunctionRef): WorkerInfo | undefined {
    const worker = this.watcher.watch(ref).view.firstHealthy();
    if (worker === undefined) return undefined;
    const { functionName, workflowId } = ref;
    return { functionName, workflowId, workerId: worker.workerId, epoch: worker.epoch };
  }

  private notReady(wait: Wait, refs: readonly FunctionRef[], cause?: unknown): Error {
    const watches = refs.map((ref) => this.watcher.watch(ref));
    const unready = watches
      .filter(({ view }) => view.healthy === 0)
      .map((watch) => ({
        functionName: watch.ref.functionName,
        situation: watch.situation(),
      }));
    const problem = cause ?? watches.map((watch) => watch.problem()).find(Boolean);
    return new WorkflowNotReadyError(wait.workflowId, wait.timeoutMs, unready, problem);
  }

  /** Lets some time pass, or less when `rung` resolves; ends the wait when its time is up, or it is cancelled. */
  private async pollInterval(
    wait: Wait,
    factor: number,
    rung: Promise<void> = new Promise(() => undefined),
    cause?: unknown,
  ): Promise<void> {
    const { signal, workflowId } = wait;
    if (signal?.aborted === true) throw cancelled(workflowId, signal);
    const leftMs = wait.until - this.clock.elapsed();
    if (leftMs <= 0) throw this.notReady(wait, [], cause);
    const done = new AbortController();
    const ends = signal === undefined ? done.signal : AbortSignal.any([done.signal, signal]);
    const ms = Math.min(leftMs, factor * this.settings.pollIntervalMs);
    processHold.take();
    await Promise.race([rung, pause(this.clock, ms, ends)]).finally(() => processHold.release());
    done.abort();
    if (signal?.aborted) throw cancelled(workflowId, signal);
  }

  private checked(workflowId: string, options: WorkflowReadyOptions): Wait {
    assertName('The workflowId', workflowId);
    const given: unknown = options;
    if (!isRecord(given))
      throw new InvalidArgumentError('options', show(given), '{ functions, timeoutMs, signal }');
    assertKnownKeys(given, OPTIONS, (key) => `options.${key}`);
    const { functions, timeoutMs = this.settings.readinessTimeoutMs, signal } = options;
    assertTimeout('timeoutMs', timeoutMs);
    assertSignal(signal);
    if (functions !== undefined && !(Array.isArray(functions) && functions.length > 0))
      throw new InvalidArgumentError('functions', show(functions), 'an array of names, not empty');
    for (const name of functions ?? []) assertName('The function name', name);
    const until = this.clock.elapsed() + timeoutMs;
    return { workflowId, names: functions && [...new Set(functions)], timeoutMs, until, signal };
  }
}

const OPTIONS: ReadonlySet<string> = new Set<keyof WorkflowReadyOptions>([
  'functions',
  'timeoutMs',
  'signal',
]);

function cancelled(workflowId: string, signal: AbortSignal | undefined): CallCancelledError {
  return new CallCancelledError('waitForWorkflow', workflowId, signal?.reason);
}
