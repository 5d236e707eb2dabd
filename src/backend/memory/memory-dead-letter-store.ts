import { CALL_FIELDS } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { DeadLetterStore, RawDeadLetter } from '../dead-letter-store.js';
import { EntryFields } from './entry-fields.js';
import type { MemoryConnection } from './memory-connection.js';

/** What a letter keeps of its call when it is called again. */
const KEPT = [
  CALL_FIELDS.version,
  CALL_FIELDS.callId,
  CALL_FIELDS.ttlMs,
  CALL_FIELDS.payload,
  CALL_FIELDS.atMostOnce,
  CALL_FIELDS.history,
];

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
      const old = new EntryFields(letter.fields);
      if (ttlMs !== undefined) old.set(CALL_FIELDS.ttlMs, ttlMs);
      const fields = KEPT.flatMap((name) => {
        const value = old.get(name);
        return value === undefined ? [] : [name, value];
      });
      const call = fn.queue.add([...fields, CALL_FIELDS.replyTo, ''], space.now());
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
