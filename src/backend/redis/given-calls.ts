import { CALL_FIELDS } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { RawCall } from '../call-streams.js';

type RefOf = (functionId: string) => FunctionRef | undefined;

/**
 * Ids of calls that were given to a session, and lie in its inbox, are `<milliseconds>-<number>@<session>`; those of calls
 * that were read from a stream end before the `@`. In the inbox a call goes by what stands before it.
 */
const BEFORE_SESSION = '@';
/** With this begins a text that tells of given calls. */
const GIVEN = '\t';
/** Parts of a longer text are copied: each of them keeps all of it in memory, as long as its call runs. */
const LONG_TEXT = 65_536;

/** Whether a call was given to the session that has it. */
export function isGiven(entryId: string): boolean {
  return entryId.includes(BEFORE_SESSION);
}

/** Whether a call was given to this session. */
export function isGivenTo(entryId: string, sessionId: string): boolean {
  return entryId.endsWith(sessionId) && entryId.at(-sessionId.length - 1) === BEFORE_SESSION;
}

/** Where a given call lies: in whose inbox, and in which of its fields. */
export function placeOf(entryId: string): { readonly sessionId: string; readonly field: string } {
  const end = entryId.indexOf(BEFORE_SESSION);
  return { sessionId: entryId.slice(end + 1), field: entryId.slice(0, end) };
}

/** The id of what lies in a field of a session's inbox. */
export function givenId(sessionId: string, field: string): string {
  return `${field}${BEFORE_SESSION}${sessionId}`;
}

/** Ids of calls that were given together, in their order; from that of the first. */
export function idsFrom(first: string, count: number): string[] {
  if (count === 1) return [first];
  const dash = first.indexOf('-') + 1;
  const end = first.indexOf(BEFORE_SESSION);
  const [head, tail] = [first.slice(0, dash), first.slice(end)];
  const number = Number(first.slice(dash, end));
  return Array.from({ length: count }, (_, index) => `${head}${number + index}${tail}`);
}

/** A call out of an inbox, from `<function id><tab><call>`. */
export function givenCall(line: string, entryId: string, refOf: RefOf): RawCall | undefined {
  const end = line.indexOf('\t');
  const ref = refOf(line.slice(0, end));
  return ref && { ref, entryId, fields: [CALL_FIELDS.call, line.slice(end + 1)] };
}

/** What a session is told by; see give.lua and pass.lua. */
export interface Told {
  /** Calls that were given to it. */
  readonly calls: RawCall[];
  /** Calls that are pending for it, and have to be looked at: their entry ids. */
  readonly pending: Map<FunctionRef, Set<string>>;
}

/** Reads texts by which a session is told. */
export function parseTold(texts: readonly string[], sessionId: string, refOf: RefOf): Told {
  const told: Told = { calls: [], pending: new Map() };
  for (const text of texts) {
    if (text.startsWith(GIVEN)) readGiven(text, sessionId, refOf, told.calls);
    else readPending(text, refOf, told.pending);
  }
  return told;
}

/** The field of the first on a line, and then the calls, a line each. */
function readGiven(text: string, sessionId: string, refOf: RefOf, calls: RawCall[]): void {
  let end = text.indexOf('\n');
  const dash = text.indexOf('-') + 1;
  const own = text.length > LONG_TEXT ? copyOf : asItIs;
  const head = own(text.slice(GIVEN.length, dash));
  let number = Number(text.slice(dash, end));
  while (end >= 0) {
    const begin = end + 1;
    end = text.indexOf('\n', begin);
    const line = own(end < 0 ? text.slice(begin) : text.slice(begin, end));
    const call = givenCall(line, givenId(sessionId, `${head}${number}`), refOf);
    number += 1;
    if (call !== undefined) calls.push(call);
  }
}

/** A text that shares no memory with another. */
function copyOf(text: string): string {
  return Buffer.from(text).toString();
}

function asItIs(text: string): string {
  return text;
}

/** Lines of `<function id><tab><entry id>`; what follows that comes of a version without inboxes. */
function readPending(text: string, refOf: RefOf, pending: Told['pending']): void {
  for (const line of text.split('\n')) {
    const [id = '', entryId = ''] = line.split('\t', 2);
    const ref = refOf(id);
    if (ref !== undefined) pending.set(ref, (pending.get(ref) ?? new Set()).add(entryId));
  }
}
