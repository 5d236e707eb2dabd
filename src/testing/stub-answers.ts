import { pause, type Clock } from '../common/clock.js';
import {
  ERROR_CODES,
  FunctionError,
  InvalidArgumentError,
  isFunctionsError,
} from '../common/errors.js';
import { isError, show } from '../common/text.js';
import { assertKnownKeys } from '../common/known-keys.js';
import type { FunctionContext } from '../execution/worker/function-context.js';
import { assertTimeout } from '../readiness/function-readiness-watcher.js';

/** What a stub answers: a value, a function of the parameters (as a handler), or an error to throw. */
export type StubAnswer<Input, Output> =
  Output | Error | ((parameters: Input, context: FunctionContext) => Output | Promise<Output>);

/** How a stub answers. */
export interface StubManner {
  /** Progress that is told before. */
  readonly progress?: readonly unknown[];
  /** Time on the fleet's clock between the start and the answer, in milliseconds; default 0. */
  readonly afterMs?: number;
}

type Handler = (parameters: unknown, context: FunctionContext) => unknown;
type Give = (parameters: unknown, context: FunctionContext, clock: Clock) => Promise<unknown>;

const MANNER: ReadonlySet<string> = new Set<keyof StubManner>(['progress', 'afterMs']);

/** The answers of a stub: those that are given once, in their order, then the standing one. */
export class StubAnswers {
  private readonly once: Give[] = [];
  private standing: Give = () => Promise.resolve(undefined);

  stand(answer: unknown, manner: StubManner = {}): void {
    this.standing = this.giving(answer, manner);
  }

  add(answer: unknown, manner: StubManner = {}): void {
    this.once.push(this.giving(answer, manner));
  }

  /** Forgets those that were to be given once. */
  clear(): void {
    this.once.length = 0;
  }

  /** @param clock of the process that answers */
  give(parameters: unknown, context: FunctionContext, clock: Clock): Promise<unknown> {
    const give = this.once.shift() ?? this.standing;
    return give(parameters, context, clock);
  }

  private giving(answer: unknown, manner: StubManner): Give {
    assertKnownKeys(manner, MANNER, (key) => `${key} of a stub's answer`);
    const { progress = [], afterMs = 0 } = manner;
    assertTimeout('afterMs', afterMs);
    if (!Array.isArray(progress))
      throw new InvalidArgumentError('progress', show(progress), 'an array of values');
    return async (parameters, context, clock) => {
      for (const value of progress) context.progress(value);
      if (afterMs > 0) {
        await pause(clock, afterMs, context.signal);
        context.signal.throwIfAborted();
      }
      if (isError(answer)) throw asThrownOnPurpose(answer);
      return typeof answer === 'function' ? (answer as Handler)(parameters, context) : answer;
    };
  }
}

/** Its caller gets code, message, details and class name as they are; the log does not call it a bug. */
function asThrownOnPurpose(error: Error): Error {
  const shape = error as { getStatus?: unknown; getError?: unknown };
  const isKnown = isFunctionsError(error) || 'getStatus' in shape || 'getError' in shape;
  return isKnown ? error : new StubbedError(error);
}

class StubbedError extends FunctionError {
  constructor(cause: Error) {
    const { code, details, retryable } = cause as Partial<FunctionError>;
    super(typeof code === 'string' ? code : ERROR_CODES.HANDLER_FAILED, cause.message, { cause });
    // What an error does not say, nobody says for it.
    Object.assign(this, { name: cause.name, constructor: cause.constructor, details, retryable });
  }
}
