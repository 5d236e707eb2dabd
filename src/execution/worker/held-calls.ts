import type { RawCall } from '../../backend/call-streams.js';
import type { FunctionRef } from '../../protocol/function-ref.js';

type Place = Pick<RawCall, 'ref' | 'entryId'>;

/** No entry. */
const NONE = '';

/**
 * Entries that this process has: they wait for a place, run, or end and are not settled yet. One entry of a function is
 * held without a set, for the reason that `Roster` tells.
 */
export class HeldCalls {
  private byFunction = new Map<string, string | Set<string>>();

  has({ ref, entryId }: Place): boolean {
    const held = this.byFunction.get(ref.id);
    return typeof held === 'object' ? held.has(entryId) : held === entryId;
  }

  add({ ref, entryId }: Place): void {
    const held = this.byFunction.get(ref.id);
    if (typeof held === 'object') held.add(entryId);
    else if (held === undefined || held === NONE) this.byFunction.set(ref.id, entryId);
    else if (held !== entryId) this.byFunction.set(ref.id, new Set([held, entryId]));
  }

  delete({ ref, entryId }: Place): void {
    const held = this.byFunction.get(ref.id);
    if (typeof held === 'object' ? held.delete(entryId) && held.size === 0 : held === entryId)
      this.byFunction.set(ref.id, NONE);
  }

  clear(): void {
    this.byFunction.clear();
  }

  /** Those of a function. */
  of(ref: FunctionRef): string[] {
    const held = this.byFunction.get(ref.id) ?? NONE;
    if (typeof held === 'object') return [...held];
    return held === NONE ? [] : [held];
  }

  /** As they are now. */
  copy(): HeldCalls {
    const copy = new HeldCalls();
    for (const [id, held] of this.byFunction)
      copy.byFunction.set(id, typeof held === 'object' ? new Set(held) : held);
    return copy;
  }
}
