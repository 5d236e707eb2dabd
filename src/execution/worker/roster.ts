/** What a {@link Roster} writes on its members. */
export interface Listed<T> {
  before: T | undefined;
  after: T | undefined;
  isListed: boolean;
}

/** Of one that is on no list. */
export const UNLISTED = Object.freeze({ before: undefined, after: undefined, isListed: false });

/**
 * Members in the order in which they came, each on one list only: a Set without memory of its own. That is its point. What
 * a Set outgrew, or shrank from, keeps what was in it and leads to what follows it; once the garbage collector took one of
 * those for old, each call that came after grew old with it, until the next collection of everything. It happens by chance,
 * to calls that come and go in waves; docs/performance.md has what it cost.
 */
export class Roster<T extends Listed<T>> implements Iterable<T> {
  private head: T | undefined;
  private tail: T | undefined;
  private count = 0;

  get size(): number {
    return this.count;
  }

  /** Whose `after` is the next: to look at all without a copy, while nothing is added or removed. */
  get first(): T | undefined {
    return this.head;
  }

  has(member: T): boolean {
    return member.isListed;
  }

  add(member: T): void {
    if (member.isListed) return;
    member.isListed = true;
    member.before = this.tail;
    if (this.tail === undefined) this.head = member;
    else this.tail.after = member;
    this.tail = member;
    this.count += 1;
  }

  /** Whether it was there. */
  delete(member: T): boolean {
    if (!member.isListed) return false;
    const { before, after } = member;
    if (before === undefined) this.head = after;
    else before.after = after;
    if (after === undefined) this.tail = before;
    else after.before = before;
    member.before = member.after = undefined;
    member.isListed = false;
    this.count -= 1;
    return true;
  }

  clear(): void {
    for (const member of this) this.delete(member);
  }

  /** Those that are there now, whatever is added and removed meanwhile. */
  [Symbol.iterator](): IterableIterator<T> {
    const members: T[] = [];
    for (let member = this.head; member !== undefined; member = member.after) members.push(member);
    return members.values();
  }
}
