import { Logger } from '@nestjs/common';
import type { Outcome, RawCall } from '../../backend/call-streams.js';
import type { Clock } from '../../common/clock.js';
import { createDeferred, type Deferred } from '../../common/deferred.js';
import {
  DeadlineExceededError,
  InvalidParametersError,
  isFunctionsError,
  MalformedCallError,
} from '../../common/errors.js';
import type { Settings } from '../../common/settings.js';
import { messageOf, show } from '../../common/text.js';
import {
  encodeFailure,
  encodeProgress,
  encodeResult,
  entryTime,
  parseCallPayload,
  type CallEntry,
} from '../../protocol/call.js';
import { checkParameters, fitParameters } from '../../protocol/definition.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import { encodeJson, isRecord } from '../../protocol/json.js';
import { isMalformed } from '../../protocol/notification.js';
import { toWireError, type WireError } from '../../protocol/wire-error.js';
import type { CallProbes, EndedRun } from '../call-probes.js';
import { FunctionContext, type ContextChannel } from './function-context.js';
import type { Lane } from './lanes.js';
import type { RecentResults } from './recent-results.js';
import { isWorthRetrying, retryDelayMs } from './retry-policy.js';
import type { CallObserver, EchoSource, Ending, RunningCall } from './running-call.js';
import type { Settler } from './settler.js';

/** Longest message in a call's history. */
const MAX_HISTORY_MESSAGE_LENGTH = 256;
/** How long a call of another generation waits first when nobody has a place for it; longer from then on. */
const PASS_DELAY_MS = 10;
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/** What all runs of a process share. */
export interface RunSurroundings {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly settler: Settler;
  readonly logger: Logger;
  readonly results: RecentResults;
  readonly observer: CallObserver;
  /** The generation of a workflow that this process has loaded. */
  readonly generationOf: (workflowId: string) => number;
  readonly probes: CallProbes;
}

/** One run of a call: checks it, invokes the handler, and says how it ended. */
export class CallRun implements RunningCall, EchoSource, ContextChannel {
  readonly context: FunctionContext;
  private readonly payload: ReturnType<typeof parseCallPayload>;
  private finished: Deferred<void> | undefined;
  private isFinished = false;
  private echoes: ((ending: Ending, carriedOut: boolean) => void)[] | undefined;
  /** The reply that `context.return()` gave, and whether Redis has it. */
  private answer = '';
  private answerWritten = false;
  private lost = false;
  startedAt: number | undefined;
  /** Code of what it failed with. */
  private failure: string | undefined;
  before: RunningCall | undefined;
  after: RunningCall | undefined;
  isListed = false;

  /** @param offsetMs Redis's clock minus this host's */
  constructor(
    readonly lane: Lane,
    readonly raw: RawCall,
    readonly entry: CallEntry,
    private readonly surroundings: RunSurroundings,
    private readonly offsetMs: number,
  ) {
    this.payload = this.readPayload();
    this.context = new FunctionContext(this);
  }

  get done(): Promise<void> {
    this.finished ??= createDeferred();
    if (this.isFinished) this.finished.resolve();
    return this.finished.promise;
  }

  get ref(): FunctionRef {
    return this.lane.ref;
  }

  get callId(): string {
    return this.entry.callId;
  }

  get workerId(): string {
    return this.surroundings.settings.workerId;
  }

  get item(): unknown {
    return isMalformed(this.payload) ? undefined : this.payload.item;
  }

  get headers(): Readonly<Record<string, string>> {
    return isMalformed(this.payload) ? NO_HEADERS : this.payload.headers;
  }

  get trace(): unknown {
    return isMalformed(this.payload) ? undefined : this.payload.trace;
  }

  get attempt(): number {
    return this.entry.attempt;
  }

  get deadline(): number {
    return this.entry.deadline - this.offsetMs;
  }

  get ttlMs(): number {
    return this.entry.ttlMs;
  }

  get clock(): Clock {
    return this.surroundings.clock;
  }

  progress(value: unknown): void {
    const { maxPayloadBytes } = this.surroundings.settings;
    this.say('progress', encodeProgress(encodeJson('progress', value, maxPayloadBytes)));
  }

  giveAnswer(value: unknown): void {
    const { maxPayloadBytes, workerId } = this.surroundings.settings;
    this.answer = encodeResult(encodeJson('result', value, maxPayloadBytes), workerId);
    this.say('answer', this.answer, (owned) => (this.answerWritten = owned));
  }

  whenEnded(listener: (ending: Ending, carriedOut: boolean) => void): void {
    this.echoes ??= [];
    this.echoes.push(listener);
  }

  private finish(): void {
    this.isFinished = true;
    this.finished?.resolve();
  }

  /** A payload above the limit is not even parsed: only a hand-written entry, or a caller with a higher limit, has one. */
  private readPayload(): ReturnType<typeof parseCallPayload> {
    const { length } = this.entry.payload;
    const max = this.surroundings.settings.maxPayloadBytes;
    if (length > max)
      return { malformed: `its payload has ${length} characters and maxPayloadBytes is ${max}` };
    return parseCallPayload(this.entry.payload);
  }

  run(): void {
    const { functionName, workflowId } = this.lane.ref;
    const { payload } = this;
    if (isMalformed(payload)) return this.refuse(new MalformedCallError(payload.malformed));
    const late = this.redisNow() - this.entry.deadline;
    if (late >= 0) {
      return this.refuse(
        new DeadlineExceededError(
          functionName,
          workflowId,
          this.entry.ttlMs,
          'it was never started: no worker had a place for it in time',
        ),
      );
    }
    if (this.entry.bound && payload.generation !== this.surroundings.generationOf(workflowId))
      return this.pass(payload.generation);
    const { definition, invoke } = this.lane.hosted;
    const violations = checkParameters(definition, payload.parameters, 'dropped');
    if (violations.length > 0)
      return this.refuse(new InvalidParametersError(functionName, workflowId, violations));
    if (Logger.isLevelEnabled('debug')) {
      this.surroundings.logger.debug(
        `${this.entry.callId} starts ${functionName} (workflow ${workflowId}), attempt ${this.entry.attempt}`,
      );
    }
    const { worker } = this.surroundings.probes;
    if (worker !== undefined)
      this.startedAt = worker.started(
        this.lane.ref,
        this.redisNow() - entryTime(this.entry.entryId),
      );
    this.invoke(fitParameters(definition, payload.parameters), invoke);
  }

  lose(reason: Error): void {
    this.lost = true;
    this.context.abort(reason);
    this.finish();
  }

  private invoke(parameters: unknown, invoke: Lane['hosted']['invoke']): void {
    try {
      invoke(parameters, this.context).then(
        (value) => this.succeed(value),
        (error: unknown) => this.fail(error),
      );
    } catch (error) {
      this.fail(error);
    }
  }

  /** It is bound to another generation than the one that this process has loaded. */
  private pass(generation: number | undefined): void {
    if (generation === undefined)
      return this.refuse(new MalformedCallError('it is bound to no generation'));
    const { callId } = this.entry;
    this.surroundings.logger.debug(`${callId} is bound to generation ${generation}: passed on`);
    this.settle({ kind: 'pass', reply: '', generation, delayMs: PASS_DELAY_MS });
  }

  /** The handler was not started: the library's own verdict. */
  private refuse(error: Error): void {
    this.surroundings.logger.debug(`${this.entry.callId} is refused: ${error.message}`);
    const wire = toWireError(error, false);
    this.failure = wire.code;
    this.settle({
      kind: 'settle',
      reply: encodeFailure(wire, this.surroundings.settings.workerId, true),
    });
  }

  private succeed(value: unknown): void {
    const { workerId, maxPayloadBytes } = this.surroundings.settings;
    let reply: string;
    try {
      reply = this.context.hasReturned
        ? ''
        : encodeResult(encodeJson('result', value, maxPayloadBytes), workerId);
    } catch (error) {
      return this.fail(error);
    }
    this.settle({ kind: 'settle', reply });
  }

  private fail(error: unknown): void {
    const answered = this.context.hasReturned;
    const wire = toWireError(error, this.surroundings.settings.exposeStacks);
    this.failure = wire.code;
    // The answer first: an error that cannot even be logged must not leave its call without one.
    const ending: Ending = answered ? { kind: 'settle', reply: '' } : this.endingOf(error, wire);
    this.settle(ending);
    try {
      this.logFailure(error, answered, ending);
    } catch {
      this.surroundings.logger.error(
        `${this.entry.callId} failed with an error that cannot be read`,
      );
    }
  }

  /** Whether a failed call is answered, runs again, or is given up. */
  private endingOf(error: unknown, wire: WireError): Ending {
    const { settings, clock } = this.surroundings;
    const reply = encodeFailure(wire, settings.workerId);
    const policy = this.lane.hosted.retry;
    if (policy === undefined || !this.mayRunAgain(error, wire)) return { kind: 'settle', reply };
    const failures = this.entry.failures + 1;
    const delayMs = retryDelayMs(policy, failures);
    const failure = JSON.stringify({
      at: Math.round(clock.now() + this.offsetMs),
      attempt: this.entry.attempt,
      code: wire.code,
      worker: settings.workerId,
      message: wire.message.slice(0, MAX_HISTORY_MESSAGE_LENGTH),
    });
    const tooLate = this.redisNow() + delayMs >= this.entry.deadline;
    return failures >= policy.maxAttempts || tooLate
      ? { kind: 'bury', reply, failure }
      : { kind: 'retry', reply, failure, delayMs };
  }

  private mayRunAgain(error: unknown, wire: WireError): boolean {
    const policy = this.lane.hosted.retry;
    // Cancelled, or over for its caller: nobody would get what another run brings.
    if (policy === undefined || this.context.isAborted) return false;
    if (this.entry.delivery === 'at-most-once') return false;
    try {
      return isWorthRetrying(policy, error, wire);
    } catch (failure) {
      this.surroundings.logger.error(
        `retryIf of ${this.lane.ref.functionName} failed: ${messageOf(failure)}`,
      );
      return false;
    }
  }

  private logFailure(error: unknown, answered: boolean, ending: Ending): void {
    const { logger } = this.surroundings;
    const { callId, attempt } = this.entry;
    const text = `${callId} failed in ${this.lane.ref.functionName}: ${messageOf(error)}`;
    if (answered) {
      logger.warn(
        `${callId} failed after context.return(), its caller is not told: ${messageOf(error)}`,
      );
    }
    if (ending.kind === 'retry')
      logger.debug(`${text}; attempt ${attempt + 1} follows in ${ending.delayMs} ms`);
    else if (isUnexpected(error)) logger.error(text, String(error.stack));
    else if (!(error instanceof Error) && !isChosen(error)) {
      // Not what was thrown: that may be anything, a payload too.
      const isShown = typeof error === 'object' || error === undefined;
      const kind = isShown ? show(error) : `a ${typeof error}`;
      logger.warn(
        `${callId} failed in ${this.lane.ref.functionName}: its handler threw ${kind} instead of an Error`,
      );
    } else logger.debug(text);
  }

  private settle(ending: Ending): void {
    this.context.finish();
    if (this.lost) return;
    // One that is passed on has not begun.
    if (ending.kind !== 'pass')
      this.surroundings.probes.worker?.ended(this.lane.ref, this.ended(ending));
    const { callId } = this.entry;
    const final = ending.reply === '' ? { ...ending, reply: this.answer } : ending;
    // An answer that Redis has not confirmed goes along once more: the caller takes the first.
    const said = this.answerWritten ? ending : final;
    if (ending.kind !== 'retry' && final.reply !== '')
      this.surroundings.results.remember(this.lane.ref, callId, final.reply);
    this.surroundings.settler.add(this.outcome(said), (owned) => {
      this.surroundings.observer.settled(this);
      this.finish();
      if (this.echoes !== undefined) for (const echo of this.echoes) echo(final, owned);
      if (!owned)
        this.surroundings.logger.debug(
          `${callId} is no longer owned here: its outcome changed nothing`,
        );
    });
    this.surroundings.observer.ended(this);
  }

  private ended({ kind }: Ending): EndedRun {
    const { startedAt, failure: code } = this;
    const { attempt, failures } = this.entry;
    return { startedAt, kind, code, attempt, failures };
  }

  private say(
    kind: 'progress' | 'answer',
    reply: string,
    done: (owned: boolean) => void = () => undefined,
  ): void {
    if (!this.lost) this.surroundings.settler.add(this.outcome({ kind, reply }), done);
  }

  private outcome(ending: Ending): Outcome {
    return outcomeOf(this.lane.ref, this.entry, ending, this.surroundings.settings);
  }

  private redisNow(): number {
    return this.surroundings.clock.now() + this.offsetMs;
  }
}

/** What is said of an entry when its call ended so. */
export function outcomeOf(
  ref: FunctionRef,
  { entryId, callId, replyTo, idempotencyKey }: CallEntry,
  { kind, reply, delayMs, failure, generation }: Ending,
  { idempotencyTtlMs }: Settings,
): Outcome {
  return {
    ref,
    entryId,
    callId,
    replyTo: reply === '' ? '' : replyTo,
    kind,
    reply,
    delayMs,
    failure,
    generation,
    once:
      idempotencyKey === undefined ? undefined : { key: idempotencyKey, keepMs: idempotencyTtlMs },
  };
}

/** What is thrown for a caller to see: Nest's own filters for messages do it. */
function isChosen(value: unknown): boolean {
  return (
    isRecord(value) &&
    typeof value['message'] === 'string' &&
    (typeof value['code'] === 'string' || value['status'] === 'error')
  );
}

/** An error that nobody chose to send to a caller: a bug, which the operator of the worker should see. */
function isUnexpected(error: unknown): error is Error {
  if (!(error instanceof Error) || isFunctionsError(error) || error.name === 'AbortError')
    return false;
  const shape = error as { getStatus?: () => unknown; getError?: unknown };
  if (typeof shape.getStatus === 'function') return Number(shape.getStatus()) >= 500;
  return typeof shape.getError !== 'function';
}
