/**
 * Ids of entries as Redis Streams make them: the clock's milliseconds, and a number in each. They only grow, also
 * when the clock steps back.
 */
export class EntryIds {
  private lastMs = 0;
  private count = 0;

  next(now: number): string {
    if (now > this.lastMs) {
      this.lastMs = now;
      this.count = 0;
    } else this.count += 1;
    return `${this.lastMs}-${this.count}`;
  }
}

/** The order of two ids: negative when the first is the older one. */
export function compareIds(one: string, other: string): number {
  const [time, count] = partsOf(one);
  const [otherTime, otherCount] = partsOf(other);
  return time - otherTime || count - otherCount;
}

function partsOf(id: string): readonly [time: number, count: number] {
  const [time = '0', count = '0'] = id.split('-');
  return [Number(time), Number(count)];
}
