import { DEAD_LETTER_CAP } from '../limits.js';
import type { RawDeadLetter } from '../dead-letter-store.js';
import { compareIds, EntryIds } from './entry-ids.js';

/** A function's dead letters, oldest first; of more than the cap the oldest go. */
export class Letters {
  private readonly letters = new Map<string, RawDeadLetter>();
  private readonly ids = new EntryIds();

  get size(): number {
    return this.letters.size;
  }

  add(fields: readonly string[], now: number): RawDeadLetter {
    const letter = { id: this.ids.next(now), fields };
    this.letters.set(letter.id, letter);
    if (this.letters.size > DEAD_LETTER_CAP) this.dropOldest();
    return letter;
  }

  get(id: string): RawDeadLetter | undefined {
    return this.letters.get(id);
  }

  remove(id: string): boolean {
    return this.letters.delete(id);
  }

  /** Those after an id; `''`: from the oldest on. */
  after(id: string, limit: number): RawDeadLetter[] {
    const found: RawDeadLetter[] = [];
    for (const letter of this.letters.values()) {
      if (found.length >= limit) break;
      if (id === '' || compareIds(letter.id, id) > 0) found.push(letter);
    }
    return found;
  }

  private dropOldest(): void {
    for (const oldest of this.letters.keys()) {
      this.letters.delete(oldest);
      break;
    }
  }
}
