import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, SETTINGS } from '../backend/tokens.js';
import { Circuit } from '../circuit/circuit.js';
import type { FunctionCircuit } from '../circuit/function-circuit.js';
import { FunctionCircuits } from '../circuit/function-circuits.js';
import { createCallId } from '../common/call-id.js';
import { untilAborted, within, type Clock } from '../common/clock.js';
import {
  CallCancelledError,
  InvalidArgumentError,
  NoWorkerError,
  ReadinessTimeoutError,
} from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import { CallClient, type CallResult } from '../execution/caller/call-client.js';
import { CallProbes } from '../execution/call-probes.js';
import type { DrainReport } from '../lifecycle/work-source.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { functionRef, assertName, type FunctionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';
import type { WorkerRecord } from '../protocol/worker-record.js';
import type { FunctionWatch, WorkerInfo } from '../readiness/function-watch.js';
import {
  FunctionReadinessWatcher,
  type WaitOptions,
} from '../readiness/function-readiness-watcher.js';
import { GenerationReadiness } from '../workflow/generation-readiness.js';
import type { RestartOptions, RestartReport } from '../workflow/restart-options.js';
import { WorkflowRestarts } from '../workflow/workflow-restarts.js';
import {
  WorkflowReadiness,
  type WorkflowReadyOptions,
  type WorkflowWorkers,
} from '../workflow/workflow-readiness.js';
import { assertCallOptions, type CallOptions } from './call-options.js';
import type { FunctionContract } from './function-contract.js';
import { GenerationGroup, type GroupOptions } from './generation-group.js';
import { FunctionRegistry, type CallOutcome } from './function-registry.js';

/** Who can run a function, from memory. */
export interface InstantWorkerStatus {
  /** Whether a call would start now. */
  readonly available: boolean;
  readonly workers: number;
  readonly healthyWorkers: number;
  /** Whether somebody in this process waits for it. */
  readonly isWaitingForWorker: boolean;
}

/**
 * The registry with instant readiness: a call waits for its worker not a millisecond too long, and who can
 * run what is known from memory.
 *
 * @example
 * ```ts
 * constructor(private readonly functions: EnhancedFunctionRegistry) {}
 *
 * const result = await this.functions.call('resize', { url, width: 80 }, { workflowId: 'media' });
 * const { success, data, error } = await this.functions.callFunctionWithInstantReadiness('resize', 'media', { url }, item);
 * ```
 */
@Injectable()
export class EnhancedFunctionRegistry extends FunctionRegistry {
  constructor(
    @Inject(BACKEND) backend: Backend,
    @Inject(SETTINGS) settings: Settings,
    @Inject(CLOCK) clock: Clock,
    @Inject(WorkerCoordinator) coordinator: WorkerCoordinator,
    @Inject(CallClient) calls: CallClient,
    @Inject(FunctionCircuits) circuits: FunctionCircuits,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
    @Inject(WorkflowReadiness) private readonly workflowReadiness: WorkflowReadiness,
    @Inject(WorkflowRestarts) private readonly workflowRestarts: WorkflowRestarts,
    @Inject(GenerationReadiness) private readonly generations: GenerationReadiness,
    @Inject(CallProbes) probes: CallProbes,
  ) {
    super(backend, settings, clock, coordinator, calls, circuits, probes);
  }

  /**
   * Calls a function and resolves to its result.
   *
   * Bad input is refused before anything is sent. With a healthy worker known, the way to Redis has no
   * command besides the one that adds the call.
   *
   * @param fn a contract of `defineFunction`, or a function's name
   * @param parameters named arguments, checked against the function's definition
   * @throws RemoteFunctionError the handler failed: its code, message and details
   * @throws NoWorkerError, BackendUnavailableError, ReadinessTimeoutError, CallCancelledError, DeadlineExceededError, WorkerLostError,
   * MaxDeliveriesError, OutcomeUnknownError, ClosedError
   * @throws InvalidNameError, InvalidArgumentError, InvalidParametersError, PayloadNotSerializableError,
   * PayloadTooLargeError
   */
  call<Input extends object, Output>(
    fn: FunctionContract<Input, Output>,
    parameters: Input,
    options?: CallOptions,
  ): Promise<Output>;
  call<Output = unknown>(fn: string, parameters?: object, options?: CallOptions): Promise<Output>;
  async call(
    fn: string | FunctionContract<object, unknown>,
    parameters: object = {},
    options: CallOptions = {},
  ): Promise<unknown> {
    try {
      return (await this.perform(createCallId(), fn, parameters, options)).data;
    } catch (error) {
      // The error was made where the reply arrived; its stack should say who called.
      if (error instanceof Error) Error.captureStackTrace(error);
      throw error;
    }
  }

  /**
   * Calls a function; never throws: a failure is `success: false` with code, message and details.
   *
   * @param timeout bounds the wait for a worker, in milliseconds; the call itself has `executionTimeoutMs`
   */
  async callFunctionWithInstantReadiness<T = unknown>(
    functionName: string,
    workflowId: string,
    parameters: object = {},
    item: unknown = {},
    timeout: number = this.settings.readinessTimeoutMs,
  ): Promise<CallOutcome<T>> {
    const callId = createCallId();
    return this.outcome<T>(callId, async () => {
      // Both names are arguments here: neither may be a contract, or left to the module.
      functionRef(functionName, workflowId);
      return this.perform(callId, functionName, parameters, {
        workflowId,
        item,
        readinessTimeoutMs: timeout,
      });
    });
  }

  /** See {@link FunctionReadinessWatcher.waitForFunction}. */
  waitForFunction(
    functionName: string,
    workflowId: string,
    options?: number | WaitOptions,
  ): Promise<WorkerInfo> {
    return this.watcher.waitForFunction(functionName, workflowId, options);
  }

  /**
   * Resolves when every function of a workflow has a healthy worker: at once, or the moment the last one has.
   *
   * @param options `functions`: names, default those that the registry has definitions of; `timeoutMs`: default
   * `readinessTimeoutMs` (10 000); `signal`
   * @throws WorkflowNotReadyError which functions are not ready, and why
   * @throws CallCancelledError, BackendRefusedError, InvalidNameError, InvalidArgumentError, ClosedError
   * @example
   * ```ts
   * await functions.waitForWorkflow('media', { timeoutMs: 30_000 });
   * ```
   */
  waitForWorkflow(workflowId: string, options?: WorkflowReadyOptions): Promise<WorkflowWorkers> {
    return this.workflowReadiness.waitForWorkflow(workflowId, options);
  }

  /**
   * Calls that see a workflow at one generation: all of them run on workers that have loaded the save that holds now,
   * however many functions it touches, and whatever is saved or restarted meanwhile. They wait for such workers, within
   * `readinessTimeoutMs`.
   *
   * @param options `generation: 'pinned'` (default): when no worker of it is left, calls fail with GenerationGoneError.
   * `'latest'`: the group moves on to the generation that holds then, with all its calls from there on
   * @throws InvalidNameError, InvalidArgumentError, BackendUnavailableError, BackendRefusedError
   * @example
   * ```ts
   * const media = await functions.atGeneration('media');
   * const plan = await media.call('plan', { url });
   * const image = await media.call('render', { plan }); // by the same save as the plan
   * ```
   */
  async atGeneration(workflowId: string, options: GroupOptions = {}): Promise<GenerationGroup> {
    return GenerationGroup.begin(this.backend.workflows, this.clock, workflowId, options, {
      timeoutMs: this.settings.executionTimeoutMs,
      readinessTimeoutMs: this.settings.readinessTimeoutMs,
      call: (fn, parameters, callOptions) => this.call(fn as string, parameters, callOptions),
    });
  }

  /**
   * Restarts the processes that host functions of a workflow in turn, each after the one before is ready again, so that
   * no function is without a worker at any moment; calls go on meanwhile. Any process may lead it, one at a time.
   *
   * A process drains, runs its `@OnWorkflowEvent('restarting')` handlers and registers anew; with the module's option
   * `restart: 'exit'` it ends, and it is waited for as many healthy workers as before. Where this process itself is to end
   * so, as the last one, this resolves just before, with `handedOver: true`, and another process tells `ready`.
   *
   * @throws RestartInProgressError another process restarts the workflow
   * @throws RestartRefusedError a function has only one process, and `allowInterruption` is not set; nothing was done
   * @throws RestartFailedError a process did not come back, or could not load; the others are as they were
   * @throws CallCancelledError, BackendUnavailableError, BackendRefusedError, InvalidNameError, InvalidArgumentError
   * @example
   * ```ts
   * await workflows.notifySaved('media', { version: 7 });
   * await functions.coordinateRestart('media', { onProgress: ({ done, total }) => log(`${done}/${total}`) });
   * ```
   */
  coordinateRestart(workflowId: string, options: RestartOptions = {}): Promise<RestartReport> {
    return this.workflowRestarts.coordinateRestart(workflowId, options);
  }

  /**
   * Who can run a function. From memory, without a Redis command, once the function has been watched; the
   * first question starts the watch and reads the registry.
   *
   * @throws InvalidNameError, ClosedError
   * @throws BackendUnavailableError the registry was never read, and Redis is away
   */
  async getInstantWorkerStatus(
    functionName: string,
    workflowId: string,
  ): Promise<InstantWorkerStatus> {
    const watch = await this.watcher.watchSynced(functionRef(functionName, workflowId));
    return {
      available: watch.view.healthy > 0,
      workers: watch.view.registered,
      healthyWorkers: watch.view.healthy,
      isWaitingForWorker: watch.waiting > 0,
    };
  }

  /**
   * The circuit that calls of a function go through.
   *
   * @param fn a contract of `defineFunction`, or a function's name
   * @param workflowId default: the contract's, else the module's
   * @throws InvalidNameError
   * @throws InvalidArgumentError the function has no circuit: neither the module's option nor its contract says so
   */
  getCircuit<Input extends object, Output>(
    fn: string | FunctionContract<Input, Output>,
    workflowId?: string,
  ): Circuit {
    const ref = this.refOf(fn, workflowId);
    const choice = typeof fn === 'string' ? undefined : fn.circuit;
    const circuit = this.circuits.of(ref, choice);
    if (circuit === undefined) {
      throw new InvalidArgumentError(
        'The function',
        `${label(ref)}, which has no circuit`,
        'one that has: circuit: true in FunctionsModule.forRoot(), or in defineFunction()',
      );
    }
    return new Circuit(circuit, this.circuits, this.backend);
  }

  /** Registers a worker of this process and tells `ready`, which releases everyone who waits. */
  async registerWorkerWithInstantNotification(
    workerId: string,
    functionName: string,
    workflowId: string,
  ): Promise<WorkerRecord> {
    return this.registerWorker(workerId, functionName, workflowId);
  }

  /** Removes a worker and tells `offline` with reason `unregistered`. `false` when it was not registered. */
  async unregisterWorkerWithNotification(
    workerId: string,
    functionName: string,
    workflowId: string,
  ): Promise<boolean> {
    return this.unregisterWorker(workerId, functionName, workflowId);
  }

  /**
   * A graceful leave of one worker: `shutdown` told, its calls finished within `drainTimeoutMs` or handed
   * back, `offline` told.
   *
   * @throws WorkerNotRegisteredError
   */
  async coordinateShutdown(
    functionName: string,
    workflowId: string,
    workerId: string,
  ): Promise<DrainReport> {
    assertName('The workerId', workerId);
    return this.coordinator.coordinateShutdown(functionRef(functionName, workflowId), workerId);
  }

  /** Says whether a worker is healthy, and tells everybody at once. */
  async notifyWorkerHealth(
    functionName: string,
    workflowId: string,
    workerId: string,
    isHealthy: boolean,
    reason?: string,
  ): Promise<void> {
    await this.updateWorkerHealth(workerId, functionName, workflowId, isHealthy, reason);
  }

  /** @internal The one way of a call, for every surface (registry, client proxy). */
  perform(
    callId: string,
    fn: string | FunctionContract<object, unknown>,
    parameters: unknown,
    options: CallOptions,
  ): Promise<CallResult> {
    assertCallOptions(options);
    const ref = this.refOf(fn, options.workflowId);
    const payload = this.encode(parameters, options);
    const circuit = this.circuits.of(ref, typeof fn === 'string' ? undefined : fn.circuit);
    const { caller } = this.probes;
    if (caller === undefined) return this.route(circuit, callId, ref, parameters, payload, options);
    return caller.follow({ callId, ref }, payload, (followed) =>
      this.route(circuit, callId, ref, parameters, followed, options),
    );
  }

  private route(
    circuit: FunctionCircuit | undefined,
    callId: string,
    ref: FunctionRef,
    parameters: unknown,
    payload: string,
    options: CallOptions,
  ): Promise<CallResult> {
    return circuit === undefined
      ? this.dispatch(callId, ref, parameters, payload, options)
      : circuit.guard(() => this.dispatch(callId, ref, parameters, payload, options));
  }

  /** To a worker that is known, or as soon as there is one. */
  private dispatch(
    callId: string,
    ref: FunctionRef,
    parameters: unknown,
    payload: string,
    options: CallOptions,
  ): Promise<CallResult> {
    const watch = this.watcher.watch(ref);
    const { generation } = options;
    const isServed = generation === undefined || watch.view.healthyOf(generation);
    if (watch.view.healthy > 0 && isServed && watch.definitionKnown) {
      return this.checkAndSend(callId, ref, watch, parameters, payload, options);
    }
    return this.waitAndSend(callId, ref, watch, parameters, payload, options);
  }

  private async waitAndSend(
    callId: string,
    ref: FunctionRef,
    watch: FunctionWatch,
    parameters: unknown,
    payload: string,
    options: CallOptions,
  ): Promise<CallResult> {
    this.calls.prepare();
    // What the definition forbids should not wait for a worker first.
    if (watch.definitionKnown) this.assertParameters(ref, watch.view.definition, parameters);
    const readinessTimeoutMs = options.readinessTimeoutMs ?? this.settings.readinessTimeoutMs;
    const waitsUntil = this.clock.now() + readinessTimeoutMs;
    if (options.generation !== undefined)
      await this.generations.waitFor(ref, options.generation, readinessTimeoutMs, options);
    else if (options.ifUnavailable === 'fail') await this.assertAvailable(ref, options.signal);
    else {
      this.logger.debug(`${callId} waits for a worker of ${label(ref)}`);
      await this.watcher.waitForFunction(ref.functionName, ref.workflowId, {
        timeoutMs: readinessTimeoutMs,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
    }
    if (!watch.definitionKnown)
      await this.readDefinition(ref, watch, waitsUntil, readinessTimeoutMs, options.signal);
    return this.checkAndSend(callId, ref, watch, parameters, payload, options);
  }

  /** Reads what another worker registered the function as, within what is left of the wait for a worker. */
  private async readDefinition(
    ref: FunctionRef,
    watch: FunctionWatch,
    waitsUntil: number,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { functionName, workflowId } = ref;
    const late = (): Error =>
      new ReadinessTimeoutError(
        functionName,
        workflowId,
        timeoutMs,
        'a worker came with another definition, and the registry could not be read in time',
      );
    const cancelled = (): Error => new CallCancelledError(functionName, workflowId, signal?.reason);
    const read = within(this.clock, waitsUntil - this.clock.now(), watch.read(), late);
    await untilAborted(read, signal, cancelled);
  }

  private checkAndSend(
    callId: string,
    ref: FunctionRef,
    watch: FunctionWatch,
    parameters: unknown,
    payload: string,
    options: CallOptions,
  ): Promise<CallResult> {
    this.assertParameters(ref, watch.view.definition, parameters);
    if (Logger.isLevelEnabled('debug')) this.logger.debug(`${callId} calls ${label(ref)}`);
    return this.send(callId, ref, payload, options);
  }

  private async assertAvailable(ref: FunctionRef, signal: AbortSignal | undefined): Promise<void> {
    const { functionName, workflowId } = ref;
    if (signal?.aborted === true)
      throw new CallCancelledError(functionName, workflowId, signal.reason);
    const watch = await this.watcher.watchSynced(ref);
    if (watch.view.healthy === 0)
      throw new NoWorkerError(functionName, workflowId, watch.situation());
  }

  private refOf(
    fn: string | FunctionContract<object, unknown>,
    workflowId: string | undefined,
  ): FunctionRef {
    if (typeof fn === 'string') return functionRef(fn, workflowId ?? this.settings.workflowId);
    if (!isRecord(fn)) {
      throw new InvalidArgumentError(
        'The function',
        show(fn),
        'a name, or a contract of defineFunction()',
      );
    }
    return functionRef(fn.name, workflowId ?? fn.workflowId ?? this.settings.workflowId);
  }
}

function label(ref: FunctionRef): string {
  return `${ref.functionName} (workflow ${ref.workflowId})`;
}
