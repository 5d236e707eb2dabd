import { backendName, backendPlace, isError } from './text.js';

/**
 * Every failure of the library is a {@link FunctionsError}: a class per failure, a stable `code`, the
 * facts as readonly `details`, `retryable`, and the cure in the text.
 *
 * Two copies of the package may meet in one process (a monorepo with two versions): `instanceof` fails
 * there, {@link isFunctionsError} does not, because the brand is a registered symbol.
 *
 * `docs/errors.md` lists every code and is compared with {@link ERROR_CODES} by a test.
 */

const BRAND = Symbol.for('nestjs-functions.error');

/** Plain facts about a failure; they travel as JSON. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/** What is known about an error besides its message. */
export interface FunctionsErrorOptions {
  /** Facts a program can act on, never a payload or a secret. */
  readonly details?: ErrorDetails;
  /** Whether the same call can succeed later without being changed. Default `false`. */
  readonly retryable?: boolean;
  /** The error below this one. */
  readonly cause?: unknown;
}

/** Codes of the library's own errors; a handler's error brings its own code. */
export const ERROR_CODES = {
  INVALID_OPTIONS: 'INVALID_OPTIONS',
  INVALID_NAME: 'INVALID_NAME',
  INVALID_ARGUMENT: 'INVALID_ARGUMENT',
  INVALID_PARAMETERS: 'INVALID_PARAMETERS',
  INVALID_INPUT: 'INVALID_INPUT',
  PAYLOAD_NOT_SERIALIZABLE: 'PAYLOAD_NOT_SERIALIZABLE',
  PAYLOAD_TOO_LARGE: 'PAYLOAD_TOO_LARGE',
  DUPLICATE_HANDLER: 'DUPLICATE_HANDLER',
  WORKER_DISABLED: 'WORKER_DISABLED',
  WORKER_NOT_REGISTERED: 'WORKER_NOT_REGISTERED',
  NO_WORKER: 'NO_WORKER',
  READINESS_TIMEOUT: 'READINESS_TIMEOUT',
  CIRCUIT_OPEN: 'CIRCUIT_OPEN',
  WORKFLOW_NOT_READY: 'WORKFLOW_NOT_READY',
  RESTART_IN_PROGRESS: 'RESTART_IN_PROGRESS',
  RESTART_REFUSED: 'RESTART_REFUSED',
  RESTART_FAILED: 'RESTART_FAILED',
  CALL_CANCELLED: 'CALL_CANCELLED',
  DEADLINE_EXCEEDED: 'DEADLINE_EXCEEDED',
  WORKER_LOST: 'WORKER_LOST',
  GENERATION_GONE: 'GENERATION_GONE',
  MAX_DELIVERIES: 'MAX_DELIVERIES',
  MALFORMED_CALL: 'MALFORMED_CALL',
  BACKLOG_FULL: 'BACKLOG_FULL',
  OUTCOME_UNKNOWN: 'OUTCOME_UNKNOWN',
  OWNERSHIP_LOST: 'OWNERSHIP_LOST',
  DRAINING: 'DRAINING',
  HANDLER_FAILED: 'HANDLER_FAILED',
  BACKEND_UNAVAILABLE: 'BACKEND_UNAVAILABLE',
  BACKEND_REFUSED: 'BACKEND_REFUSED',
  CLOSED: 'CLOSED',
} as const;

/** A code of the library itself. */
export type ErrorCode = (typeof ERROR_CODES)[keyof typeof ERROR_CODES];

/**
 * Base of all errors of the library.
 *
 * @example
 * ```ts
 * try {
 *   await registry.call('resize', { width: 10 });
 * } catch (error) {
 *   if (isFunctionsError(error, 'NO_WORKER')) return cached;
 *   throw error;
 * }
 * ```
 */
export class FunctionsError extends Error {
  /** Stable, machine-readable name of the failure. */
  readonly code: string;
  /** Facts about the failure; plain JSON. */
  readonly details: ErrorDetails;
  /** Whether the same call can succeed later without being changed. */
  readonly retryable: boolean;

  constructor(code: string, message: string, options: FunctionsErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.details = options.details ?? {};
    this.retryable = options.retryable ?? false;
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/**
 * Whether a value is an error of this library, of whichever copy of the package.
 *
 * @param code when given, the error must also carry this code
 */
export function isFunctionsError(value: unknown, code?: string): value is FunctionsError {
  if (!(value instanceof Error) || (value as { [BRAND]?: boolean })[BRAND] !== true) return false;
  return code === undefined || (value as FunctionsError).code === code;
}

/** One wrong option: where, what was given, what is allowed. */
export interface OptionViolation {
  readonly path: string;
  readonly value: string;
  readonly allowed: string;
}

/** The module's options are wrong; the boot stops. */
export class InvalidOptionsError extends FunctionsError {
  constructor(readonly violations: readonly OptionViolation[]) {
    const lines = violations.map((v) => `  ${v.path} = ${v.value}: ${v.allowed}`);
    super(
      ERROR_CODES.INVALID_OPTIONS,
      `FunctionsModule was given options it cannot work with:\n${lines.join('\n')}\n` +
        'Every option with its default is listed in docs/options.md.',
      { details: { violations } },
    );
  }
}

/** A function, workflow or worker name that cannot be used. */
export class InvalidNameError extends FunctionsError {
  constructor(what: string, shown: string, cure: string) {
    super(ERROR_CODES.INVALID_NAME, `${what} ${shown} cannot be used: ${cure}.`, {
      details: { what, given: shown },
    });
  }
}

/** An argument of an API method has the wrong type or range. */
export class InvalidArgumentError extends FunctionsError {
  constructor(argument: string, shown: string, allowed: string) {
    super(ERROR_CODES.INVALID_ARGUMENT, `${argument} is ${shown}; allowed: ${allowed}.`, {
      details: { argument, given: shown },
    });
  }
}

/** One parameter that does not fit a function's definition. */
export interface ParameterViolation {
  readonly parameter: string;
  readonly problem: string;
}

/** The parameters of a call do not fit the function's definition; nothing was sent. */
export class InvalidParametersError extends FunctionsError {
  constructor(
    functionName: string,
    workflowId: string,
    readonly violations: readonly ParameterViolation[],
  ) {
    const lines = violations.map((v) => `${v.parameter}: ${v.problem}`).join('; ');
    super(
      ERROR_CODES.INVALID_PARAMETERS,
      `The parameters do not fit the definition of ${functionName} (workflow ${workflowId}): ${lines}. ` +
        'getFunctionParameters() shows what it takes.',
      { details: { functionName, workflowId, violations } },
    );
  }
}

/** The handler's input class refused the parameters (class-validator, on the worker). */
export class InvalidInputError extends FunctionsError {
  constructor(
    functionName: string,
    readonly violations: readonly string[],
  ) {
    super(
      ERROR_CODES.INVALID_INPUT,
      `The input of ${functionName} was refused: ${violations.join('; ')}.`,
      { details: { functionName, violations } },
    );
  }
}

/** A value that JSON cannot carry without loss. */
export class PayloadNotSerializableError extends FunctionsError {
  constructor(path: string, problem: string, cure: string) {
    super(
      ERROR_CODES.PAYLOAD_NOT_SERIALIZABLE,
      `${path} cannot be sent: ${problem}. A call carries JSON; ${cure}.`,
      { details: { path, problem } },
    );
  }
}

/** A payload above `maxPayloadBytes`. */
export class PayloadTooLargeError extends FunctionsError {
  /** @param isOption whether the limit is the option `maxPayloadBytes` */
  constructor(what: string, bytes: number, maxPayloadBytes: number, isOption = true) {
    super(
      ERROR_CODES.PAYLOAD_TOO_LARGE,
      `${what} has ${bytes} bytes as JSON and the limit is ${maxPayloadBytes}. Pass a reference ` +
        `(an object-store key, say)${isOption ? ', or raise the option maxPayloadBytes' : ''}.`,
      { details: { bytes, maxPayloadBytes } },
    );
  }
}

/** Two handlers of one process claim the same function. */
export class DuplicateHandlerError extends FunctionsError {
  /** @param first where the handler is, as `Class.method (Module)` */
  constructor(functionName: string, workflowId: string, first: string, second: string) {
    const [method] = first.split(' (');
    super(
      ERROR_CODES.DUPLICATE_HANDLER,
      second.split(' (')[0] === method
        ? `${method} handles ${functionName} (workflow ${workflowId}), and its class is provided twice: ${first} and ` +
            `${second}. Provide it in one module, and export it from there.`
        : `Both ${first} and ${second} handle ${functionName} (workflow ${workflowId}). A process runs a ` +
            'function through one handler: rename one, or give it another workflowId.',
      { details: { functionName, workflowId, handlers: [first, second] } },
    );
  }
}

/** A worker operation in a process with `worker: false`. */
export class WorkerDisabledError extends FunctionsError {
  constructor(operation: string) {
    super(
      ERROR_CODES.WORKER_DISABLED,
      `${operation} needs a process that may host functions, and this one was configured with ` +
        'worker: false. Leave that option out here.',
      { details: { operation } },
    );
  }
}

/** A lifecycle notification of a worker that is not registered. */
export class WorkerNotRegisteredError extends FunctionsError {
  constructor(functionName: string, workflowId: string, workerId: string) {
    super(
      ERROR_CODES.WORKER_NOT_REGISTERED,
      `Worker ${workerId} is not registered for ${functionName} (workflow ${workflowId}). Register it ` +
        'first (registerWorkerWithInstantNotification), or it was declared dead and has to register anew.',
      { details: { functionName, workflowId, workerId }, retryable: true },
    );
  }
}

/** `ifUnavailable: 'fail'` and no healthy worker. */
export class NoWorkerError extends FunctionsError {
  constructor(functionName: string, workflowId: string, situation: string) {
    super(
      ERROR_CODES.NO_WORKER,
      `No healthy worker runs ${functionName} (workflow ${workflowId}): ${situation}. Start one, or call ` +
        "with ifUnavailable: 'wait'.",
      { details: { functionName, workflowId, situation }, retryable: true },
    );
  }
}

/** No worker became ready within the wait. */
export class ReadinessTimeoutError extends FunctionsError {
  /** @param cause what kept the registry from being read: then nothing is known about workers */
  constructor(
    functionName: string,
    workflowId: string,
    timeoutMs: number,
    situation: string,
    cause?: unknown,
  ) {
    super(
      ERROR_CODES.READINESS_TIMEOUT,
      `No worker of ${functionName} (workflow ${workflowId}) became ready within ${timeoutMs} ms: ${situation}` +
        (cause === undefined
          ? '. Check that a worker process with this exact function name and workflowId uses the same ' +
            'connection and keyPrefix, or raise readinessTimeoutMs.'
          : ''),
      { details: { functionName, workflowId, timeoutMs, situation }, retryable: true, cause },
    );
  }
}

/** The function's circuit is open: it fails for its callers, and was not called. */
export class CircuitOpenError extends FunctionsError {
  /** When the next call may be tried, on this host's clock, milliseconds since the epoch; absent: when somebody closes it. */
  readonly retryAt: number | undefined;
  /** The same from now. */
  readonly retryAfterMs: number | undefined;

  /** @param reason why it is open: `failure-rate`, `probe-failed`, or an operator's word */
  constructor(
    functionName: string,
    workflowId: string,
    state: 'open' | 'half-open',
    reason: string,
    retry: { readonly at: number; readonly afterMs: number } | undefined,
  ) {
    const when =
      retry === undefined
        ? 'It was opened by hand, and stays so until getCircuit().close().'
        : state === 'half-open'
          ? `Another call finds out whether it works again; try in ${retry.afterMs} ms at the latest.`
          : `It is tried again in ${retry.afterMs} ms; getCircuit().close() closes it now.`;
    const facts = retry === undefined ? {} : { retryAt: retry.at, retryAfterMs: retry.afterMs };
    super(
      ERROR_CODES.CIRCUIT_OPEN,
      `The circuit of ${functionName} (workflow ${workflowId}) is ${state} (${reason}), and the call was not made. ${when}`,
      { details: { functionName, workflowId, state, reason, ...facts }, retryable: true },
    );
    this.retryAt = retry?.at;
    this.retryAfterMs = retry?.afterMs;
  }
}

/** A function of a workflow that has no healthy worker, and why. */
export interface UnreadyFunction {
  readonly functionName: string;
  readonly situation: string;
}

/** Not every function of a workflow had a healthy worker within the wait. */
export class WorkflowNotReadyError extends FunctionsError {
  /**
   * @param functions those that are not ready; none when the workflow has no function at all
   * @param cause what kept the registry from being read
   */
  constructor(
    workflowId: string,
    timeoutMs: number,
    readonly functions: readonly UnreadyFunction[],
    cause?: unknown,
  ) {
    const lines = functions.map((one) => `${one.functionName}: ${one.situation}`).join('; ');
    super(
      ERROR_CODES.WORKFLOW_NOT_READY,
      `Workflow ${workflowId} was not ready within ${timeoutMs} ms. ` +
        (functions.length > 0
          ? `Not ready: ${lines}. Start their workers, or raise timeoutMs.`
          : cause === undefined
            ? 'No function of it was ever registered: check the workflowId and keyPrefix of its workers, or name ' +
              'its functions.'
            : 'Its functions could not be read.'),
      { details: { workflowId, timeoutMs, functions }, retryable: true, cause },
    );
  }
}

/** Another process leads a restart of this workflow. */
export class RestartInProgressError extends FunctionsError {
  constructor(workflowId: string, holder: string) {
    super(
      ERROR_CODES.RESTART_IN_PROGRESS,
      `Workflow ${workflowId} is being restarted by ${holder}. Wait for its news 'ready', or try again: its lead ` +
        'ends with the restart, or soon after its process has died.',
      { details: { workflowId, holder }, retryable: true },
    );
  }
}

/** A restart would leave functions without a worker; nothing was restarted. */
export class RestartRefusedError extends FunctionsError {
  constructor(workflowId: string, functions: readonly string[]) {
    super(
      ERROR_CODES.RESTART_REFUSED,
      `Only one process hosts ${String(functions)} (workflow ${workflowId}): while it restarts, nobody would run it. ` +
        'Start another one first, or pass allowInterruption: true, and its calls wait meanwhile.',
      { details: { workflowId, functions } },
    );
  }
}

/** A restart did not come to its end; what had been restarted by then is, and works. */
export class RestartFailedError extends FunctionsError {
  constructor(workflowId: string, why: string) {
    super(
      ERROR_CODES.RESTART_FAILED,
      `The restart of workflow ${workflowId} has stopped: ${why.replace(/\.$/, '')}. When that is mended, ` +
        "restart it again; after a save only: 'outdated' restarts just the rest.",
      { details: { workflowId, why }, retryable: true },
    );
  }
}

/** The caller's AbortSignal ended the wait or the call. */
export class CallCancelledError extends FunctionsError {
  constructor(functionName: string, workflowId: string, cause?: unknown) {
    super(
      ERROR_CODES.CALL_CANCELLED,
      `The caller cancelled ${functionName} (workflow ${workflowId}).`,
      { details: { functionName, workflowId }, cause },
    );
  }
}

/** How the stage of a call begins whose time was up before it was in the stream; where to follows. */
export const NOT_WRITTEN = 'it could not be written';

/** A call did not finish, or could not start, by its deadline. */
export class DeadlineExceededError extends FunctionsError {
  constructor(functionName: string, workflowId: string, timeoutMs: number, stage: string) {
    super(
      ERROR_CODES.DEADLINE_EXCEEDED,
      `${functionName} (workflow ${workflowId}) did not answer within ${timeoutMs} ms (${stage}). Raise ` +
        'timeoutMs of the call or executionTimeoutMs of the module, or add workers.',
      { details: { functionName, workflowId, timeoutMs, stage }, retryable: true },
    );
  }
}

/** The worker of an at-most-once call was lost; the call is not run again. */
export class WorkerLostError extends FunctionsError {
  constructor(message: string, details: ErrorDetails) {
    super(ERROR_CODES.WORKER_LOST, message, { details });
  }
}

/** No worker is left of the generation that a call is bound to. */
export class GenerationGoneError extends FunctionsError {
  constructor(functionName: string, workflowId: string, generation: number) {
    super(
      ERROR_CODES.GENERATION_GONE,
      `${functionName} (workflow ${workflowId}) has no worker of generation ${generation} left: all were restarted ` +
        "since. Begin anew with atGeneration(), or let calls move on with generation: 'latest'.",
      { details: { functionName, workflowId, generation } },
    );
  }
}

/** A call lost its worker `maxDeliveries` times; it lies in the function's dead-letter stream. */
export class MaxDeliveriesError extends FunctionsError {
  constructor(message: string, details: ErrorDetails) {
    super(ERROR_CODES.MAX_DELIVERIES, message, { details });
  }
}

/** The function has `maxBacklog` calls waiting and running already; the call was not written. */
export class BacklogFullError extends FunctionsError {
  constructor(functionName: string, workflowId: string, backlog: number, maxBacklog: number) {
    super(
      ERROR_CODES.BACKLOG_FULL,
      `${functionName} (workflow ${workflowId}) has ${backlog} calls waiting and running, and maxBacklog is ` +
        `${maxBacklog}. Add workers, call more slowly, or raise maxBacklog.`,
      { details: { functionName, workflowId, backlog, maxBacklog }, retryable: true },
    );
  }
}

/** A call entry that a worker could not read. */
export class MalformedCallError extends FunctionsError {
  constructor(problem: string) {
    super(ERROR_CODES.MALFORMED_CALL, `A call entry cannot be read: ${problem}.`, {
      details: { problem },
    });
  }
}

/** Redis was lost while an at-most-once call was being written: it may or may not run. */
export class OutcomeUnknownError extends FunctionsError {
  constructor(functionName: string, workflowId: string, cause: unknown) {
    super(
      ERROR_CODES.OUTCOME_UNKNOWN,
      `The connection broke while ${functionName} (workflow ${workflowId}) was being written; it may run ` +
        "or not, and delivery 'at-most-once' forbids writing it again.",
      { details: { functionName, workflowId }, cause },
    );
  }
}

/** Reason of a handler's AbortSignal: another worker owns the call now. */
export class OwnershipLostError extends FunctionsError {
  constructor(callId: string) {
    super(
      ERROR_CODES.OWNERSHIP_LOST,
      `This process no longer owns call ${callId}: it was taken for dead and the call was handed over.`,
      { details: { callId } },
    );
  }
}

/** Reason of a handler's AbortSignal: it did not finish within `drainTimeoutMs`. */
export class DrainingError extends FunctionsError {
  constructor(callId: string, drainTimeoutMs: number) {
    super(
      ERROR_CODES.DRAINING,
      `Call ${callId} did not finish within drainTimeoutMs (${drainTimeoutMs}) and was handed back.`,
      { details: { callId, drainTimeoutMs }, retryable: true },
    );
  }
}

/** Redis cannot be reached, refuses this client, or did not answer in time. */
export class BackendUnavailableError extends FunctionsError {
  constructor(operation: string, where: string, cause?: unknown) {
    const options = { details: { operation, where }, retryable: true, cause };
    super(ERROR_CODES.BACKEND_UNAVAILABLE, unavailableText(operation, where, cause), options);
  }
}

function unavailableText(operation: string, where: string, cause: unknown): string {
  const problem = reasonOf(cause);
  const why = problem === undefined ? '' : ` (${problem})`;
  const place = backendPlace(where);
  if (isReply(cause))
    return (
      `${operation} failed: ${place} refuses this client${why}. Check user, password, permissions ` +
      'and database number in the connection option, or REDIS_URL; the library tries again by itself.'
    );
  const cure =
    backendName(where) === 'Redis'
      ? 'Check that it runs there and that the connection option, or REDIS_URL, names it, as rediss:// where it ' +
        'speaks TLS; the library reconnects by itself.'
      : 'The library tries again by itself.';
  return `${operation} got no answer from ${place}${why}. ${cure}`;
}

/** What Redis answers that does not pass by itself, and what can be done about it. */
const LASTING: Readonly<Record<string, string>> = {
  NOPERM:
    'Its user lacks a right: docs/security.md lists those that each kind of process needs; ACL LOG in Redis names ' +
    'the command, key or channel.',
  WRONGTYPE:
    'A key of the library holds what somebody else wrote: delete it, or set another keyPrefix.',
  ERR: '',
};
const PASSING: Readonly<Record<string, string>> = {
  OOM: 'It is full: raise its maxmemory, or take something out.',
  READONLY: 'It is a replica: name the primary in the connection option, or REDIS_URL.',
  MISCONF: 'It cannot write to its disk.',
  NOREPLICAS: 'It lacks replicas.',
  BUSY: 'It runs a script that does not end: SCRIPT KILL.',
  LOADING: 'It loads its data.',
  NOGROUP: 'The library makes the group again.',
};
const KINDS = new RegExp(`\\b(?:${Object.keys({ ...LASTING, ...PASSING }).join('|')})\\b`);

/**
 * Redis answered a command with an error: a right that its user lacks, a key of another type, no memory left.
 * What was asked for was not done.
 */
export class BackendRefusedError extends FunctionsError {
  /** First word of the answer, whichever way Redis tells it: `NOPERM`, `WRONGTYPE`, `OOM`, ... */
  readonly kind: string;

  constructor(operation: string, where: string, reply: string) {
    const kind = kindOf(reply);
    const cure = LASTING[kind] ?? PASSING[kind] ?? '';
    super(
      ERROR_CODES.BACKEND_REFUSED,
      `${operation} was refused by ${backendPlace(where)} (${reply}).${cure === '' ? '' : ` ${cure}`}`,
      { details: { operation, where, kind }, retryable: kind in PASSING },
    );
    this.kind = kind;
  }
}

/** Redis before 7.2 tells of a right that a script lacks as an ERR. */
function kindOf(reply: string): string {
  if (reply.includes('The user executing the script')) return 'NOPERM';
  return KINDS.exec(reply)?.[0] ?? 'ERR';
}

/** Whether Redis answered with an error: of this kind, when it is given. */
export function isRefused(error: unknown, kind?: string): error is BackendRefusedError {
  if (!isFunctionsError(error, ERROR_CODES.BACKEND_REFUSED)) return false;
  return kind === undefined || error.details['kind'] === kind;
}

function reasonOf(cause: unknown): string | undefined {
  if (typeof cause === 'string') return cause;
  if (!isError(cause)) return undefined;
  // An address that has several, none of which answers, gives an error without a message.
  if (cause.message !== '') return cause.message;
  const { code } = cause as { code?: unknown };
  return typeof code === 'string' ? code : cause.name;
}

/** An error that the server answered with, or its text: WRONGPASS, NOAUTH, ERR, NOPERM, ... */
function isReply(cause: unknown): boolean {
  if (typeof cause === 'string') return /^[A-Z]{3,} /.test(cause);
  return isError(cause) && cause.name === 'ReplyError';
}

/** The application is shutting down, or has; or what was waited on was ended. */
export class ClosedError extends FunctionsError {
  constructor(what: string, why = 'the application is shutting down') {
    super(ERROR_CODES.CLOSED, `${what} is closed: ${why}.`, {
      details: { what },
    });
  }
}

/**
 * An error that a handler throws to choose what its caller sees.
 *
 * @example
 * ```ts
 * throw new FunctionError('IMAGE_BROKEN', 'The image ends early', { details: { at: 812 }, retryable: false });
 * ```
 */
export class FunctionError extends FunctionsError {}

/** What a caller gets when the handler failed: the handler's code, message and details. */
export class RemoteFunctionError extends FunctionsError {
  /** The handler's stack, only when the worker was asked to send it (`exposeStacks`). */
  readonly remoteStack: string | undefined;
  /** Name of the error class on the worker. */
  readonly remoteName: string;

  constructor(
    readonly functionName: string,
    readonly workflowId: string,
    readonly callId: string,
    readonly workerId: string | undefined,
    remote: {
      code: string;
      message: string;
      name?: string;
      details?: ErrorDetails;
      retryable?: boolean;
      stack?: string;
    },
  ) {
    super(remote.code, remote.message, {
      details: remote.details ?? {},
      retryable: remote.retryable ?? false,
    });
    this.remoteName = remote.name ?? 'Error';
    this.remoteStack = remote.stack;
  }
}
