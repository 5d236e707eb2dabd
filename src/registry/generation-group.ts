import type { WorkflowStore } from '../backend/workflow-store.js';
import type { Clock } from '../common/clock.js';
import { InvalidArgumentError, isFunctionsError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import { assertName } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';
import { assertCallOptions, type CallOptions } from './call-options.js';
import type { FunctionContract } from './function-contract.js';

/** What a group of calls does when no worker of its generation is left. */
export interface GroupOptions {
  /** `pinned` (default): its calls fail with a GenerationGoneError. `latest`: it moves on, once and for all its calls. */
  readonly generation?: 'pinned' | 'latest' | undefined;
}

/** What a group calls with. */
export interface GroupCaller {
  /** Defaults of its calls. */
  readonly timeoutMs: number;
  readonly readinessTimeoutMs: number;
  call(
    fn: string | FunctionContract<object, unknown>,
    parameters: object,
    options: CallOptions,
  ): Promise<unknown>;
}

/** Calls of a workflow's functions that are all bound to one generation of it. */
export class GenerationGroup {
  private constructor(
    private readonly store: WorkflowStore,
    private readonly clock: Clock,
    readonly workflowId: string,
    private readonly caller: GroupCaller,
    private readonly movesOn: boolean,
    private bound: number,
  ) {}

  /** @internal See `EnhancedFunctionRegistry.atGeneration`. */
  static async begin(
    store: WorkflowStore,
    clock: Clock,
    workflowId: string,
    options: GroupOptions,
    caller: GroupCaller,
  ): Promise<GenerationGroup> {
    assertName('The workflowId', workflowId);
    const given: unknown = options;
    if (!isRecord(given))
      throw new InvalidArgumentError('options', show(given), "{ generation: 'pinned' }");
    assertKnownKeys(given, new Set(['generation']), (key) => `options.${key}`);
    const { generation: mode = 'pinned' } = options;
    if (mode !== 'pinned' && mode !== 'latest')
      throw new InvalidArgumentError('generation', show(mode), "'pinned' or 'latest'");
    const { generation } = await store.current(workflowId);
    return new GenerationGroup(store, clock, workflowId, caller, mode === 'latest', generation);
  }

  /** The generation that its calls are bound to now. */
  get generation(): number {
    return this.bound;
  }

  /**
   * As `EnhancedFunctionRegistry.call`, of a function of this workflow.
   *
   * @throws GenerationGoneError no worker of the generation is left (`pinned`)
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
    this.assertOwn(fn, options);
    const since = this.clock.elapsed();
    for (let attempt = options; ;) {
      const { bound: generation, workflowId } = this;
      try {
        return await this.caller.call(fn, parameters, { ...attempt, workflowId, generation });
      } catch (error) {
        if (!this.movesOn || !isFunctionsError(error, 'GENERATION_GONE')) throw error;
        if (!(await this.moveOn(generation))) throw error;
        attempt = this.rest(options, this.clock.elapsed() - since);
      }
    }
  }

  /** To the generation that holds now; `false` when that is none later. Another call may have moved it already. */
  private async moveOn(from: number): Promise<boolean> {
    if (this.bound > from) return true;
    const { generation } = await this.store.current(this.workflowId);
    this.bound = Math.max(this.bound, generation);
    return this.bound > from;
  }

  /** A call that moves on has what is left of its time, all waits included. */
  private rest(options: CallOptions, passedMs: number): CallOptions {
    const {
      timeoutMs = this.caller.timeoutMs,
      readinessTimeoutMs = this.caller.readinessTimeoutMs,
    } = options;
    const leftMs = Math.max(1, timeoutMs + readinessTimeoutMs - passedMs);
    return {
      ...options,
      timeoutMs: Math.min(timeoutMs, leftMs),
      readinessTimeoutMs: Math.min(readinessTimeoutMs, leftMs),
    };
  }

  /** @throws InvalidArgumentError */
  private assertOwn(fn: string | FunctionContract<object, unknown>, options: CallOptions): void {
    assertCallOptions(options);
    if (options.generation !== undefined)
      throw new InvalidArgumentError(
        'generation',
        'given',
        'left to the group: it is bound to one',
      );
    const named = options.workflowId ?? (isRecord(fn) ? fn['workflowId'] : undefined);
    if (named !== undefined && named !== this.workflowId)
      throw new InvalidArgumentError(
        'workflowId',
        show(named),
        `left out, or ${show(this.workflowId)}: a group calls functions of one workflow`,
      );
  }
}
