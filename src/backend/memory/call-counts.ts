interface Slot {
  readonly start: number;
  calls: number;
  failures: number;
}

/** Calls and failures of the last while, per tenth of a window. */
export class CallCounts {
  private slots: Slot[] = [];

  add(now: number, windowMs: number, calls: number, failures: number): void {
    this.forget(now, windowMs);
    const start = now - (now % Math.floor(windowMs / 10));
    const last = this.slots.at(-1);
    if (last?.start !== start) this.slots.push({ start, calls, failures });
    else {
      last.calls += calls;
      last.failures += failures;
    }
  }

  sum(now: number, windowMs: number): { readonly calls: number; readonly failures: number } {
    let [calls, failures] = [0, 0];
    for (const slot of this.slots) {
      if (!isWithin(slot, now, windowMs)) continue;
      calls += slot.calls;
      failures += slot.failures;
    }
    return { calls, failures };
  }

  clear(): void {
    this.slots = [];
  }

  private forget(now: number, windowMs: number): void {
    this.slots = this.slots.filter((slot) => isWithin(slot, now, windowMs));
  }
}

function isWithin({ start }: Slot, now: number, windowMs: number): boolean {
  return start > now - windowMs && start <= now;
}
