import { ERROR_CODES, type ErrorDetails } from '../common/errors.js';
import { show } from '../common/text.js';
import { decodeJson, isRecord } from './json.js';

/** An error as it travels in a reply. */
export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly name?: string;
  readonly details?: ErrorDetails;
  readonly retryable?: boolean;
  readonly stack?: string;
}

const CODE = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;
const MAX_MESSAGE_LENGTH = 4_096;
const MAX_NAME_LENGTH = 256;
const MAX_DETAILS_LENGTH = 16_384;

/** What a worker sends of whatever its handler threw. */
export function toWireError(error: unknown, exposeStack: boolean): WireError {
  const wire = describeSafely(error);
  const stack = exposeStack ? stackOf(error) : undefined;
  return {
    ...wire,
    message: wire.message.slice(0, MAX_MESSAGE_LENGTH),
    ...(wire.name === undefined ? {} : { name: wire.name.slice(0, MAX_NAME_LENGTH) }),
    ...(stack === undefined ? {} : { stack }),
  };
}

function stackOf(error: unknown): string | undefined {
  try {
    const stack: unknown = error instanceof Error ? error.stack : undefined;
    return typeof stack === 'string' ? stack : undefined;
  } catch {
    return undefined;
  }
}

/** Whatever a handler throws is described: an error about the error would leave its call without an answer. */
function describeSafely(error: unknown): WireError {
  try {
    return describe(error);
  } catch {
    return {
      code: ERROR_CODES.HANDLER_FAILED,
      message: 'The handler threw an error that cannot be read',
    };
  }
}

function describe(error: unknown): WireError {
  if (!(error instanceof Error)) return describeThrownValue(error);
  const http = asHttpException(error);
  if (http !== undefined) return http;
  const rpc = asRpcException(error);
  if (rpc !== undefined) return rpc;
  const own = error as Error & { code?: unknown; details?: unknown; retryable?: unknown };
  return {
    code: codeOf(own.code),
    message: textOf(error.message),
    name: nameOf(error),
    ...detailsOf(own.details),
    ...(typeof own.retryable === 'boolean' ? { retryable: own.retryable } : {}),
  };
}

/** A thrown plain object that says code and message is taken at its word (filters throw such). */
function describeThrownValue(value: unknown): WireError {
  if (isRecord(value) && typeof value['message'] === 'string') {
    return {
      code: codeOf(value['code']),
      message: value['message'],
      ...detailsOf(value['details']),
      ...(typeof value['retryable'] === 'boolean' ? { retryable: value['retryable'] } : {}),
    };
  }
  return {
    code: ERROR_CODES.HANDLER_FAILED,
    message: typeof value === 'string' ? value : `The handler threw ${show(value)}`,
  };
}

/** Nest's HttpException by its shape, so that two copies of Nest do not matter. */
function asHttpException(error: Error): WireError | undefined {
  const candidate = error as Error & { getStatus?: () => unknown; getResponse?: () => unknown };
  if (typeof candidate.getStatus !== 'function' || typeof candidate.getResponse !== 'function')
    return undefined;
  const status: unknown = candidate.getStatus();
  const response: unknown = candidate.getResponse();
  return {
    code: `HTTP_${String(status)}`,
    message: textOf(error.message),
    name: nameOf(error),
    retryable: status === 429 || status === 503,
    ...detailsOf(isRecord(response) ? { status, ...response } : { status }),
  };
}

/** Nest's RpcException by its shape. */
function asRpcException(error: Error): WireError | undefined {
  const candidate = error as Error & { getError?: () => unknown };
  if (typeof candidate.getError !== 'function') return undefined;
  const inner: unknown = candidate.getError();
  if (isRecord(inner))
    return {
      name: nameOf(error),
      ...describeThrownValue({ message: textOf(error.message), ...inner }),
    };
  return {
    code: ERROR_CODES.HANDLER_FAILED,
    message: textOf(error.message),
    name: nameOf(error),
  };
}

/** The name that an error gives itself, else that of its class: most classes (RpcException, too) leave it at `Error`. */
function nameOf(error: Error): string {
  const name = textOf(error.name);
  return name === 'Error' ? textOf(error.constructor?.name ?? name) : name;
}

/** Nothing keeps a class from giving its message, or name, another type than a string. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : show(value);
}

function codeOf(code: unknown): string {
  return typeof code === 'string' && CODE.test(code) ? code : ERROR_CODES.HANDLER_FAILED;
}

function detailsOf(details: unknown): { details?: ErrorDetails } {
  if (!isRecord(details) || Object.keys(details).length === 0) return {};
  try {
    const text = JSON.stringify(details);
    if (text.length > MAX_DETAILS_LENGTH)
      return { details: { omitted: `details had ${text.length} characters` } };
    // Read as its receiver will read it: what would be refused there is left out here.
    return { details: decodeJson(text) as ErrorDetails };
  } catch {
    return { details: { omitted: 'details could not be serialised' } };
  }
}

/** An error from the wire; whatever is wrong with it becomes a readable error too. */
export function parseWireError(value: unknown): WireError {
  if (!isRecord(value) || typeof value['message'] !== 'string') {
    return {
      code: ERROR_CODES.HANDLER_FAILED,
      message: 'The worker sent an error without a message',
    };
  }
  return {
    code: codeOf(value['code']),
    message: value['message'],
    ...(typeof value['name'] === 'string' ? { name: value['name'] } : {}),
    ...(isRecord(value['details']) ? { details: value['details'] } : {}),
    ...(typeof value['retryable'] === 'boolean' ? { retryable: value['retryable'] } : {}),
    ...(typeof value['stack'] === 'string' ? { stack: value['stack'] } : {}),
  };
}
