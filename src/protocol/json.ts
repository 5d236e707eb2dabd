import { PayloadNotSerializableError, PayloadTooLargeError } from '../common/errors.js';
import { messageOf, show } from '../common/text.js';

/** Deepest nesting that a payload may have; a cycle is found by running past it. */
export const MAX_DEPTH = 200;

/**
 * A value as JSON, refused where JSON would lose or change something without a word: functions, symbols,
 * BigInt, NaN and infinities (boxed ones too), an invalid Date, cycles, an own `__proto__`, and objects whose contents JSON does not see
 * (Map, Set, Promise, Error, RegExp, binary data). A property that is `undefined` is left out, and an object
 * with `toJSON` (a Date) speaks for itself, as everywhere in JavaScript; what it says is held to the same.
 *
 * @param what name of the value in errors: `parameters`, `item`
 * @param isOption whether the limit is the option `maxPayloadBytes`, for the error
 * @throws PayloadNotSerializableError, PayloadTooLargeError
 */
export function encodeJson(
  what: string,
  value: unknown,
  maxBytes: number,
  isOption = true,
): string {
  let text: string | undefined;
  try {
    // Only what an own toJSON brings has to be looked at while it is written: the walk does not call it.
    text = assertJson(value, what, 0)
      ? JSON.stringify(value, (key, part: unknown) => {
          assertWritten(part, key === '' ? what : `${what}, ${key}`);
          return part;
        })
      : JSON.stringify(value);
  } catch (error) {
    if (error instanceof PayloadNotSerializableError) throw error;
    throw new PayloadNotSerializableError(
      what,
      messageOf(error),
      'make its toJSON and getters work',
    );
  }
  if (text === undefined) return 'null';
  // A toJSON can bring what the walk has not seen, and the other side refuses it.
  if ((text.includes('__proto__') || text.includes('\\u00')) && bringsProto(JSON.parse(text))) {
    throw new PayloadNotSerializableError(
      what,
      'it has an own property __proto__',
      'leave that property out',
    );
  }
  // A UTF-16 unit is at most 3 bytes of UTF-8: short texts need no counting.
  if (text.length * 3 > maxBytes) {
    const bytes = Buffer.byteLength(text);
    if (bytes > maxBytes) throw new PayloadTooLargeError(what, bytes, maxBytes, isOption);
  }
  return text;
}

/** Whether somewhere in the value is an own `toJSON`, whose result is still to be checked. */
function assertJson(value: unknown, path: string, depth: number): boolean {
  assertScalar(value, path);
  return typeof value === 'object' && value !== null && assertJsonObject(value, path, depth);
}

function assertScalar(value: unknown, path: string): void {
  if (typeof value === 'number' && !Number.isFinite(value))
    throw new PayloadNotSerializableError(path, `it is ${value}`, 'send null or a string instead');
  if (typeof value === 'bigint')
    throw new PayloadNotSerializableError(path, 'it is a BigInt', 'send it as a string');
  if (typeof value === 'function' || typeof value === 'symbol')
    throw new PayloadNotSerializableError(path, `it is ${show(value)}`, 'send data only');
}

function assertJsonObject(value: object, path: string, depth: number): boolean {
  if (depth >= MAX_DEPTH) {
    throw new PayloadNotSerializableError(
      path.length > 80 ? `${path.slice(0, 80)}…` : path,
      `it is nested deeper than ${MAX_DEPTH} levels, or contains itself`,
      'send a tree without references back',
    );
  }
  let speaks = false;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) {
      const element: unknown = value[i];
      if (typeof element !== 'string' && assertJson(element, `${path}[${i}]`, depth + 1))
        speaks = true;
    }
    return speaks;
  }
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
    if (!(value instanceof Date)) return true;
    // The toJSON of a date that is none gives null.
    if (!Number.isNaN(value.getTime())) return false;
    throw new PayloadNotSerializableError(path, 'it is an invalid Date', 'send null instead');
  }
  assertTransparent(value, path);
  for (const key of Object.keys(value)) {
    if (key === '__proto__') {
      throw new PayloadNotSerializableError(
        path,
        'it has an own property __proto__',
        'leave that property out',
      );
    }
    const property = (value as Record<string, unknown>)[key];
    if (typeof property !== 'string' && assertJson(property, `${path}.${key}`, depth + 1))
      speaks = true;
  }
  return speaks;
}

/** What an own `toJSON` brought. */
function assertWritten(part: unknown, path: string): void {
  assertScalar(part, path);
  if (typeof part === 'object' && part !== null) assertTransparent(part, path);
}

function assertTransparent(value: object, path: string): void {
  const cure = isPlain(value) ? undefined : cureOfOpaque(value);
  if (cure !== undefined) throw new PayloadNotSerializableError(path, `it is ${show(value)}`, cure);
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** What to send instead of an object that JSON would show as `{}`, as `null`, or as a list of bytes by number. */
function cureOfOpaque(value: object): string | undefined {
  if (value instanceof Map || value instanceof Set) return 'send [...it] instead';
  if (value instanceof Promise) return 'await it first';
  if (value instanceof Error) return 'send its message and code';
  if (value instanceof RegExp) return 'send its source';
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer)
    return "send Buffer.from(it).toString('base64')";
  if (value instanceof Number && !Number.isFinite(value.valueOf()))
    return 'send null or a string instead';
  return undefined;
}

/**
 * JSON from the wire. Text that would bring an own `__proto__` (which a later merge turns into a polluted
 * prototype) is refused like text that is no JSON.
 *
 * @throws SyntaxError without a word of the text: errors are logged, payloads never
 */
export function decodeJson(text: string): unknown {
  const value = parse(text);
  // An escaped spelling contains a \u005f or \u0070: only then is the walk needed.
  if ((text.includes('__proto__') || text.includes('\\u00')) && bringsProto(value))
    throw new SyntaxError('it has a property __proto__');
  return value;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The engine's message quotes the text.
    throw new SyntaxError('it is not JSON');
  }
}

function bringsProto(root: unknown): boolean {
  const open: unknown[] = [root];
  while (open.length > 0) {
    const value = open.pop();
    if (typeof value !== 'object' || value === null) continue;
    if (Object.hasOwn(value, '__proto__')) return true;
    for (const child of Object.values(value)) open.push(child);
  }
  return false;
}

/** Whether a value is an object with named members (no array, not null). */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether a value is a number as a counter or a time has it: finite, and not below zero. */
export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

/** Whether all of these members are counts. */
export function hasCounts(value: Record<string, unknown>, fields: readonly string[]): boolean {
  return fields.every((field) => isCount(value[field]));
}
