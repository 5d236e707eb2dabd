import { InvalidArgumentError } from '../../common/errors.js';
import { show } from '../../common/text.js';
import { isRecord } from '../../protocol/json.js';
import type { WireError } from '../../protocol/wire-error.js';

/**
 * When and how often a call runs again whose handler failed. A call whose worker was lost runs again without
 * any policy (`maxDeliveries` bounds that); an at-most-once call never does.
 *
 * @example
 * ```ts
 * @FunctionHandler({ name: 'charge', retry: { maxAttempts: 5, backoffMs: 200, retryIf: (error) => isNetwork(error) } })
 * ```
 */
export interface RetryPolicy {
  /** Runs of the handler in all, the first included; 2 to 100. */
  readonly maxAttempts: number;
  /** Wait before the second run, in milliseconds. Default 200. */
  readonly backoffMs?: number;
  /** By which the wait grows with each run. Default 2. */
  readonly factor?: number;
  /** Longest wait, in milliseconds. Default 30 000. */
  readonly maxBackoffMs?: number;
  /** Part of the wait that is left to chance, 0 to 1, so that calls that failed together do not return together. Default 0.5. */
  readonly jitter?: number;
  /**
   * Which errors are worth another run. Default: all but those that say `retryable: false` (a FunctionError
   * unless told otherwise, refused input, an HttpException below 500 other than 429).
   */
  readonly retryIf?: (error: unknown) => boolean;
}

/** A policy with nothing left open. */
export type ResolvedRetryPolicy = Readonly<Required<Omit<RetryPolicy, 'retryIf'>>> &
  Pick<RetryPolicy, 'retryIf'>;

const DEFAULTS = Object.freeze({ backoffMs: 200, factor: 2, maxBackoffMs: 30_000, jitter: 0.5 });

/** Lowest and highest value of each number. */
const BOUNDS = Object.freeze({
  maxAttempts: [2, 100],
  backoffMs: [0, 86_400_000],
  factor: [1, 100],
  maxBackoffMs: [0, 86_400_000],
  jitter: [0, 1],
} as const);

/**
 * Checks a policy and completes it.
 *
 * @param name of the function, for errors
 * @throws InvalidArgumentError
 */
export function resolveRetry(name: string, given: unknown): ResolvedRetryPolicy | undefined {
  if (given === undefined) return undefined;
  const refuse = (path: string, value: unknown, allowed: string): never => {
    throw new InvalidArgumentError(`${path} of ${name}`, show(value), allowed);
  };
  if (!isRecord(given)) return refuse('retry', given, '{ maxAttempts, backoffMs, ... }');
  const policy: Record<string, unknown> = { ...DEFAULTS };
  for (const [field, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (field !== 'retryIf' && !(field in BOUNDS))
      refuse(
        `retry.${field}`,
        value,
        `no such field; one of ${Object.keys(BOUNDS).join(', ')}, retryIf`,
      );
    policy[field] = value;
  }
  for (const [field, [least, most]] of Object.entries(BOUNDS)) {
    const value = policy[field];
    const whole = field === 'maxAttempts' ? Number.isInteger(value) : Number.isFinite(value);
    if (!whole || Number(value) < least || Number(value) > most)
      refuse(`retry.${field}`, value, `a number from ${least} to ${most}`);
  }
  if (policy['retryIf'] !== undefined && typeof policy['retryIf'] !== 'function')
    refuse('retry.retryIf', policy['retryIf'], 'a function of the error');
  return policy as unknown as ResolvedRetryPolicy;
}

/**
 * Wait before the next run after `failures` of them, in milliseconds.
 *
 * @param random from 0 up to 1
 */
export function retryDelayMs(
  policy: ResolvedRetryPolicy,
  failures: number,
  random: number = Math.random(),
): number {
  const wait = Math.min(policy.maxBackoffMs, policy.backoffMs * policy.factor ** (failures - 1));
  return Math.round(wait * (1 - policy.jitter * random));
}

/** Whether an error is worth another run. */
export function isWorthRetrying(
  policy: ResolvedRetryPolicy,
  error: unknown,
  wire: WireError,
): boolean {
  if (policy.retryIf !== undefined) return policy.retryIf(error) === true;
  const status = /^HTTP_(\d+)$/.exec(wire.code)?.[1];
  if (status !== undefined) return Number(status) >= 500 || status === '429';
  return wire.retryable !== false;
}
