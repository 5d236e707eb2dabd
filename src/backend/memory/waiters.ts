/** Those who wait for something, in the order in which they began: who waits longest is served first. */
export class Waiters<W> {
  private readonly waiting = new Set<W>();

  add(waiter: W): void {
    this.waiting.add(waiter);
  }

  delete(waiter: W): void {
    this.waiting.delete(waiter);
  }

  first(): W | undefined {
    for (const waiter of this.waiting) return waiter;
    return undefined;
  }
}
