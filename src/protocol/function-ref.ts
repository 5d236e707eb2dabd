import { InvalidNameError } from '../common/errors.js';
import { quote, show } from '../common/text.js';

/** A function: a name inside a workflow. */
export interface FunctionRef {
  readonly functionName: string;
  readonly workflowId: string;
  /** Both names encoded and joined: unique per function, safe in keys, channels and hash tags. */
  readonly id: string;
}

/** Longest name in characters; what is above is refused (a name is an identifier, not a payload). */
export const MAX_NAME_LENGTH = 256;

/** Characters that would make a key, a channel, a glob pattern or a hash tag ambiguous. */
// eslint-disable-next-line no-control-regex -- control characters are what this is about
const AMBIGUOUS = /[:{}[\]*?\\%\s\u0000-\u001f\u007f-\u009f]/gu;

const INTERNED_LIMIT = 10_000;
const interned = new Map<string, Map<string, FunctionRef>>();
let internedCount = 0;

/**
 * Checks both names and gives the function's reference. References are cached, so a repeated call costs two
 * map look-ups; two references of one function have the same `id`, and need not be the same object.
 *
 * @throws InvalidNameError a name is no string, empty, longer than 256 characters, or no valid Unicode
 */
export function functionRef(functionName: string, workflowId: string): FunctionRef {
  const known = interned.get(workflowId)?.get(functionName);
  if (known !== undefined) return known;
  assertName('The function name', functionName);
  assertName('The workflowId', workflowId);
  const ref: FunctionRef = Object.freeze({
    functionName,
    workflowId,
    id: `${encodeName(functionName)}:${encodeName(workflowId)}`,
  });
  if (internedCount >= INTERNED_LIMIT) {
    interned.clear();
    internedCount = 0;
  }
  let names = interned.get(workflowId);
  if (names === undefined) {
    names = new Map<string, FunctionRef>();
    interned.set(workflowId, names);
  }
  names.set(functionName, ref);
  internedCount += 1;
  return ref;
}

/** A function for a line of a log. */
export function labelOf({ functionName, workflowId }: FunctionRef): string {
  return `${functionName} (workflow ${workflowId})`;
}

/**
 * Refuses what cannot be a name.
 *
 * @throws InvalidNameError
 */
export function assertName(what: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') {
    throw new InvalidNameError(what, show(value), 'it has to be a string');
  }
  if (value.length === 0)
    throw new InvalidNameError(what, '""', 'it has to have at least one character');
  if (value.length > MAX_NAME_LENGTH) {
    throw new InvalidNameError(
      what,
      quote(value),
      `it may have at most ${MAX_NAME_LENGTH} characters`,
    );
  }
  if (!isWellFormed(value)) {
    throw new InvalidNameError(
      what,
      quote(value),
      'it has to be valid Unicode (half a surrogate pair is in it)',
    );
  }
}

function isWellFormed(text: string): boolean {
  return !/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(text);
}

/** Percent-encodes what is ambiguous in a key or channel; a plain name comes back as it is. */
export function encodeName(name: string): string {
  return name.replace(AMBIGUOUS, (char) => {
    const code = char.charCodeAt(0);
    if (code > 0x7f) return encodeURIComponent(char);
    return `%${code.toString(16).toUpperCase().padStart(2, '0')}`;
  });
}

/** The inverse of {@link encodeName}; `undefined` when the text was not made by it. */
export function decodeName(text: string): string | undefined {
  try {
    const name = decodeURIComponent(text);
    return encodeName(name) === text ? name : undefined;
  } catch {
    return undefined;
  }
}
