/** Hands over together what was added in one tick, for the floors: that is where their speed comes from. */
export class TickBatch<T> {
  private items: T[] = [];

  constructor(private readonly handle: (items: readonly T[]) => void) {}

  add(item: T): void {
    if (this.items.push(item) > 1) return;
    process.nextTick(() => {
      const items = this.items;
      this.items = [];
      this.handle(items);
    });
  }
}
