import type { Clock, Timer } from './clock.js';

/** What has a deadline; all of it is of {@link Deadlines}. */
export interface Expiring {
  /** By {@link Clock.elapsed}: a host's clock that is set makes nothing late. */
  expiresAt?: number | undefined;
  queue?: DeadlineQueue | undefined;
  earlier?: Expiring | undefined;
  later?: Expiring | undefined;
}

/** Items of one duration, which therefore stand in the order of their deadlines. */
interface DeadlineQueue {
  readonly durationMs: number;
  first: Expiring | undefined;
  last: Expiring | undefined;
  timer: Timer | undefined;
}

/**
 * Tells when deadlines pass, with one timer for all items of a duration: adding and removing one, which happens to
 * every call, costs no timer and no memory.
 *
 * A timer that goes off after its item was removed is set anew for the one that is first then, so it is never
 * cancelled for an item's sake.
 */
export class Deadlines<T extends Expiring> {
  private readonly queues = new Map<number, DeadlineQueue>();

  constructor(
    private readonly clock: Clock,
    /** Called once for an item whose deadline has passed; it is removed by then. */
    private readonly expire: (item: T) => void,
  ) {}

  /** @param durationMs from now to the item's deadline */
  add(item: T, durationMs: number): void {
    let queue = this.queues.get(durationMs);
    if (queue === undefined) {
      queue = { durationMs, first: undefined, last: undefined, timer: undefined };
      this.queues.set(durationMs, queue);
    }
    item.expiresAt = this.clock.elapsed() + durationMs;
    item.queue = queue;
    item.earlier = queue.last;
    if (queue.last === undefined) queue.first = item;
    else queue.last.later = item;
    queue.last = item;
    if (queue.timer === undefined) this.arm(queue, durationMs);
  }

  /** An item that is not there, or not any more, is none of its business. */
  remove(item: T): void {
    const { queue, earlier, later } = item;
    if (queue === undefined) return;
    if (earlier === undefined) queue.first = later;
    else earlier.later = later;
    if (later === undefined) queue.last = earlier;
    else later.earlier = earlier;
    item.queue = item.earlier = item.later = undefined;
  }

  /** Forgets all items. */
  clear(): void {
    for (const queue of this.queues.values()) queue.timer?.cancel();
    this.queues.clear();
  }

  private arm(queue: DeadlineQueue, ms: number): void {
    queue.timer = this.clock.after(ms, () => this.ring(queue));
  }

  private ring(queue: DeadlineQueue): void {
    const now = this.clock.elapsed();
    queue.timer = undefined;
    while (queue.first !== undefined && dueIn(queue.first, now) <= 0) {
      const item = queue.first as T;
      this.remove(item);
      this.expire(item);
    }
    // Who was told may have added another one, or cleared all.
    if (queue.timer !== undefined || this.queues.get(queue.durationMs) !== queue) return;
    if (queue.first !== undefined) this.arm(queue, dueIn(queue.first, now));
    else this.queues.delete(queue.durationMs);
  }
}

/** A timer may go off a fraction of a millisecond early. */
function dueIn({ expiresAt = 0 }: Expiring, now: number): number {
  return Math.floor(expiresAt - now);
}
