import { messageOf, quote } from '../common/text.js';
import { decodeJson, isRecord } from './json.js';
import type { Malformed } from './notification.js';
import { parseWireError, type WireError } from './wire-error.js';

/** How often a call may run. */
export type Delivery = 'at-least-once' | 'at-most-once';

/** Version of the entry format; a worker refuses others, so that unequal versions fail loudly. */
export const CALL_VERSION = '1';

/** A call as its caller submits it. */
export interface CallSubmission {
  readonly callId: string;
  /** The process whose reply stream gets the answer. */
  readonly replyTo: string;
  /** Time left to the call, in milliseconds; the deadline is the entry's id plus this, on Redis's clock. */
  readonly ttlMs: number;
  readonly delivery: Delivery;
  /** {@link joinPayload}. */
  readonly payload: string;
  /** Written before, and it is not known whether that arrived, or what became of it. */
  readonly again: boolean;
  readonly idempotencyKey: string | undefined;
}

/** A call as a worker reads it. */
export interface CallEntry {
  readonly entryId: string;
  readonly callId: string;
  readonly replyTo: string;
  readonly ttlMs: number;
  readonly delivery: Delivery;
  /** 1 for the first run, one more for each that followed, whatever the reason. */
  readonly attempt: number;
  /** How many of them the handler failed. */
  readonly failures: number;
  /** Written again by its caller: a worker may have run it before. */
  readonly again: boolean;
  readonly idempotencyKey: string | undefined;
  /** Redis's clock when the call was first submitted. */
  readonly submittedAt: number;
  /** Redis's clock when it expires. */
  readonly deadline: number;
  readonly payload: string;
}

/** What a call's payload holds. */
export interface CallPayload {
  readonly parameters: unknown;
  readonly item: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Names of the fields of an entry; one letter each, for they travel with every call. The scripts write them:
 * `submit.lua` and `submit-once.lua` when it is new, `release.lua`, `postpone.lua` and `dead-retry.lua` later.
 */
export const CALL_FIELDS = {
  version: 'v',
  callId: 'i',
  replyTo: 'r',
  ttlMs: 't',
  payload: 'p',
  idempotencyKey: 'k',
  /** Present: at most once. */
  atMostOnce: 'm',
  /** Present: written again by its caller. */
  again: 'w',
  attempt: 'a',
  /** How often the handler failed. */
  failures: 'f',
  /** How often its worker was lost. */
  losses: 'l',
  /** Redis's clock when the call was first submitted. */
  origin: 'o',
  /** What went wrong so far, as JSON. */
  history: 'h',
} as const;

/** The flags of a call, for the scripts that write it: names of fields that are there or not. */
export function callFlags(call: Pick<CallSubmission, 'delivery' | 'again'>): string {
  return (
    (call.delivery === 'at-most-once' ? CALL_FIELDS.atMostOnce : '') +
    (call.again ? CALL_FIELDS.again : '')
  );
}

/** The payload from parts that are JSON already. */
export function joinPayload(parameters: string, item: string, headers: string | undefined): string {
  return headers === undefined
    ? `{"p":${parameters},"i":${item}}`
    : `{"p":${parameters},"i":${item},"h":${headers}}`;
}

/**
 * What a process id looks like: a hand-written one cannot point a reply at a foreign key. Empty: nobody waits
 * for an answer.
 */
const PROCESS_ID = /^[A-Za-z0-9._%-]{0,200}$/;

/** Whether an answer can be sent to what an entry names. */
export function canBeAnswered(replyTo: string): boolean {
  return replyTo !== '' && PROCESS_ID.test(replyTo);
}

const MAX_CALL_ID_LENGTH = 256;
const MAX_IDEMPOTENCY_KEY_LENGTH = 256;

/** Whether a value can be a call's id, which stands in log lines as it is: short, and all on one line. */
export function isCallId(value: string): boolean {
  return value !== '' && value.length <= MAX_CALL_ID_LENGTH && !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(value);
}

/** Whether a value can be an idempotency key: a string of 1 to 256 characters. */
export function isIdempotencyKey(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_IDEMPOTENCY_KEY_LENGTH;
}

/** Reads an entry's envelope; its payload stays text until the call runs. */
export function parseCall(entryId: string, fields: readonly string[]): CallEntry | Malformed {
  let version: string | undefined;
  let callId: string | undefined;
  let replyTo: string | undefined;
  let ttl: string | undefined;
  let payload: string | undefined;
  let attempt = 1;
  let failures = 0;
  let again = false;
  let idempotencyKey: string | undefined;
  let origin: number | undefined;
  let delivery: Delivery = 'at-least-once';
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const value = fields[i + 1] ?? '';
    switch (fields[i]) {
      case CALL_FIELDS.version:
        version = value;
        break;
      case CALL_FIELDS.callId:
        callId = value;
        break;
      case CALL_FIELDS.replyTo:
        replyTo = value;
        break;
      case CALL_FIELDS.ttlMs:
        ttl = value;
        break;
      case CALL_FIELDS.payload:
        payload = value;
        break;
      case CALL_FIELDS.atMostOnce:
        delivery = 'at-most-once';
        break;
      case CALL_FIELDS.attempt:
        attempt = Number(value);
        break;
      case CALL_FIELDS.failures:
        failures = Number(value);
        break;
      case CALL_FIELDS.again:
        again = true;
        break;
      case CALL_FIELDS.idempotencyKey:
        idempotencyKey = value;
        break;
      case CALL_FIELDS.origin:
        origin = Number(value);
        break;
      default:
        break;
    }
  }
  if (version !== CALL_VERSION)
    return {
      malformed: `its version is ${version === undefined ? 'missing' : quote(version)}, this worker reads ${quote(CALL_VERSION)}`,
    };
  if (callId === undefined || callId === '') return { malformed: 'it has no call id' };
  if (!isCallId(callId))
    return {
      malformed: `its call id is longer than ${MAX_CALL_ID_LENGTH} characters, or not on one line`,
    };
  if (replyTo === undefined || !PROCESS_ID.test(replyTo))
    return { malformed: 'it does not say where to reply' };
  if (payload === undefined) return { malformed: 'it has no payload' };
  const ttlMs = Number(ttl);
  if (ttl === undefined || !Number.isFinite(ttlMs)) return { malformed: 'it has no time to live' };
  if (!Number.isInteger(attempt) || attempt < 1)
    return { malformed: 'its attempt is not a number' };
  if (!Number.isInteger(failures) || failures < 0)
    return { malformed: 'its count of failures is not a number' };
  if (idempotencyKey !== undefined && !isIdempotencyKey(idempotencyKey))
    return { malformed: 'its idempotency key is none' };
  const submittedAt = origin ?? entryTime(entryId);
  if (!Number.isFinite(submittedAt)) return { malformed: 'its origin is not a time' };
  return {
    entryId,
    callId,
    replyTo,
    ttlMs,
    delivery,
    attempt,
    failures,
    again,
    idempotencyKey,
    submittedAt,
    deadline: submittedAt + ttlMs,
    payload,
  };
}

/** Redis's clock when an entry was added. */
export function entryTime(entryId: string): number {
  return Number(entryId.slice(0, entryId.indexOf('-')));
}

/** Reads a call's payload. */
export function parseCallPayload(text: string): CallPayload | Malformed {
  let value: unknown;
  try {
    value = decodeJson(text);
  } catch (error) {
    return {
      malformed: `its payload cannot be read (${messageOf(error)})`,
    };
  }
  if (!isRecord(value)) return { malformed: 'its payload is not an object' };
  const { p: parameters, i: item, h: headers = {} } = value;
  if (!isHeaders(headers)) return { malformed: 'its headers are no object of strings' };
  return { parameters, item, headers };
}

function isHeaders(value: unknown): value is Record<string, string> {
  return isRecord(value) && Object.values(value).every((header) => typeof header === 'string');
}

/** An answer, final or not. */
export type Reply =
  | { readonly kind: 'result'; readonly data: unknown; readonly workerId: string | undefined }
  | {
      readonly kind: 'error';
      readonly error: WireError;
      readonly workerId: string | undefined;
      /** The library's own word about this call; absent for what a handler threw, whatever its code. */
      readonly verdict?: true;
    }
  | { readonly kind: 'progress'; readonly value: unknown }
  /** The call was handed over and has another entry id now. */
  | { readonly kind: 'moved'; readonly entryId: string };

/** A result as JSON; `data` is JSON already. */
export function encodeResult(data: string, workerId: string): string {
  return `{"k":"r","d":${data},"w":${JSON.stringify(workerId)}}`;
}

/** A failure as JSON. A handler may throw any code; what the library itself says of a call is marked. */
export function encodeFailure(error: WireError, workerId: string, verdict = false): string {
  return JSON.stringify({ k: 'e', e: error, w: workerId, ...(verdict ? { o: 1 } : {}) });
}

/** A progress value as JSON; `value` is JSON already. */
export function encodeProgress(value: string): string {
  return `{"k":"p","d":${value}}`;
}

/** Reads a reply. */
export function parseReply(text: string): Reply | Malformed {
  let value: unknown;
  try {
    value = decodeJson(text);
  } catch {
    return { malformed: 'it is not JSON' };
  }
  if (!isRecord(value)) return { malformed: 'it is not an object' };
  const workerId = typeof value['w'] === 'string' ? value['w'] : undefined;
  switch (value['k']) {
    case 'r':
      return { kind: 'result', data: value['d'], workerId };
    case 'e':
      return {
        kind: 'error',
        error: parseWireError(value['e']),
        workerId,
        ...(value['o'] === 1 ? { verdict: true as const } : {}),
      };
    case 'p':
      return { kind: 'progress', value: value['d'] };
    case 'm':
      return { kind: 'moved', entryId: String(value['d']) };
    default:
      return { malformed: 'its kind is unknown' };
  }
}
