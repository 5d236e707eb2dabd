import { Inject, Injectable } from '@nestjs/common';
import { SETTINGS } from '../backend/tokens.js';
import { InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import { assertName, functionRef, type FunctionRef } from '../protocol/function-ref.js';
import type { WorkerRecord } from '../protocol/worker-record.js';
import { WorkerCoordinator } from './worker-coordinator.js';

/** Which function of which worker a notifier speaks for. */
interface Binding {
  readonly ref: FunctionRef;
  readonly workerId: string;
}

/**
 * Tells the life of one function of one worker. What is injected speaks for the only function of the
 * process; where there are several, bind it first with {@link forFunction}.
 *
 * The module drives ready, shutdown and offline by itself for handlers; this is for what only the
 * application knows (a dependency timed out), and for workers that it registers itself.
 *
 * @example
 * ```ts
 * constructor(private readonly notifier: FunctionLifecycleNotifier) {}
 * const resize = this.notifier.forFunction('resize', 'media');
 * await resize.notifyUnhealthy('timeout');   // takes no calls from here on, and everybody knows
 * await resize.notifyHealthy();
 * ```
 */
@Injectable()
export class FunctionLifecycleNotifier {
  private binding: Binding | undefined;

  constructor(
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
    @Inject(SETTINGS) private readonly settings: Settings,
  ) {}

  /**
   * A notifier for one function of one worker.
   *
   * @param workflowId default: the module's `workflowId`
   * @param workerId default: the process's `workerId`
   * @throws InvalidNameError
   */
  forFunction(
    functionName: string,
    workflowId: string = this.settings.workflowId,
    workerId: string = this.settings.workerId,
  ): FunctionLifecycleNotifier {
    assertName('The workerId', workerId);
    const bound = new FunctionLifecycleNotifier(this.coordinator, this.settings);
    bound.binding = { ref: functionRef(functionName, workflowId), workerId };
    return bound;
  }

  /** Registers the worker (again) and tells `ready`: only after its group exists and its read is in place. */
  async notifyReady(): Promise<void> {
    const { ref, workerId } = this.bound();
    await this.coordinator.registerWorker(ref, workerId, '');
  }

  /**
   * Tells `shutdown` and stops taking calls; what runs goes on.
   *
   * @param estimatedDowntimeMs how long the worker expects to be away
   * @throws WorkerNotRegisteredError, InvalidArgumentError
   */
  async notifyShuttingDown(estimatedDowntimeMs: number): Promise<void> {
    if (!Number.isFinite(estimatedDowntimeMs) || estimatedDowntimeMs < 0) {
      throw new InvalidArgumentError(
        'estimatedDowntimeMs',
        show(estimatedDowntimeMs),
        'milliseconds, 0 or more',
      );
    }
    const { ref, workerId } = this.bound();
    await this.coordinator.announceShutdown(ref, workerId, estimatedDowntimeMs);
  }

  /** Removes the worker and tells `offline`, after its running calls finished or were handed back. */
  async notifyOffline(reason: string): Promise<void> {
    const { ref, workerId } = this.bound();
    await this.coordinator.unregisterWorker(ref, workerId, assertReason(reason));
  }

  /**
   * Tells that the worker is healthy; it takes calls again.
   *
   * @returns `false` for a worker that is leaving: after {@link notifyShuttingDown} health brings nothing back,
   * and nothing is told; {@link notifyReady} does
   * @throws WorkerNotRegisteredError
   */
  async notifyHealthy(): Promise<boolean> {
    const { ref, workerId } = this.bound();
    return isInService(await this.coordinator.changeHealth(ref, workerId, true, ''));
  }

  /**
   * Tells that the worker cannot work for now; it takes no calls until {@link notifyHealthy}.
   *
   * @param reason a word for people: `timeout`
   * @returns `false` for a worker that is leaving, as {@link notifyHealthy}
   * @throws WorkerNotRegisteredError, InvalidArgumentError
   */
  async notifyUnhealthy(reason: string): Promise<boolean> {
    const { ref, workerId } = this.bound();
    return isInService(
      await this.coordinator.changeHealth(ref, workerId, false, assertReason(reason)),
    );
  }

  private bound(): Binding {
    if (this.binding !== undefined) return this.binding;
    const own = this.coordinator
      .workers()
      .filter(({ workerId }) => workerId === this.settings.workerId);
    const [only, ...others] = own;
    if (only !== undefined && others.length === 0) return only;
    throw new InvalidArgumentError(
      'The function of this notifier',
      own.length === 0
        ? 'unknown: this process hosts none'
        : `ambiguous: this process hosts ${own.length}`,
      "notifier.forFunction('name', 'workflow')",
    );
  }
}

/** Whether health says something of a worker: of one that is leaving it does not. */
function isInService({ status }: WorkerRecord): boolean {
  return status !== 'draining';
}

/** Longest reason: it travels in every notification. */
const MAX_REASON_LENGTH = 256;

function assertReason(reason: unknown): string {
  if (typeof reason === 'string' && reason !== '' && reason.length <= MAX_REASON_LENGTH)
    return reason;
  throw new InvalidArgumentError(
    'reason',
    show(reason),
    `a word or sentence of at most ${MAX_REASON_LENGTH} characters`,
  );
}
