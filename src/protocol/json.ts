import { PayloadNotSerializableError, PayloadTooLargeError } from '../common/errors.js';
import { messageOf, show } from '../common/text.js';

/** Deepest nesting that a payload may have; a cycle is found by running past it. */
export const MAX_DEPTH = 200;

/**
 * A value as JSON, refused where JSON would lose or change something without a word: functions, symbols,
 * BigInt, NaN and infinities, Map and Set, cycles, an own `__proto__`. A property that is `undefined` is
 * left out, and an object with `toJSON` (a Date) speaks for itself, as everywhere in JavaScript.
 *
 * @param what name of the value in errors: `parameters`, `item`
 * @throws PayloadNotSerializableError, PayloadTooLargeError
 */
export function encodeJson(what: string, value: unknown, maxBytes: number): string {
  assertJson(value, what, 0);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new PayloadNotSerializableError(
      what,
      messageOf(error),
      'make its toJSON and getters work',
    );
  }
  if (text === undefined) return 'null';
  // A UTF-16 unit is at most 3 bytes of UTF-8: short texts need no counting.
  if (text.length * 3 > maxBytes) {
    const bytes = Buffer.byteLength(text);
    if (bytes > maxBytes) throw new PayloadTooLargeError(what, bytes, maxBytes);
  }
  return text;
}

function assertJson(value: unknown, path: string, depth: number): void {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined':
      return;
    case 'number':
      if (Number.isFinite(value)) return;
      throw new PayloadNotSerializableError(
        path,
        `it is ${value}`,
        'send null or a string instead',
      );
    case 'bigint':
      throw new PayloadNotSerializableError(path, 'it is a BigInt', 'send it as a string');
    case 'function':
    case 'symbol':
      throw new PayloadNotSerializableError(path, `it is ${show(value)}`, 'send data only');
    case 'object':
      if (value !== null) assertJsonObject(value, path, depth);
  }
}

function assertJsonObject(value: object, path: string, depth: number): void {
  if (depth >= MAX_DEPTH) {
    throw new PayloadNotSerializableError(
      path.length > 80 ? `${path.slice(0, 80)}…` : path,
      `it is nested deeper than ${MAX_DEPTH} levels, or contains itself`,
      'send a tree without references back',
    );
  }
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) {
      const element: unknown = value[i];
      if (typeof element !== 'string') assertJson(element, `${path}[${i}]`, depth + 1);
    }
    return;
  }
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') return;
  if (value instanceof Map || value instanceof Set) {
    throw new PayloadNotSerializableError(
      path,
      `it is a ${value.constructor.name}`,
      'send [...it] instead',
    );
  }
  for (const key of Object.keys(value)) {
    if (key === '__proto__') {
      throw new PayloadNotSerializableError(
        path,
        'it has an own property __proto__',
        'leave that property out',
      );
    }
    const property = (value as Record<string, unknown>)[key];
    if (typeof property !== 'string') assertJson(property, `${path}.${key}`, depth + 1);
  }
}

/**
 * JSON from the wire. Text that would bring an own `__proto__` (which a later merge turns into a polluted
 * prototype) is refused like text that is no JSON.
 *
 * @throws SyntaxError
 */
export function decodeJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  // An escaped spelling contains a \u005f or \u0070: only then is the walk needed.
  if (text.includes('__proto__') || text.includes('\\u00')) refuseProto(value);
  return value;
}

function refuseProto(root: unknown): void {
  const open: unknown[] = [root];
  while (open.length > 0) {
    const value = open.pop();
    if (typeof value !== 'object' || value === null) continue;
    if (Object.hasOwn(value, '__proto__')) throw new SyntaxError('it has a property __proto__');
    for (const child of Object.values(value)) open.push(child);
  }
}

/** Whether a value is an object with named members (no array, not null). */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
