import { Logger } from '@nestjs/common';
import type { Outcome, RawCall } from '../../backend/call-streams.js';
import type { Clock } from '../../common/clock.js';
import { createDeferred } from '../../common/deferred.js';
import {
  DeadlineExceededError,
  InvalidParametersError,
  isFunctionsError,
  MalformedCallError,
} from '../../common/errors.js';
import type { Settings } from '../../common/settings.js';
import { messageOf } from '../../common/text.js';
import {
  encodeFailure,
  encodeProgress,
  encodeResult,
  parseCall,
  parseCallPayload,
  type CallEntry,
} from '../../protocol/call.js';
import { checkParameters, withDefaults } from '../../protocol/definition.js';
import { encodeJson } from '../../protocol/json.js';
import { isMalformed } from '../../protocol/notification.js';
import { toWireError } from '../../protocol/wire-error.js';
import { FunctionContext } from './function-context.js';
import type { Lane } from './lanes.js';
import type { Settler } from './settler.js';

/** What the consumer wants to hear of a call. */
export interface CallObserver {
  /** The handler is done: its place is free. */
  ended(): void;
  /** Redis has carried the outcome out. */
  settled(): void;
}

/** A call that this process holds. */
export interface RunningCall {
  readonly raw: RawCall;
  readonly lane: Lane;
  readonly entry: Pick<CallEntry, 'callId'>;
  readonly context: Pick<FunctionContext, 'abort'>;
  /** Resolves when it ended and was settled. */
  readonly done: Promise<void>;
  run(): void;
  /** It belongs to somebody else now: aborts the handler, and nothing is settled. */
  lose(reason: Error): void;
}

/** Runs calls: reads the envelope, checks the deadline and the parameters, invokes the handler, settles. */
export class CallRunner {
  /** Entries that were no calls. */
  malformed = 0;
  private readonly logger = new Logger('CallFunction');
  private readonly malformedLogged = new Set<string>();

  constructor(
    private readonly settings: Settings,
    private readonly clock: Clock,
    private readonly settler: Settler,
    private readonly offsetMs: () => number,
  ) {}

  start(lane: Lane, raw: RawCall, observer: CallObserver): RunningCall {
    const parsed = parseCall(raw.entryId, raw.fields);
    return isMalformed(parsed)
      ? this.refuse(lane, raw, parsed.malformed, observer)
      : new Run(
          lane,
          raw,
          parsed,
          observer,
          this.settings,
          this.clock,
          this.settler,
          this.offsetMs(),
          this.logger,
        );
  }

  /** An entry that is no call: removed and counted, and whoever wrote it is told if that can be read. */
  private refuse(lane: Lane, raw: RawCall, problem: string, observer: CallObserver): RunningCall {
    this.malformed += 1;
    const { functionName, workflowId } = lane.ref;
    if (!this.malformedLogged.has(lane.ref.id)) {
      this.malformedLogged.add(lane.ref.id);
      this.logger.warn(
        `dropped an entry in the calls of ${functionName} (workflow ${workflowId}): ${problem} (further ones are counted, not logged)`,
      );
    }
    const done = createDeferred();
    const callId = fieldOf(raw, 'i');
    const replyTo = fieldOf(raw, 'r');
    const answers = callId !== '' && /^[A-Za-z0-9._%-]{1,200}$/.test(replyTo);
    return {
      raw,
      lane,
      entry: { callId },
      context: { abort: () => undefined },
      done: done.promise,
      lose: () => done.resolve(),
      run: () => {
        const outcome: Outcome = {
          ref: lane.ref,
          entryId: raw.entryId,
          callId,
          replyTo: answers ? replyTo : '',
          kind: answers ? 'settle' : 'discard',
          reply: answers
            ? encodeFailure(
                toWireError(new MalformedCallError(problem), false),
                this.settings.workerId,
              )
            : '',
        };
        this.settler.add(outcome, () => {
          observer.settled();
          done.resolve();
        });
        observer.ended();
      },
    };
  }
}

class Run implements RunningCall {
  readonly context: FunctionContext;
  private readonly finished = createDeferred();
  private payload: ReturnType<typeof parseCallPayload> | undefined;
  private lost = false;

  constructor(
    readonly lane: Lane,
    readonly raw: RawCall,
    readonly entry: CallEntry,
    private readonly observer: CallObserver,
    private readonly settings: Settings,
    private readonly clock: Clock,
    private readonly settler: Settler,
    private readonly offsetMs: number,
    private readonly logger: Logger,
  ) {
    const payload = (this.payload = this.readPayload());
    const readable = isMalformed(payload) ? { item: undefined, headers: {} } : payload;
    this.context = new FunctionContext({
      ref: lane.ref,
      callId: entry.callId,
      workerId: settings.workerId,
      item: readable.item,
      headers: readable.headers,
      attempt: entry.attempt,
      deadline: entry.deadline - offsetMs,
      ttlMs: entry.ttlMs,
      clock,
      progress: (value) =>
        this.say(
          'progress',
          encodeProgress(encodeJson('progress', value, settings.maxPayloadBytes)),
        ),
      answer: (value) =>
        this.say(
          'answer',
          encodeResult(encodeJson('result', value, settings.maxPayloadBytes), settings.workerId),
        ),
    });
  }

  get done(): Promise<void> {
    return this.finished.promise;
  }

  /** A payload above the limit is not even parsed: only a hand-written entry, or a caller with a higher limit, has one. */
  private readPayload(): ReturnType<typeof parseCallPayload> {
    const { length } = this.entry.payload;
    const max = this.settings.maxPayloadBytes;
    if (length > max)
      return { malformed: `its payload has ${length} characters and maxPayloadBytes is ${max}` };
    return parseCallPayload(this.entry.payload);
  }

  run(): void {
    const { functionName, workflowId } = this.lane.ref;
    const payload = this.payload;
    if (payload === undefined || isMalformed(payload)) {
      return this.refuse(new MalformedCallError(payload?.malformed ?? 'it has no payload'));
    }
    const late = this.clock.now() + this.offsetMs - this.entry.deadline;
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
    const { definition, invoke } = this.lane.hosted;
    const violations = checkParameters(definition, payload.parameters);
    if (violations.length > 0)
      return this.refuse(new InvalidParametersError(functionName, workflowId, violations));
    if (Logger.isLevelEnabled('debug')) {
      this.logger.debug(
        `${this.entry.callId} starts ${functionName} (workflow ${workflowId}), attempt ${this.entry.attempt}`,
      );
    }
    this.invoke(withDefaults(definition, payload.parameters), invoke);
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

  /** The handler was not started: the library's own verdict. */
  private refuse(error: Error): void {
    this.logger.debug(`${this.entry.callId} is refused: ${error.message}`);
    this.settle(encodeFailure(toWireError(error, false), this.settings.workerId, true));
  }

  lose(reason: Error): void {
    this.lost = true;
    this.context.abort(reason);
    this.finished.resolve();
  }

  private succeed(value: unknown): void {
    let reply: string;
    try {
      reply = this.context.hasReturned
        ? ''
        : encodeResult(
            encodeJson('result', value, this.settings.maxPayloadBytes),
            this.settings.workerId,
          );
    } catch (error) {
      return this.fail(error);
    }
    this.settle(reply);
  }

  private fail(error: unknown): void {
    const answered = this.context.hasReturned;
    // The answer first: an error that cannot even be logged must not leave its call without one.
    this.settle(
      answered
        ? ''
        : encodeFailure(toWireError(error, this.settings.exposeStacks), this.settings.workerId),
    );
    try {
      this.logFailure(error, answered);
    } catch {
      this.logger.error(`${this.entry.callId} failed with an error that cannot be read`);
    }
  }

  private logFailure(error: unknown, answered: boolean): void {
    const { callId } = this.entry;
    const text = `${callId} failed in ${this.lane.ref.functionName}: ${messageOf(error)}`;
    if (answered) {
      this.logger.warn(
        `${callId} failed after context.return(), its caller is not told: ${messageOf(error)}`,
      );
    }
    if (isUnexpected(error)) this.logger.error(text, String(error.stack));
    else this.logger.debug(text);
  }

  private settle(reply: string): void {
    this.context.finish();
    if (this.lost) return;
    this.settler.add(this.outcome('settle', reply), (owned) => {
      this.observer.settled();
      this.finished.resolve();
      if (!owned)
        this.logger.debug(
          `${this.entry.callId} is no longer owned here: its outcome changed nothing`,
        );
    });
    this.observer.ended();
  }

  private say(kind: 'progress' | 'answer', reply: string): void {
    if (!this.lost) this.settler.add(this.outcome(kind, reply), () => undefined);
  }

  private outcome(kind: Outcome['kind'], reply: string): Outcome {
    return {
      ref: this.lane.ref,
      entryId: this.entry.entryId,
      callId: this.entry.callId,
      replyTo: reply === '' ? '' : this.entry.replyTo,
      kind,
      reply,
    };
  }
}

/** A field of an entry as it was read; `''` when it has none of that name. */
export function fieldOf(raw: RawCall, name: string): string {
  const index = raw.fields.findIndex((field, position) => position % 2 === 0 && field === name);
  return index < 0 ? '' : (raw.fields[index + 1] ?? '');
}

/** An error that nobody chose to send to a caller: a bug, which the operator of the worker should see. */
function isUnexpected(error: unknown): error is Error {
  if (!(error instanceof Error) || isFunctionsError(error) || error.name === 'AbortError')
    return false;
  const shape = error as { getStatus?: () => unknown; getError?: unknown };
  if (typeof shape.getStatus === 'function') return Number(shape.getStatus()) >= 500;
  return typeof shape.getError !== 'function';
}
