import { CALL_FIELDS, entryTime } from '../../protocol/call.js';
import { decodeJson } from '../../protocol/json.js';

const KEPT_FAILURES = 10;

/** Fields of an entry by name: a copy of its own, for what becomes another entry. */
export class EntryFields {
  private readonly byName = new Map<string, string>();

  constructor(flat: readonly string[]) {
    for (let at = 0; at + 1 < flat.length; at += 2)
      this.byName.set(flat[at] as string, flat[at + 1] as string);
  }

  get(name: string): string | undefined {
    return this.byName.get(name);
  }

  /** A count; `otherwise` when there is none, or something else. */
  count(name: string, otherwise: number): number {
    const value = Number(this.byName.get(name) ?? otherwise);
    return Number.isFinite(value) ? value : otherwise;
  }

  set(name: string, value: string | number): void {
    this.byName.set(name, String(value));
  }

  /** Keeps the time of the first submission, which the id tells as long as the entry is the first one. */
  keepOrigin(entryId: string): void {
    if (!this.byName.has(CALL_FIELDS.origin)) this.set(CALL_FIELDS.origin, entryTime(entryId));
  }

  /** One more line in the history of what went wrong, of which the last ten are kept. */
  note(failure: unknown): void {
    const history = [...this.history(), failure].slice(-KEPT_FAILURES);
    this.set(CALL_FIELDS.history, JSON.stringify(history));
  }

  flat(): string[] {
    return [...this.byName].flat();
  }

  private history(): readonly unknown[] {
    try {
      const history = decodeJson(this.byName.get(CALL_FIELDS.history) ?? '[]');
      return Array.isArray(history) ? (history as unknown[]) : [];
    } catch {
      return [];
    }
  }
}
