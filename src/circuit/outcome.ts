import { getSystemErrorMap } from 'node:util';
import {
  ERROR_CODES,
  isFunctionsError,
  NOT_WRITTEN,
  RemoteFunctionError,
  type FunctionsError,
} from '../common/errors.js';

/**
 * What a call says about its function:
 * - `success`: it works: a result, or its own answer to this call
 * - `failure`: it does not
 * - `nothing`: the call ended for reasons of the caller, or of Redis
 */
export type Outcome = 'success' | 'failure' | 'nothing';

/** The library's own verdicts about a function that was called. */
const FAILED: ReadonlySet<string> = new Set([
  ERROR_CODES.WORKER_LOST,
  ERROR_CODES.MAX_DELIVERIES,
  ERROR_CODES.DEADLINE_EXCEEDED,
]);
/** Input that did not get as far as the handler's own code, and entries of another version. */
const REFUSED: ReadonlySet<string> = new Set([
  ERROR_CODES.INVALID_INPUT,
  ERROR_CODES.INVALID_PARAMETERS,
  ERROR_CODES.PAYLOAD_TOO_LARGE,
  ERROR_CODES.PAYLOAD_NOT_SERIALIZABLE,
  ERROR_CODES.MALFORMED_CALL,
]);
/** What Node says of sockets and files: ECONNREFUSED, ENOSPC. */
const SYSTEM: ReadonlySet<string> = new Set([
  ...[...getSystemErrorMap().values()].map(([name]) => name),
  'ENOTFOUND',
]);
const OVERLOADED: ReadonlySet<string> = new Set(['HTTP_408', 'HTTP_425', 'HTTP_429']);

/**
 * What an error says about the function; `isFailure`, where it knows better.
 *
 * Nobody there (`NO_WORKER`, `READINESS_TIMEOUT`) says nothing: readiness knows it in milliseconds, and knows when
 * somebody is back, which an open circuit would only hide.
 */
export function outcomeOf(
  error: unknown,
  isFailure: ((error: Error) => boolean | undefined) | undefined,
): Outcome {
  if (!isFunctionsError(error)) return 'nothing';
  const own = ownWord(error, isFailure);
  if (own === true) return 'failure';
  const usual =
    error instanceof RemoteFunctionError ? outcomeOfHandler(error) : outcomeOfLibrary(error);
  return own === false && usual === 'failure' ? 'nothing' : usual;
}

/** What it throws is no word: it is asked beside the answer, where nobody could hear it. */
function ownWord(
  error: Error,
  isFailure: ((error: Error) => boolean | undefined) | undefined,
): boolean | undefined {
  try {
    return isFailure?.(error);
  } catch {
    return undefined;
  }
}

function outcomeOfLibrary({ code, details }: FunctionsError): Outcome {
  const { stage } = details;
  const wasWritten = typeof stage !== 'string' || !stage.startsWith(NOT_WRITTEN);
  return FAILED.has(code) && wasWritten ? 'failure' : 'nothing';
}

/**
 * A handler that throws an error of its own making, with a code and nothing to retry, has answered: it works. What it
 * did not expect, and what it says may pass, is a failure.
 */
function outcomeOfHandler({ code, retryable }: FunctionsError): Outcome {
  if (REFUSED.has(code)) return 'nothing';
  if (retryable || code === ERROR_CODES.HANDLER_FAILED) return 'failure';
  if (code.startsWith('HTTP_'))
    return code.startsWith('HTTP_5') || OVERLOADED.has(code) ? 'failure' : 'success';
  return code.startsWith('ERR_') || SYSTEM.has(code) ? 'failure' : 'success';
}
