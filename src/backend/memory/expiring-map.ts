import type { Clock } from '../../common/clock.js';

interface Expiring<V> {
  readonly value: V;
  endsAt: number;
}

/**
 * A map whose entries end on a clock. No timer: an entry that has ended is not found, and as many writes as there
 * are entries remove all that have ended, so those that nobody asks for are kept at most twice over.
 */
export class ExpiringMap<V> {
  private readonly entries = new Map<string, Expiring<V>>();
  private writes = 0;

  constructor(private readonly clock: Pick<Clock, 'now'>) {}

  /** Entries that are kept, those that have ended and were not asked for included. */
  get size(): number {
    return this.entries.size;
  }

  get(key: string): V | undefined {
    return this.live(key)?.value;
  }

  has(key: string): boolean {
    return this.live(key) !== undefined;
  }

  set(key: string, value: V, ttlMs: number): void {
    this.entries.set(key, { value, endsAt: this.clock.now() + ttlMs });
    this.writes += 1;
    if (this.writes > this.entries.size) this.sweep();
  }

  /** Lets an entry live this much longer; `false` when there is none. */
  touch(key: string, ttlMs: number): boolean {
    const entry = this.live(key);
    if (entry === undefined) return false;
    entry.endsAt = this.clock.now() + ttlMs;
    return true;
  }

  /** Milliseconds that an entry has left; 0 when there is none. */
  leftMs(key: string): number {
    const entry = this.live(key);
    return entry === undefined ? 0 : entry.endsAt - this.clock.now();
  }

  delete(key: string): boolean {
    const lives = this.has(key);
    this.entries.delete(key);
    return lives;
  }

  private live(key: string): Expiring<V> | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined || entry.endsAt > this.clock.now()) return entry;
    this.entries.delete(key);
    return undefined;
  }

  private sweep(): void {
    this.writes = 0;
    const now = this.clock.now();
    for (const [key, { endsAt }] of this.entries) if (endsAt <= now) this.entries.delete(key);
  }
}
