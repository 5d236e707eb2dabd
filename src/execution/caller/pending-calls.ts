/** Empty, it lets go of the memory for more calls than this. */
const KEPT_SLOTS = 10_000;

/**
 * Calls by their id, in the order in which they were made. The map holds numbers, and the calls lie beside it: what a map
 * outgrew, or shrank from, keeps what was in it and leads to what follows it, and calls that come and go in waves would
 * grow old with it in the garbage collector; docs/performance.md has what that cost.
 */
export class PendingCalls<T extends { readonly callId: string }> implements Iterable<T> {
  private readonly slots = new Map<string, number>();
  private calls: (T | undefined)[] = [];
  private free: number[] = [];

  get size(): number {
    return this.slots.size;
  }

  has({ callId }: T): boolean {
    return this.slots.has(callId);
  }

  get(callId: string): T | undefined {
    const slot = this.slots.get(callId);
    return slot === undefined ? undefined : this.calls[slot];
  }

  /** One whose id is not there. */
  add(call: T): void {
    const slot = this.free.pop() ?? this.calls.length;
    this.calls[slot] = call;
    this.slots.set(call.callId, slot);
  }

  /** Whether it was there. */
  delete({ callId }: T): boolean {
    const slot = this.slots.get(callId);
    if (slot === undefined) return false;
    this.slots.delete(callId);
    this.calls[slot] = undefined;
    this.free.push(slot);
    if (this.slots.size === 0 && this.calls.length > KEPT_SLOTS) {
      this.calls = [];
      this.free = [];
    }
    return true;
  }

  /** Those that are there now, whatever is added and removed meanwhile. */
  [Symbol.iterator](): IterableIterator<T> {
    return [...this.slots.values()].map((slot) => this.calls[slot] as T).values();
  }
}
