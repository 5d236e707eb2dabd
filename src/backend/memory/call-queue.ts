import { compareIds, EntryIds } from './entry-ids.js';

/** A call that nobody settled yet. */
export interface QueuedCall {
  readonly id: string;
  readonly fields: readonly string[];
  /** Who has it; `undefined` while nobody has. */
  owner: string | undefined;
}

/**
 * A function's calls: a stream with one consumer group. A call is waiting (nobody took it), held (its consumer has
 * not settled it), or, when the group was destroyed under it, neither.
 */
export class CallQueue {
  private readonly calls = new Map<string, QueuedCall>();
  private readonly waiting = new Map<string, QueuedCall>();
  /**
   * Stays where it is while what is in front of it is taken: a new iterator would walk over the places of all that
   * were taken before.
   */
  private front = this.waiting.values();
  private readonly held = new Map<string, Map<string, QueuedCall>>();
  private readonly ids = new EntryIds();
  private grouped = false;

  /** Calls waiting and held. */
  get size(): number {
    return this.calls.size;
  }

  /** The one that was added first. */
  get first(): QueuedCall | undefined {
    return this.calls.values().next().value;
  }

  /** Calls that nobody has: those of a destroyed group, too. */
  get waitingCount(): number {
    let heldCount = 0;
    for (const calls of this.held.values()) heldCount += calls.size;
    return this.calls.size - heldCount;
  }

  get hasWaiting(): boolean {
    return this.waiting.size > 0;
  }

  get hasGroup(): boolean {
    return this.grouped;
  }

  /** @param fromStart whether the group reads what is there already; `false` when there was a group */
  makeGroup(fromStart: boolean): boolean {
    if (this.grouped) return false;
    this.grouped = true;
    if (fromStart) for (const [id, call] of this.calls) this.waiting.set(id, call);
    return true;
  }

  /** What was waiting or held is neither then. */
  destroyGroup(): void {
    this.grouped = false;
    this.waiting.clear();
    this.held.clear();
    for (const call of this.calls.values()) call.owner = undefined;
  }

  add(fields: readonly string[], now: number): QueuedCall {
    const call: QueuedCall = { id: this.ids.next(now), fields, owner: undefined };
    this.calls.set(call.id, call);
    if (this.grouped) this.waiting.set(call.id, call);
    return call;
  }

  get(id: string): QueuedCall | undefined {
    return this.calls.get(id);
  }

  /** The next calls, oldest first; they are the consumer's from here on. */
  take(consumer: string, count: number): QueuedCall[] {
    const taken: QueuedCall[] = [];
    while (taken.length < count && this.waiting.size > 0) {
      const next = this.front.next();
      if (next.done === true) {
        // An iterator that came to its end stays there.
        this.front = this.waiting.values();
        continue;
      }
      this.waiting.delete(next.value.id);
      this.hold(next.value, consumer);
      taken.push(next.value);
    }
    return taken;
  }

  heldBy(consumer: string): QueuedCall[] {
    const calls = [...(this.held.get(consumer)?.values() ?? [])];
    return calls.sort((one, other) => compareIds(one.id, other.id));
  }

  /** Gives a call that somebody holds to this consumer. */
  pass(call: QueuedCall, consumer: string): void {
    if (call.owner === undefined || call.owner === consumer) return;
    this.letGo(call);
    this.hold(call, consumer);
  }

  /** Takes a call that a destroyed group had; `false` when it is somebody's, or waits. */
  claim(id: string, consumer: string): boolean {
    const call = this.calls.get(id);
    if (!this.grouped || call === undefined || !this.isOrphan(call)) return false;
    this.hold(call, consumer);
    return true;
  }

  /** Calls that a destroyed group had and nobody claimed. */
  orphans(): QueuedCall[] {
    return this.all().filter((call) => this.isOrphan(call));
  }

  /** All calls, in the order of their ids. */
  all(): QueuedCall[] {
    return [...this.calls.values()];
  }

  remove(id: string): boolean {
    const call = this.calls.get(id);
    if (call === undefined) return false;
    this.letGo(call);
    this.waiting.delete(id);
    return this.calls.delete(id);
  }

  private isOrphan(call: QueuedCall): boolean {
    return call.owner === undefined && !this.waiting.has(call.id);
  }

  private hold(call: QueuedCall, consumer: string): void {
    call.owner = consumer;
    const calls = this.held.get(consumer);
    if (calls === undefined) this.held.set(consumer, new Map([[call.id, call]]));
    else calls.set(call.id, call);
  }

  private letGo(call: QueuedCall): void {
    if (call.owner === undefined) return;
    const calls = this.held.get(call.owner);
    calls?.delete(call.id);
    if (calls?.size === 0) this.held.delete(call.owner);
    call.owner = undefined;
  }
}
