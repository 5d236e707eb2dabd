import { untilAborted, type Clock } from '../common/clock.js';
import { InvalidArgumentError } from '../common/errors.js';
import type { FunctionContext } from '../execution/worker/function-context.js';
import type { DrainReport } from '../lifecycle/work-source.js';
import { labelOf, type FunctionRef } from '../protocol/function-ref.js';
import type { FunctionContract } from '../registry/function-contract.js';
import type { HandlerMetadata } from '../registry/function-handler.decorator.js';
import { StubAnswers, type StubAnswer, type StubManner } from './stub-answers.js';
import type { StubProcess } from './stub-process.js';

/** A run of a stub. */
export interface StubCall<Input = unknown> {
  readonly callId: string;
  readonly parameters: Input;
  readonly item: unknown;
  readonly headers: Readonly<Record<string, string>>;
  /** 1 for the first run of the call. */
  readonly attempt: number;
}

/** A worker of a function. */
export interface WorkerName {
  readonly ref: FunctionRef;
  readonly workerId: string;
}

/** What a process runs of a stub. */
export interface AnyStub extends WorkerName {
  /** What its handler is said to be. */
  readonly handler: HandlerMetadata;
  run(parameters: unknown, context: FunctionContext, clock: Clock): Promise<unknown>;
}

/** What a stub needs of its fleet. */
export interface StubHost {
  /** A process whose worker runs the stub. */
  launch(stub: AnyStub): StubProcess;
  /** To be asked before workers die; the result lets time pass until all know, and their calls are handed over. */
  watchForDeath(workers: readonly WorkerName[]): () => Promise<void>;
}

/**
 * A function whose answers a test decides, and the worker that gives them: a process of its own in the fleet, which
 * comes, drains, fails and dies when the test says so. Calls reach it as any worker, over the backend, as JSON.
 *
 * @example
 * ```ts
 * const charge = await fleet.stub('charge', { id: 'ch_1' });
 * charge.failOnce(new FunctionError('CARD_DECLINED', 'no money'));
 * expect(charge.calls).toMatchObject([{ parameters: { amount: 12 } }]);
 * await charge.die();
 * ```
 */
export class FunctionStub<Input = unknown, Output = unknown> implements AnyStub {
  /** Its runs, in the order in which they started. */
  readonly calls: StubCall<Input>[] = [];
  private readonly answers = new StubAnswers();
  private life: Promise<StubProcess> | undefined;

  /** @internal Made by `fleet.stub()`. */
  constructor(
    private readonly host: StubHost,
    readonly ref: FunctionRef,
    readonly workerId: string,
    /** @internal */
    readonly handler: HandlerMetadata,
  ) {}

  /** Whether its worker is there. */
  get isThere(): boolean {
    return this.life !== undefined;
  }

  /** From now on it answers so: with a value, a function of the parameters and the context, or an error. */
  answer(answer: StubAnswer<Input, Output>, manner?: StubManner): this {
    this.answers.stand(answer, manner);
    return this;
  }

  /** As {@link answer}, for one run; several are given in their order, and then the standing answer. */
  answerOnce(answer: StubAnswer<Input, Output>, manner?: StubManner): this {
    this.answers.add(answer, manner);
    return this;
  }

  /** From now on it fails: its caller gets the error's code, message and details. */
  fail(error: Error, manner?: StubManner): this {
    this.answers.stand(error, manner);
    return this;
  }

  failOnce(error: Error, manner?: StubManner): this {
    this.answers.add(error, manner);
    return this;
  }

  /** From now on its runs do not end, unless they are aborted: for what happens to a call that runs. */
  hang(): this {
    this.answers.stand(hanging);
    return this;
  }

  hangOnce(): this {
    this.answers.add(hanging);
    return this;
  }

  /** Forgets its calls, and the answers that were to be given once: between tests that share it. */
  clear(): void {
    this.calls.length = 0;
    this.answers.clear();
  }

  /** Its worker comes (back). Resolves when `ready` was told. */
  async appear(): Promise<this> {
    this.life ??= this.begin();
    await this.life;
    return this;
  }

  /** Its worker leaves as in a deploy: `shutdown` told, running calls finished within 10 s or handed back, `offline` told. */
  async drain(): Promise<DrainReport> {
    return (await this.end('drain')).drain();
  }

  /** Its worker takes no calls until it is {@link healthy}. */
  async unhealthy(reason = 'unhealthy'): Promise<void> {
    await (await this.here('be unhealthy')).changeHealth(false, reason);
  }

  async healthy(): Promise<void> {
    await (await this.here('be healthy')).changeHealth(true, '');
  }

  /**
   * Its process dies as by SIGKILL: nothing is said, and what runs there never answers. Resolves when it was missed
   * (`offline` told with `process_died`) and its calls are handed over, for which about two seconds pass at the most
   * on the fleet's clock.
   *
   * @param options.unnoticed no time passes, and nobody knows yet
   */
  async die(options: { readonly unnoticed?: boolean } = {}): Promise<void> {
    const process = await this.end('die');
    const untilMissed = options.unnoticed === true ? undefined : this.host.watchForDeath([this]);
    await process.die();
    await untilMissed?.();
  }

  /** @internal Its handler. */
  run(parameters: unknown, context: FunctionContext, clock: Clock): Promise<unknown> {
    const { callId, item, headers, attempt } = context;
    this.calls.push({ callId, parameters: parameters as Input, item, headers, attempt });
    return this.answers.give(parameters, context, clock);
  }

  private async begin(): Promise<StubProcess> {
    const process = this.host.launch(this);
    await process.start();
    return process;
  }

  private here(what: string): Promise<StubProcess> {
    if (this.life !== undefined) return this.life;
    throw new InvalidArgumentError(
      `The stub of ${labelOf(this.ref)}`,
      `not there, and cannot ${what}`,
      'await stub.appear() first',
    );
  }

  private end(what: string): Promise<StubProcess> {
    const life = this.here(what);
    this.life = undefined;
    return life;
  }
}

/** The stub of a contract: `let charge: StubOf<typeof chargeContract>`. */
export type StubOf<Contract> =
  Contract extends FunctionContract<infer Input, infer Output>
    ? FunctionStub<Input, Output>
    : never;

function hanging(_: unknown, { signal }: FunctionContext): Promise<never> {
  const never = new Promise<never>(() => undefined);
  return untilAborted(never, signal, () => signal.reason as Error);
}
