/** A call that waits for another attempt. */
export interface AsideCall {
  /** Its entry id before it was put aside. */
  readonly id: string;
  readonly dueAt: number;
  readonly fields: readonly string[];
}

/** Calls that were put aside, in the order in which they are due. */
export class Aside {
  private readonly byId = new Map<string, AsideCall>();
  private readonly inOrder: AsideCall[] = [];

  get size(): number {
    return this.byId.size;
  }

  /** When the first one is due. */
  get firstDueAt(): number | undefined {
    return this.inOrder[0]?.dueAt;
  }

  add(call: AsideCall): void {
    this.byId.set(call.id, call);
    this.inOrder.splice(this.positionAfter(call.dueAt), 0, call);
  }

  remove(id: string): boolean {
    const call = this.byId.get(id);
    if (call === undefined) return false;
    this.byId.delete(id);
    const position = this.inOrder.lastIndexOf(call, this.positionAfter(call.dueAt) - 1);
    this.inOrder.splice(position, 1);
    return true;
  }

  /** Takes out what is due, the first ones first. */
  takeDue(now: number, limit: number): AsideCall[] {
    const due = this.inOrder.splice(0, Math.min(limit, this.positionAfter(now)));
    for (const { id } of due) this.byId.delete(id);
    return due;
  }

  /** Behind all that are due then or before. */
  private positionAfter(dueAt: number): number {
    let from = 0;
    let to = this.inOrder.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.inOrder[middle] as AsideCall).dueAt <= dueAt) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
