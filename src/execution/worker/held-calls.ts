import type { RawCall } from '../../backend/call-streams.js';
import type { FunctionRef } from '../../protocol/function-ref.js';

type Place = Pick<RawCall, 'ref' | 'entryId'>;

/** Entries that this process has: they wait for a place, run, or end and are not settled yet. */
export class HeldCalls {
  private byFunction = new Map<string, Set<string>>();

  has({ ref, entryId }: Place): boolean {
    return this.byFunction.get(ref.id)?.has(entryId) ?? false;
  }

  add({ ref, entryId }: Place): void {
    const entries = this.byFunction.get(ref.id);
    if (entries === undefined) this.byFunction.set(ref.id, new Set([entryId]));
    else entries.add(entryId);
  }

  delete({ ref, entryId }: Place): void {
    this.byFunction.get(ref.id)?.delete(entryId);
  }

  clear(): void {
    this.byFunction.clear();
  }

  /** Those of a function. */
  of(ref: FunctionRef): string[] {
    return [...(this.byFunction.get(ref.id) ?? [])];
  }

  /** As they are now. */
  copy(): HeldCalls {
    const copy = new HeldCalls();
    for (const [id, entries] of this.byFunction) copy.byFunction.set(id, new Set(entries));
    return copy;
  }
}
