import { CALL_FIELDS, entryTime, parseCallPayload, partsOf } from './call.js';
import { decodeJson, isRecord } from './json.js';
import { isMalformed } from './notification.js';

/** One thing that went wrong with a call before it was given up. */
export interface CallFailure {
  /** Redis's clock, milliseconds since the epoch. */
  readonly at: number;
  readonly attempt: number;
  /** `WORKER_LOST`, or the code of the handler's error. */
  readonly code: string;
  readonly message: string;
  /** The worker, or the session that was lost. */
  readonly worker: string;
}

/** A call that was given up. */
export interface DeadLetter {
  /** Names it for `retry` and `remove`; its time is when the call was given up. */
  readonly id: string;
  readonly callId: string;
  /** `MAX_DELIVERIES`: its workers were lost. `RETRIES_EXHAUSTED`: its handler failed. */
  readonly reason: string;
  /** Runs that it had. */
  readonly attempts: number;
  /** Redis's clock when its caller submitted it, milliseconds since the epoch. */
  readonly submittedAt: number;
  /** Redis's clock when it was given up. */
  readonly givenUpAt: number;
  readonly parameters: unknown;
  readonly item: unknown;
  readonly headers: Readonly<Record<string, string>>;
  /** The last ten things that went wrong, oldest first. */
  readonly failures: readonly CallFailure[];
}

/** Reads a dead letter; what is wrong with it is left empty, for it should be seen all the same. */
export function parseDeadLetter(id: string, fields: readonly string[]): DeadLetter {
  const byName = new Map<string, string>();
  for (let i = 0; i + 1 < fields.length; i += 2) byName.set(fields[i] ?? '', fields[i + 1] ?? '');
  const parts = partsOf(fields);
  const payload = parseCallPayload(parts.payload);
  const { parameters, item, headers } = isMalformed(payload)
    ? { parameters: undefined, item: undefined, headers: {} }
    : payload;
  const givenUpAt = entryTime(id);
  return {
    id,
    callId: parts.callId,
    reason: byName.get('reason') ?? '',
    attempts: Number(byName.get(CALL_FIELDS.attempt) ?? '1'),
    submittedAt: Number(byName.get(CALL_FIELDS.origin) ?? givenUpAt),
    givenUpAt,
    parameters,
    item,
    headers,
    failures: failuresOf(byName.get(CALL_FIELDS.history)),
  };
}

function failuresOf(history: string | undefined): CallFailure[] {
  if (history === undefined) return [];
  try {
    const list = decodeJson(history);
    return Array.isArray(list) ? list.filter(isRecord).map(toFailure) : [];
  } catch {
    return [];
  }
}

function toFailure(value: Readonly<Record<string, unknown>>): CallFailure {
  const text = (name: string): string => {
    const found = value[name];
    return typeof found === 'string' ? found : '';
  };
  return {
    at: Number(value['at']),
    attempt: Number(value['attempt']),
    code: text('code'),
    message: text('message'),
    worker: text('worker'),
  };
}
