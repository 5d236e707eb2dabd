import { types } from 'node:util';

/** A value for an error text: its kind and a short, printable form; never longer than about 80 characters. */
export function show(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return quote(value);
    case 'function':
      return `a function${value.name === '' ? '' : ` (${value.name})`}`;
    case 'bigint':
      return `${value}n`;
    case 'symbol':
      return 'a symbol';
    case 'object':
      if (value === null) return 'null';
      if (Array.isArray(value)) return `an array of ${value.length}`;
      return `an object of ${value.constructor?.name ?? 'no class'}`;
    default:
      return String(value);
  }
}

/** A string in quotes, control characters escaped, cut at 60 characters. */
export function quote(text: string): string {
  const cut = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  const suffix = text.length > 60 ? ` (${text.length} characters)` : '';
  return `${JSON.stringify(cut)}${suffix}`;
}

/** What a backend is called in a text: `Redis`, or, of another one, its address. */
export function backendName(address: string): string {
  return isRedis(address) ? 'Redis' : address;
}

/** The same with where it is: `Redis at redis://127.0.0.1:6379`. */
export function backendPlace(address: string): string {
  return isRedis(address) ? `Redis at ${address}` : address;
}

/** An URL, or the path of a socket. */
function isRedis(address: string): boolean {
  return /^(rediss?:\/)?\//.test(address);
}

/** Whether a value is an error, of whichever realm: what Node makes is no `Error` of a Jest test, or of a vm context. */
export function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value);
}

/** A text from outside that stands in a line of a log: control characters escaped, cut at 256 characters. */
export function oneLine(text: string): string {
  const cut = text.length > 256 ? `${text.slice(0, 256)}…` : text;
  return cut.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, (character) =>
    character === '\n' ? '\\n' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  // What a handler throws may have getters, or be a Proxy, that throw again.
  try {
    return isError(error) ? String(error.message) : show(error);
  } catch {
    return 'an error that cannot be read';
  }
}

/**
 * A connection address without its password: for logs, errors and health bodies. Up to the last `@` all may
 * be a password: one that was not encoded holds slashes and `@`, and a mistyped address has no scheme.
 */
export function redactUrl(url: string): string {
  return url
    .replace(/^([a-z+]+:\/\/)?[^]*@/i, '$1***@')
    .replace(/([?&][^=&]*(?:pass|auth|token|secret)[^=&]*=)[^&]*/gi, '$1***');
}
