import { CALL_FIELDS, encodeCall } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { DeadLetterStore, RawDeadLetter } from '../dead-letter-store.js';
import { CallFields } from './call-fields.js';
import type { MemoryConnection } from './memory-connection.js';

/** Dead letters in the memory of this process. */
export class MemoryDeadLetterStore implements DeadLetterStore {
  constructor(private readonly connection: MemoryConnection) {}

  list(ref: FunctionRef, after: string, limit: number): Promise<RawDeadLetter[]> {
    return this.connection.run((space) => space.find(ref)?.letters.after(after, limit) ?? []);
  }

  requeue(ref: FunctionRef, id: string, ttlMs: number | undefined): Promise<string | undefined> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      const letter = fn?.letters.get(id);
      if (fn === undefined || letter === undefined) return undefined;
      const fields = againFields(new CallFields(id, letter.fields), ttlMs);
      const call = fn.queue.add(fields, space.now());
      fn.letters.remove(id);
      space.ring(fn);
      return call.id;
    });
  }

  remove(ref: FunctionRef, ids: readonly string[]): Promise<number> {
    return this.connection.run((space) => {
      const letters = space.find(ref)?.letters;
      return letters === undefined ? 0 : ids.filter((id) => letters.remove(id)).length;
    });
  }

  count(ref: FunctionRef): Promise<number> {
    return this.connection.run((space) => space.find(ref)?.letters.size ?? 0);
  }
}

/** A letter's call as if it were new, and with its history; nobody waits for its answer. */
function againFields(letter: CallFields, ttlMs: number | undefined): string[] {
  const { entry } = letter;
  const again = { replyTo: '', sentAt: undefined, again: false, bound: false };
  const text =
    entry === undefined
      ? (letter.get(CALL_FIELDS.call) ?? '')
      : encodeCall({ ...entry, ...again, ttlMs: ttlMs ?? entry.ttlMs });
  const history = letter.get(CALL_FIELDS.history);
  const kept = history === undefined ? [] : [CALL_FIELDS.history, history];
  return [CALL_FIELDS.call, text, ...kept];
}
