import { Inject, Injectable } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND } from '../backend/tokens.js';
import { InvalidArgumentError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import { parseDeadLetter, type DeadLetter } from '../protocol/dead-letter.js';
import { functionRef } from '../protocol/function-ref.js';
import { assertTimeout } from '../readiness/function-readiness-watcher.js';

/** Which dead letters to list. */
export interface DeadLetterPage {
  /** Those that come after the letter with this id; default: from the oldest on. */
  readonly after?: string | undefined;
  /** How many at the most, 1 to 1 000; default 100. */
  readonly limit?: number | undefined;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
const PAGE_FIELDS: ReadonlySet<string> = new Set<keyof DeadLetterPage>(['after', 'limit']);
const RETRY_OPTIONS: ReadonlySet<string> = new Set(['timeoutMs']);
const LETTER_ID = /^\d{1,19}-\d{1,19}$/;

/**
 * Calls that were given up: their workers were lost `maxDeliveries` times, or their handler failed as often as
 * its retry policy allows. About 10 000 are kept per function, until they are retried or removed.
 *
 * @example
 * ```ts
 * for (const letter of await deadLetters.list('resize', 'media')) {
 *   console.log(letter.reason, letter.parameters, letter.failures);
 *   await deadLetters.retry('resize', 'media', letter.id);
 * }
 * ```
 */
@Injectable()
export class DeadLetters {
  constructor(@Inject(BACKEND) private readonly backend: Backend) {}

  /**
   * Dead letters of a function, oldest first.
   *
   * @throws InvalidNameError, InvalidArgumentError, BackendUnavailableError, BackendRefusedError
   */
  async list(
    functionName: string,
    workflowId: string,
    page: DeadLetterPage = {},
  ): Promise<DeadLetter[]> {
    const ref = functionRef(functionName, workflowId);
    assertKnownKeys(page, PAGE_FIELDS, (key) => `page.${key}`);
    const { after = '', limit = DEFAULT_LIMIT } = page;
    if (after !== '') assertId('after', after);
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
      const allowed = `a whole number from 1 to ${MAX_LIMIT}`;
      throw new InvalidArgumentError('limit', show(limit), allowed);
    }
    const letters = await this.backend.deadLetters.list(ref, after, limit);
    return letters.map(({ id, fields }) => parseDeadLetter(id, fields));
  }

  /** How many dead letters a function has. */
  async count(functionName: string, workflowId: string): Promise<number> {
    return this.backend.deadLetters.count(functionRef(functionName, workflowId));
  }

  /**
   * Puts a dead letter back among the calls, as a first attempt with its history kept. Its caller was told of
   * its end, so nobody waits for the answer.
   *
   * @param options.timeoutMs from now to its deadline; default: what its caller had given it
   * @returns `false` when there is no such letter
   */
  async retry(
    functionName: string,
    workflowId: string,
    id: string,
    options: { readonly timeoutMs?: number | undefined } = {},
  ): Promise<boolean> {
    const ref = functionRef(functionName, workflowId);
    assertId('id', id);
    assertKnownKeys(options, RETRY_OPTIONS, (key) => `options.${key}`);
    const { timeoutMs } = options;
    if (timeoutMs !== undefined) assertTimeout('timeoutMs', timeoutMs);
    return (await this.backend.deadLetters.requeue(ref, id, timeoutMs)) !== undefined;
  }

  /** {@link retry} for all that the function has now; how many there were. */
  async retryAll(functionName: string, workflowId: string): Promise<number> {
    const ref = functionRef(functionName, workflowId);
    let retried = 0;
    // Those that fail again come back at the end: what is there now is all that is retried.
    let left = await this.backend.deadLetters.count(ref);
    while (left > 0) {
      const letters = await this.backend.deadLetters.list(ref, '', Math.min(left, DEFAULT_LIMIT));
      if (letters.length === 0) break;
      const done = await Promise.all(
        letters.map(({ id }) => this.backend.deadLetters.requeue(ref, id, undefined)),
      );
      retried += done.filter((entryId) => entryId !== undefined).length;
      left -= letters.length;
    }
    return retried;
  }

  /** Removes dead letters for good; how many there were. */
  async remove(
    functionName: string,
    workflowId: string,
    ids: string | readonly string[],
  ): Promise<number> {
    const ref = functionRef(functionName, workflowId);
    const all = typeof ids === 'string' ? [ids] : ids;
    for (const id of all) assertId('id', id);
    return this.backend.deadLetters.remove(ref, all);
  }
}

function assertId(argument: string, id: unknown): asserts id is string {
  if (typeof id === 'string' && LETTER_ID.test(id)) return;
  throw new InvalidArgumentError(argument, show(id), "a dead letter's id, such as 1700000000000-0");
}
