import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, SETTINGS } from '../backend/tokens.js';
import type { FunctionSnapshot } from '../backend/worker-store.js';
import { FunctionCircuits } from '../circuit/function-circuits.js';
import { createCallId } from '../common/call-id.js';
import { pause, within, type Clock } from '../common/clock.js';
import {
  BackendUnavailableError,
  InvalidArgumentError,
  InvalidParametersError,
  isFunctionsError,
  PayloadTooLargeError,
  ReadinessTimeoutError,
  WorkerDisabledError,
  WorkerNotRegisteredError,
} from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { messageOf, show } from '../common/text.js';
import { CallClient, type CallResult } from '../execution/caller/call-client.js';
import { CallProbes } from '../execution/call-probes.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { joinPayload } from '../protocol/call.js';
import {
  assertKnownDefinition,
  checkParameters,
  encodeDefinition,
  type FunctionDefinition,
  type ParameterDefinition,
} from '../protocol/definition.js';
import { assertName, functionRef, type FunctionRef } from '../protocol/function-ref.js';
import { encodeJson, isRecord } from '../protocol/json.js';
import { toWireError, type WireError } from '../protocol/wire-error.js';
import type { WorkerRecord } from '../protocol/worker-record.js';
import { assertTimeout } from '../readiness/function-readiness-watcher.js';
import { REGISTERS_LATER, situationOf } from '../readiness/situation.js';
import { encodeHeaders, type CallOptions } from './call-options.js';

/** A function of a workflow, and whether it can be called now. */
export interface AvailableFunction extends FunctionDefinition {
  readonly available: boolean;
  readonly workers: number;
  readonly healthyWorkers: number;
}

/** How a call ended, for those who would rather look than catch. */
export interface CallOutcome<T = unknown> {
  readonly success: boolean;
  readonly data?: T;
  readonly error?: WireError;
  readonly callId: string;
  readonly workerId?: string;
}

/** What the registry gets for its answer at the least: a call with a timeout of 0 still looks once. */
const MIN_LOOK_MS = 50;

/**
 * The registry in Redis: definitions, workers, and calls whose wait for a worker polls. It stands alone and
 * needs no pub/sub. `EnhancedFunctionRegistry` is the same on the same data, with instant readiness; an
 * application moves from one to the other call by call.
 */
@Injectable()
export class FunctionRegistry {
  protected readonly logger = new Logger('CallFunction');

  constructor(
    @Inject(BACKEND) protected readonly backend: Backend,
    @Inject(SETTINGS) protected readonly settings: Settings,
    @Inject(CLOCK) protected readonly clock: Clock,
    @Inject(WorkerCoordinator) protected readonly coordinator: WorkerCoordinator,
    @Inject(CallClient) protected readonly calls: CallClient,
    @Inject(FunctionCircuits) protected readonly circuits: FunctionCircuits,
    @Inject(CallProbes) protected readonly probes: CallProbes,
  ) {}

  /**
   * Stores a function's definition, before or without a worker of it.
   *
   * @throws InvalidNameError, InvalidArgumentError, BackendUnavailableError
   */
  async registerFunction(definition: FunctionDefinition): Promise<void> {
    if (!isRecord(definition))
      throw new InvalidArgumentError('definition', show(definition), '{ name, workflowId, ... }');
    assertKnownDefinition(definition);
    await this.backend.workers.putDefinition(
      functionRef(definition.name, definition.workflowId),
      encodeDefinition(definition),
    );
  }

  /** Removes a function's definition; its workers go on. `false` when there was none. */
  async unregisterFunction(functionName: string, workflowId: string): Promise<boolean> {
    return this.backend.workers.removeDefinition(functionRef(functionName, workflowId));
  }

  /** All functions that a workflow has definitions of, sorted by name, and how many workers each has. */
  async getAvailableFunctions(
    workflowId: string = this.settings.workflowId,
  ): Promise<AvailableFunction[]> {
    assertName('The workflowId', workflowId);
    const refs = await this.backend.workers.functions(workflowId);
    const snapshots = await Promise.all(refs.map((ref) => this.backend.workers.snapshot(ref)));
    return snapshots.map((snapshot, index) => {
      const name = refs[index]?.functionName ?? '';
      const healthyWorkers = healthy(snapshot).length;
      return {
        ...(snapshot.definition ?? { name, workflowId }),
        available: healthyWorkers > 0,
        workers: snapshot.workers.length,
        healthyWorkers,
      };
    });
  }

  /** What a function takes; `undefined` when it is unknown or takes anything. */
  async getFunctionParameters(
    functionName: string,
    workflowId: string,
  ): Promise<readonly ParameterDefinition[] | undefined> {
    return (await this.backend.workers.snapshot(functionRef(functionName, workflowId))).definition
      ?.parameters;
  }

  /**
   * Registers a worker of this process.
   *
   * @throws WorkerDisabledError, InvalidNameError, BackendUnavailableError, ClosedError
   */
  async registerWorker(
    workerId: string,
    functionName: string,
    workflowId: string,
  ): Promise<WorkerRecord> {
    assertName('The workerId', workerId);
    const ref = functionRef(functionName, workflowId);
    if (!this.settings.worker) throw new WorkerDisabledError('Registering a worker');
    return this.coordinator.registerWorker(ref, workerId, '');
  }

  /** Removes a worker. `false` when it was not registered. */
  async unregisterWorker(
    workerId: string,
    functionName: string,
    workflowId: string,
    reason = 'unregistered',
  ): Promise<boolean> {
    assertName('The workerId', workerId);
    return this.coordinator.unregisterWorker(
      functionRef(functionName, workflowId),
      workerId,
      reason,
    );
  }

  /**
   * Says whether a worker, here or elsewhere, is healthy; one that is not takes no calls. Of one that is leaving
   * nothing changes.
   *
   * @throws WorkerNotRegisteredError, InvalidNameError, BackendUnavailableError
   */
  async updateWorkerHealth(
    workerId: string,
    functionName: string,
    workflowId: string,
    isHealthy: boolean,
    reason = 'unhealthy',
  ): Promise<void> {
    assertName('The workerId', workerId);
    if (typeof isHealthy !== 'boolean')
      throw new InvalidArgumentError('isHealthy', show(isHealthy), 'true or false');
    await this.coordinator.changeHealth(
      functionRef(functionName, workflowId),
      workerId,
      isHealthy,
      reason,
    );
  }

  /** {@link updateWorkerHealth} with `false`. */
  async markWorkerUnhealthy(
    workerId: string,
    functionName: string,
    workflowId: string,
    reason = 'unhealthy',
  ): Promise<void> {
    await this.updateWorkerHealth(workerId, functionName, workflowId, false, reason);
  }

  /**
   * Whether a worker is there and healthy, as the registry says now.
   *
   * @throws WorkerNotRegisteredError when no such worker is registered
   */
  async isWorkerHealthy(
    workerId: string,
    functionName: string,
    workflowId: string,
  ): Promise<boolean> {
    assertName('The workerId', workerId);
    const { workers, stale } = await this.backend.workers.snapshot(
      functionRef(functionName, workflowId),
    );
    const record = workers.find((worker) => worker.workerId === workerId);
    if (record !== undefined) return record.status === 'ready';
    if (stale.some((worker) => worker.workerId === workerId)) return false;
    throw new WorkerNotRegisteredError(functionName, workflowId, workerId);
  }

  /** Workers that can take a call now. */
  async getAvailableWorkers(functionName: string, workflowId: string): Promise<WorkerRecord[]> {
    return healthy(await this.backend.workers.snapshot(functionRef(functionName, workflowId)));
  }

  /**
   * Removes workers whose process's lease has run out and hands their calls over, without waiting for the
   * supervisor.
   *
   * @returns how many were removed
   */
  async cleanupStaleWorkers(functionName: string, workflowId: string): Promise<number> {
    const ref = functionRef(functionName, workflowId);
    const { stale } = await this.backend.workers.snapshot(ref);
    const removed = await Promise.all(
      stale.map(async ({ workerId, processId }) => {
        // It may have taken its lease again meanwhile; once condemned it cannot, and registers anew.
        if ((await this.backend.fleet.condemn(processId, 'lease')) === undefined) return false;
        const gone = await this.backend.workers.unregister(
          ref,
          workerId,
          { sessionId: processId },
          'lease_expired',
        );
        await this.backend.calls.release(ref, processId, {
          kind: 'lost',
          maxDeliveries: this.settings.maxDeliveries,
        });
        return gone;
      }),
    );
    return removed.filter(Boolean).length;
  }

  /**
   * Calls a function; the wait for a worker asks the registry every `pollIntervalMs`. Never throws: a failure
   * is `success: false` with the error.
   *
   * @param timeout bounds the wait for a worker, in milliseconds; the call itself has `executionTimeoutMs`
   */
  async callFunction<T = unknown>(
    functionName: string,
    workflowId: string,
    parameters: object = {},
    item: unknown = {},
    timeout: number = this.settings.readinessTimeoutMs,
  ): Promise<CallOutcome<T>> {
    const callId = createCallId();
    return this.outcome<T>(callId, async () => {
      const ref = functionRef(functionName, workflowId);
      assertTimeout('timeout', timeout);
      const call = async (payload: string): Promise<CallResult> => {
        const definition = await this.pollUntilAvailable(ref, timeout);
        this.assertParameters(ref, definition, parameters);
        return this.send(callId, ref, payload, {});
      };
      const payload = this.encode(parameters, { item });
      const circuit = this.circuits.of(ref, undefined);
      const guarded = (followed: string): Promise<CallResult> =>
        circuit === undefined ? call(followed) : circuit.guard(() => call(followed));
      const { caller } = this.probes;
      return caller === undefined
        ? guarded(payload)
        : caller.follow({ callId, ref }, payload, guarded);
    });
  }

  /** A call's outcome as an object, whatever happens. */
  protected async outcome<T>(
    callId: string,
    perform: () => Promise<CallResult>,
  ): Promise<CallOutcome<T>> {
    try {
      const { data, workerId } = await perform();
      return {
        success: true,
        data: data as T,
        callId,
        ...(workerId === undefined ? {} : { workerId }),
      };
    } catch (error) {
      this.logger.debug(`${callId} failed: ${messageOf(error)}`);
      const workerId = (error as { workerId?: unknown }).workerId;
      return {
        success: false,
        error: toWireError(error, this.settings.exposeStacks),
        callId,
        ...(typeof workerId === 'string' ? { workerId } : {}),
      };
    }
  }

  /**
   * The payload as JSON.
   *
   * @throws InvalidArgumentError, PayloadNotSerializableError, PayloadTooLargeError
   */
  protected encode(parameters: unknown, options: Pick<CallOptions, 'item' | 'headers'>): string {
    const max = this.settings.maxPayloadBytes;
    const payload = joinPayload(
      encodeJson('parameters', parameters, max),
      options.item === undefined ? 'null' : encodeJson('item', options.item, max),
      encodeHeaders(options.headers, max),
    );
    if (payload.length * 3 > max) {
      const bytes = Buffer.byteLength(payload);
      if (bytes > max) throw new PayloadTooLargeError('The call', bytes, max);
    }
    return payload;
  }

  /** Refuses parameters that the definition does not allow. */
  protected assertParameters(
    ref: FunctionRef,
    definition: FunctionDefinition | undefined,
    parameters: unknown,
  ): void {
    if (definition === undefined) return;
    const violations = checkParameters(definition, parameters);
    if (violations.length > 0)
      throw new InvalidParametersError(ref.functionName, ref.workflowId, violations);
  }

  protected send(
    callId: string,
    ref: FunctionRef,
    payload: string,
    options: CallOptions,
  ): Promise<CallResult> {
    this.probes.caller?.sent(callId);
    return this.calls.submit({
      callId,
      ref,
      payload,
      timeoutMs: options.timeoutMs ?? this.settings.executionTimeoutMs,
      delivery: options.delivery ?? 'at-least-once',
      idempotencyKey: options.idempotencyKey,
      signal: options.signal,
      onProgress: options.onProgress,
    });
  }

  /** The registry's word, unless it cannot be had in time: a Redis that is frozen answers nothing for seconds. */
  private async look(
    ref: FunctionRef,
    leftMs: number,
  ): Promise<[snapshot: FunctionSnapshot | undefined, problem: unknown]> {
    const late = (): Error =>
      new BackendUnavailableError('Reading the registry', this.backend.address);
    const snapshot = this.backend.workers.snapshot(ref);
    try {
      return [await within(this.clock, Math.max(leftMs, MIN_LOOK_MS), snapshot, late), undefined];
    } catch (error) {
      if (!isFunctionsError(error) || !error.retryable) throw error;
      return [undefined, error];
    }
  }

  private async pollUntilAvailable(
    ref: FunctionRef,
    timeoutMs: number,
  ): Promise<FunctionDefinition | undefined> {
    const deadline = this.clock.now() + timeoutMs;
    for (;;) {
      const [snapshot, problem] = await this.look(ref, deadline - this.clock.now());
      if (snapshot !== undefined && healthy(snapshot).length > 0) return snapshot.definition;
      const left = deadline - this.clock.now();
      if (left <= 0) {
        const situation =
          snapshot === undefined
            ? `the registry could not be read: ${messageOf(problem)}`
            : this.coordinator.willHost(ref)
              ? REGISTERS_LATER
              : situationOf(snapshot.workers, snapshot.definition);
        const { functionName, workflowId } = ref;
        throw new ReadinessTimeoutError(functionName, workflowId, timeoutMs, situation, problem);
      }
      await pause(this.clock, Math.min(this.settings.pollIntervalMs, left));
    }
  }
}

function healthy(snapshot: FunctionSnapshot): WorkerRecord[] {
  return snapshot.workers.filter((worker) => worker.status === 'ready');
}
