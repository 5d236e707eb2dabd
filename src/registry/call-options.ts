import { InvalidArgumentError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import { isIdempotencyKey, type Delivery } from '../protocol/call.js';
import { encodeJson, isRecord } from '../protocol/json.js';
import { isGeneration } from '../protocol/workflow-event.js';
import { assertSignal, assertTimeout } from '../readiness/function-readiness-watcher.js';

/** How a call is made. */
export interface CallOptions {
  /** Default: the contract's, else the module's `workflowId`. */
  readonly workflowId?: string | undefined;
  /** The data item that flows through the workflow; any JSON. */
  readonly item?: unknown;
  /** From submission to answer, in milliseconds; default `executionTimeoutMs` (300 000). */
  readonly timeoutMs?: number | undefined;
  /** Wait for a worker, in milliseconds; default `readinessTimeoutMs` (10 000). */
  readonly readinessTimeoutMs?: number | undefined;
  /** Cancels the wait, the call in the stream, or the running handler. */
  readonly signal?: AbortSignal | undefined;
  /** `wait` (default) for a worker, or `fail` at once with a NoWorkerError. */
  readonly ifUnavailable?: 'wait' | 'fail' | undefined;
  /** `at-least-once` (default), or `at-most-once`: a lost worker's call is not run again. */
  readonly delivery?: Delivery | undefined;
  /**
   * Calls of a function with the same key run once and all get the result, from whichever process they come,
   * until `idempotencyTtlMs` after it ended. A failure is told to all who wait for it, and the next call with
   * the key runs again. While it runs, the deadline of the call that came first holds for the handler.
   */
  readonly idempotencyKey?: string | undefined;
  /** Strings for the handler's `context.headers`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Gets what the handler says with `context.progress()`. */
  readonly onProgress?: ((value: unknown) => void) | undefined;
  /**
   * Only a worker that has loaded this generation of the workflow runs the call; see `atGeneration()`. Default: any
   * worker.
   */
  readonly generation?: number | undefined;
}

const KNOWN: ReadonlySet<string> = new Set<keyof CallOptions>([
  'workflowId',
  'item',
  'timeoutMs',
  'readinessTimeoutMs',
  'signal',
  'ifUnavailable',
  'delivery',
  'idempotencyKey',
  'headers',
  'onProgress',
  'generation',
]);
const pathOf = (key: string): string => `options.${key}`;

/**
 * Refuses options of the wrong type, or that do not exist, before anything is sent.
 *
 * @throws InvalidArgumentError
 */
export function assertCallOptions(options: CallOptions): void {
  if (!isRecord(options)) throw new InvalidArgumentError('options', show(options), 'an object');
  assertKnownKeys(options, KNOWN, pathOf);
  if (options.workflowId !== undefined && typeof options.workflowId !== 'string')
    throw new InvalidArgumentError('workflowId', show(options.workflowId), 'a name');
  if (options.timeoutMs !== undefined) assertTimeout('timeoutMs', options.timeoutMs);
  if (options.readinessTimeoutMs !== undefined)
    assertTimeout('readinessTimeoutMs', options.readinessTimeoutMs);
  oneOf('ifUnavailable', options.ifUnavailable, ['wait', 'fail']);
  oneOf('delivery', options.delivery, ['at-least-once', 'at-most-once']);
  if (options.idempotencyKey !== undefined && !isIdempotencyKey(options.idempotencyKey)) {
    throw new InvalidArgumentError(
      'idempotencyKey',
      show(options.idempotencyKey),
      'a string of 1 to 256 characters',
    );
  }
  assertSignal(options.signal);
  if (options.onProgress !== undefined && typeof options.onProgress !== 'function') {
    throw new InvalidArgumentError('onProgress', show(options.onProgress), 'a function');
  }
  if (options.generation !== undefined && !isGeneration(options.generation))
    throw new InvalidArgumentError(
      'generation',
      show(options.generation),
      'a generation that atGeneration() or notifySaved() gave',
    );
}

/**
 * The key under which a call is shared: calls of different generations are different calls.
 *
 * @throws InvalidArgumentError
 */
export function sharedKeyOf({ idempotencyKey, generation }: CallOptions): string | undefined {
  if (idempotencyKey === undefined || generation === undefined) return idempotencyKey;
  const key = `${idempotencyKey}@${generation}`;
  if (isIdempotencyKey(key)) return key;
  const allowed = 'a string of 1 to 240 characters for a call that is bound to a generation';
  throw new InvalidArgumentError('idempotencyKey', show(idempotencyKey), allowed);
}

function oneOf(argument: string, value: unknown, allowed: readonly string[]): void {
  if (value !== undefined && !allowed.includes(value as string)) {
    throw new InvalidArgumentError(
      argument,
      show(value),
      allowed.map((one) => `'${one}'`).join(' or '),
    );
  }
}

/** Headers as JSON; `undefined` when there are none. */
export function encodeHeaders(
  headers: CallOptions['headers'],
  maxBytes: number,
): string | undefined {
  if (headers === undefined) return undefined;
  if (!isRecord(headers))
    throw new InvalidArgumentError('headers', show(headers), 'an object of strings');
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== 'string')
      throw new InvalidArgumentError(`headers.${name}`, show(value), 'a string');
  }
  return encodeJson('headers', headers, maxBytes);
}
