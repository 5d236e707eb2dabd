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
  /** Time left to the call, in milliseconds, from {@link CallSubmission.sentAt} on. */
  readonly ttlMs: number;
  /** Redis's clock when it was sent, if the caller knows that clock. */
  readonly sentAt: number | undefined;
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
  /** What its caller's tracing sent along, as it came: it is for tracing to read. */
  readonly trace: unknown;
}

/**
 * Names of the fields of an entry; one letter each, for they travel with every call. A new entry has one, or two with
 * an idempotency key: each field more is read, copied and thrown away by every process on its way. The others are
 * added by `release.lua`, `postpone.lua` and `bury.lua`.
 */
export const CALL_FIELDS = {
  /** {@link encodeCall}. */
  call: 'c',
  idempotencyKey: 'k',
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

/** Letters behind the version in an entry's head. */
const CALL_FLAGS = {
  /** At most once. */
  atMostOnce: 'm',
  /** Written again by its caller. */
  again: 'w',
} as const;

const MARKS = new RegExp(`^${CALL_VERSION}[a-z]*$`);

/** What the head of a call says. */
export type CallHead = Omit<CallSubmission, 'payload' | 'idempotencyKey'>;

/**
 * A call as one text: a head (version and flags, time to live, when it was sent or nothing, process to answer or
 * nothing, and call id, with a space between each and the next), a tab, and the payload. A tab or a line end can be
 * neither in a head nor in JSON. `lib/entry.lua` reads it, too.
 */
export function encodeCall(call: CallHead & Pick<CallSubmission, 'payload'>): string {
  return `${headOf(call)}${call.callId}\t${call.payload}`;
}

/** Calls, a line each; what neighbours have in common is put together once. */
export function encodeCalls(
  calls: readonly (CallHead & Pick<CallSubmission, 'payload'>)[],
): string {
  let text = '';
  let before: CallHead | undefined;
  let head = '';
  for (const call of calls) {
    const isAlike =
      before?.ttlMs === call.ttlMs &&
      before.sentAt === call.sentAt &&
      before.replyTo === call.replyTo &&
      before.delivery === call.delivery &&
      before.again === call.again;
    if (!isAlike) head = headOf(call);
    text += `${before === undefined ? '' : '\n'}${head}${call.callId}\t${call.payload}`;
    before = call;
  }
  return text;
}

function headOf(call: CallHead): string {
  const flags =
    (call.delivery === 'at-most-once' ? CALL_FLAGS.atMostOnce : '') +
    (call.again ? CALL_FLAGS.again : '');
  return `${CALL_VERSION}${flags} ${call.ttlMs} ${call.sentAt ?? ''} ${call.replyTo} `;
}

/**
 * How much later than it was sent an entry may be written before its time counts from when it was sent, in
 * milliseconds: Redis stood still, or was cut off, and a call's time runs meanwhile. Less is the clocks' own
 * inexactness.
 */
export const MAX_WRITE_DELAY_MS = 1_000;

/** The payload from parts that are JSON already. */
export function joinPayload(parameters: string, item: string, headers: string | undefined): string {
  return headers === undefined
    ? `{"p":${parameters},"i":${item}}`
    : `{"p":${parameters},"i":${item},"h":${headers}}`;
}

/** A payload of {@link joinPayload} with a trace beside what it has: headers are the application's own. */
export function withTrace(payload: string, trace: string): string {
  return `${payload.slice(0, -1)},"t":${trace}}`;
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
  let text: string | undefined;
  let attempt = 1;
  let failures = 0;
  let idempotencyKey: string | undefined;
  let origin: number | undefined;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const value = fields[i + 1] ?? '';
    switch (fields[i]) {
      case CALL_FIELDS.call:
        text = value;
        break;
      case CALL_FIELDS.attempt:
        attempt = Number(value);
        break;
      case CALL_FIELDS.failures:
        failures = Number(value);
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
  if (text === undefined) return { malformed: `it has no field ${CALL_FIELDS.call}` };
  if (!Number.isInteger(attempt) || attempt < 1)
    return { malformed: 'its attempt is not a number' };
  if (!Number.isInteger(failures) || failures < 0)
    return { malformed: 'its count of failures is not a number' };
  if (idempotencyKey !== undefined && !isIdempotencyKey(idempotencyKey))
    return { malformed: 'its idempotency key is none' };
  return readCall(text, { entryId, attempt, failures, idempotencyKey, origin });
}

/** When the time of a new entry began to run, on Redis's clock. */
function originOf(entryId: string, sentAt: number | undefined): number {
  const addedAt = entryTime(entryId);
  return sentAt !== undefined && addedAt - sentAt >= MAX_WRITE_DELAY_MS ? sentAt : addedAt;
}

/** A call's head and payload, as far as they can be read: it may be none at all. */
export function partsOf(fields: readonly string[]): {
  readonly callId: string;
  readonly replyTo: string;
  readonly payload: string;
} {
  const at = fields.findIndex((name, index) => index % 2 === 0 && name === CALL_FIELDS.call);
  const text = at < 0 ? '' : (fields[at + 1] ?? '');
  const tab = text.indexOf('\t');
  const head = tab < 0 ? text : text.slice(0, tab);
  const [, , , replyTo = '', ...callId] = head.split(' ');
  return { callId: callId.join(' '), replyTo, payload: tab < 0 ? '' : text.slice(tab + 1) };
}

/** What stands beside a call in its entry. */
interface BesideCall {
  readonly entryId: string;
  readonly attempt: number;
  readonly failures: number;
  readonly idempotencyKey: string | undefined;
  readonly origin: number | undefined;
}

/** Reads {@link encodeCall}. */
function readCall(
  text: string,
  { entryId, attempt, failures, idempotencyKey, origin }: BesideCall,
): CallEntry | Malformed {
  const end = text.indexOf('\t');
  if (end < 0) return { malformed: 'it has no payload' };
  const first = text.indexOf(' ');
  const second = text.indexOf(' ', first + 1);
  const third = text.indexOf(' ', second + 1);
  const fourth = text.indexOf(' ', third + 1);
  let marks = CALL_VERSION;
  // Nearly every call is of this version, and has no flags.
  if (first !== CALL_VERSION.length || !text.startsWith(CALL_VERSION)) {
    marks = text.slice(0, Math.min(end, first < 0 ? end : first));
    if (!MARKS.test(marks))
      return {
        malformed: `its version is ${quote(marks.slice(0, 20))}, this worker reads ${quote(CALL_VERSION)}`,
      };
  }
  if (first < 0 || second < 0 || third < 0 || fourth < 0 || fourth > end)
    return { malformed: 'its head is cut off' };
  const callId = text.slice(fourth + 1, end);
  if (callId === '') return { malformed: 'it has no call id' };
  if (!isCallId(callId))
    return {
      malformed: `its call id is longer than ${MAX_CALL_ID_LENGTH} characters, or not on one line`,
    };
  const replyTo = text.slice(third + 1, fourth);
  if (!PROCESS_ID.test(replyTo)) return { malformed: 'it does not say where to reply' };
  const ttlMs = second === first + 1 ? NaN : Number(text.slice(first + 1, second));
  if (!Number.isFinite(ttlMs)) return { malformed: 'it has no time to live' };
  const sentAt = third === second + 1 ? undefined : Number(text.slice(second + 1, third));
  if (sentAt !== undefined && !Number.isFinite(sentAt))
    return { malformed: 'it was sent at no time' };
  const submittedAt = origin ?? originOf(entryId, sentAt);
  if (!Number.isFinite(submittedAt)) return { malformed: 'its origin is not a time' };
  return {
    entryId,
    callId,
    replyTo,
    ttlMs,
    delivery: marks.includes(CALL_FLAGS.atMostOnce) ? 'at-most-once' : 'at-least-once',
    attempt,
    failures,
    again: marks.includes(CALL_FLAGS.again),
    idempotencyKey,
    submittedAt,
    deadline: submittedAt + ttlMs,
    payload: text.slice(end + 1),
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
  const { p: parameters, i: item, h: headers = {}, t: trace } = value;
  if (!isHeaders(headers)) return { malformed: 'its headers are no object of strings' };
  return { parameters, item, headers, trace };
}

function isHeaders(value: unknown): value is Record<string, string> {
  return isRecord(value) && Object.values(value).every((header) => typeof header === 'string');
}

/** The field of an entry of a reply stream: {@link encodeReplies}. */
export const REPLY_FIELD = 'r';

/** An answer on its way to a caller. */
export interface AddressedReply {
  readonly callId: string;
  /** As JSON. */
  readonly reply: string;
}

/**
 * Answers to calls of one process as one text: a line each, of call id, a tab and the answer. One field for all, for
 * each field is read, copied and thrown away by all on its way. `lib/tell.lua` writes it, too.
 */
export function encodeReplies(replies: readonly AddressedReply[]): string {
  let text = '';
  for (const { callId, reply } of replies)
    text += text === '' ? `${callId}\t${reply}` : `\n${callId}\t${reply}`;
  return text;
}

/** Reads {@link encodeReplies}; a line that is none has no call id. */
export function splitReplies(text: string): AddressedReply[] {
  const replies: AddressedReply[] = [];
  for (let from = 0; from <= text.length;) {
    const found = text.indexOf('\n', from);
    const end = found < 0 ? text.length : found;
    const tab = text.indexOf('\t', from);
    const isReply = tab >= 0 && tab < end;
    replies.push({
      callId: isReply ? text.slice(from, tab) : '',
      reply: text.slice(isReply ? tab + 1 : from, end),
    });
    from = end + 1;
  }
  return replies;
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
