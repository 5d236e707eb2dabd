import { InvalidArgumentError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import { isRecord } from '../protocol/json.js';
import { assertSignal, assertTimeout } from '../readiness/function-readiness-watcher.js';

/** How far a restart is. */
export interface RestartProgress {
  readonly workflowId: string;
  /** `restarting`: it is this process's turn. `ready`: its workers, or as many others, are back. */
  readonly phase: 'restarting' | 'ready';
  /** The process (its session), and what it hosts of the workflow. */
  readonly processId: string;
  readonly functions: readonly string[];
  /** Processes that are back, and all that are to be restarted. */
  readonly done: number;
  readonly total: number;
}

/** How the workers of a workflow are restarted. */
export interface RestartOptions {
  /** Processes that are restarted at once. Default 1. */
  readonly maxUnavailable?: number | undefined;
  /** How long one process may take until its workers are back, in milliseconds. Default 60 000. */
  readonly timeoutMs?: number | undefined;
  /** `outdated`: only processes whose workers are of an older generation than the last save. Default `all`. */
  readonly only?: 'all' | 'outdated' | undefined;
  /** Restart functions all the same that only one process hosts: their calls wait meanwhile. Default `false`. */
  readonly allowInterruption?: boolean | undefined;
  /** Ends the restart before its next process with a CallCancelledError; what restarts already does so to its end. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each step; what it throws is logged. */
  readonly onProgress?: ((progress: RestartProgress) => void) | undefined;
}

/** A restart that is done. */
export interface RestartReport {
  readonly workflowId: string;
  /** The generation of the workflow when it began. */
  readonly generation: number;
  /** The processes that were restarted, in their order. */
  readonly restarted: readonly string[];
  /**
   * `true`: this process is the one that is left, and has `restart: 'exit'`: it ends now, and another one waits until it
   * is back, and tells `ready`; `onProgress` hears nothing of that.
   */
  readonly handedOver: boolean;
  readonly durationMs: number;
}

/** Options with nothing left open but the callbacks. */
export interface ResolvedRestartOptions {
  readonly maxUnavailable: number;
  readonly timeoutMs: number;
  readonly only: 'all' | 'outdated';
  readonly allowInterruption: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: RestartProgress) => void) | undefined;
}

const DEFAULTS = {
  maxUnavailable: 1,
  timeoutMs: 60_000,
  only: 'all',
  allowInterruption: false,
} as const;

const KNOWN: ReadonlySet<string> = new Set<keyof RestartOptions>([
  'maxUnavailable',
  'timeoutMs',
  'only',
  'allowInterruption',
  'signal',
  'onProgress',
]);

/** @throws InvalidArgumentError */
export function resolveRestartOptions(options: RestartOptions): ResolvedRestartOptions {
  const given: unknown = options;
  if (!isRecord(given))
    throw new InvalidArgumentError('options', show(given), '{ maxUnavailable, timeoutMs, ... }');
  assertKnownKeys(given, KNOWN, (key) => `options.${key}`);
  const {
    maxUnavailable = DEFAULTS.maxUnavailable,
    timeoutMs = DEFAULTS.timeoutMs,
    only = DEFAULTS.only,
    allowInterruption = DEFAULTS.allowInterruption,
    signal,
    onProgress,
  } = options;
  if (!(Number.isInteger(maxUnavailable) && maxUnavailable >= 1))
    refuse('maxUnavailable', maxUnavailable, 'a whole number, 1 or more');
  assertTimeout('timeoutMs', timeoutMs);
  if (only !== 'all' && only !== 'outdated') refuse('only', only, "'all' or 'outdated'");
  if (typeof allowInterruption !== 'boolean')
    refuse('allowInterruption', allowInterruption, 'true or false');
  assertSignal(signal);
  if (onProgress !== undefined && typeof onProgress !== 'function')
    refuse('onProgress', onProgress, 'a function');
  return { maxUnavailable, timeoutMs, only, allowInterruption, signal, onProgress };
}

function refuse(argument: string, value: unknown, allowed: string): never {
  throw new InvalidArgumentError(argument, show(value), allowed);
}
