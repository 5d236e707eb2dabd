import { isRecord } from '../protocol/json.js';

/** A word that somebody listens holds for so long. */
export const HOLD_MS = 3_000;
/** A listener that was announced by another process lately need not be announced once more. */
const FRESH_MS = 1_500;
/** Functions that one announcement names at the most; whoever listens to more listens to all. */
export const MAX_NAMED = 1_000;
const MAX_REMEMBERED = 10_000;

/** What is said on the channel of listeners. */
export interface Announcement {
  readonly type: 'listening';
  /** The process that says so. */
  readonly from: string;
  /** Ids of functions, or all. */
  readonly functions: 'all' | readonly string[];
  /** Whether it looks for bottlenecks, and wants to hear everybody's vitals. */
  readonly vitals: boolean;
}

/** Reads an announcement; what is none is nothing: whoever publishes it can publish anything. */
export function parseAnnouncement(data: unknown): Announcement | undefined {
  if (!isRecord(data) || data['type'] !== 'listening' || typeof data['from'] !== 'string')
    return undefined;
  const { from, functions } = data;
  const vitals = data['vitals'] === true;
  if (functions === 'all') return { type: 'listening', from, functions, vitals };
  if (!Array.isArray(functions) || functions.length > MAX_NAMED) return undefined;
  if (!functions.every((id) => typeof id === 'string')) return undefined;
  return { type: 'listening', from, functions, vitals };
}

const ALL = '';

interface Known {
  /** Until when somebody's word holds. */
  announcedUntil: number;
  /** Until when it is known that a subscriber is there who does not say so. */
  foundUntil: number;
}

/** Who listens to what, as far as this process knows. Everything in it is over after a few seconds. */
export class Listeners {
  private readonly known = new Map<string, Known>();
  private vitalsUntil = -Infinity;

  announced({ functions, vitals }: Announcement, now: number): void {
    if (vitals) this.vitalsUntil = now + HOLD_MS;
    for (const id of functions === 'all' ? [ALL] : functions)
      this.of(id).announcedUntil = now + HOLD_MS;
  }

  /** A subscriber was found by asking, or was the receiver of a publish. `undefined`: of all functions. */
  found(id: string | undefined, now: number, holdMs = HOLD_MS): void {
    const known = this.of(id ?? ALL);
    known.foundUntil = Math.max(known.foundUntil, now + holdMs);
  }

  isHeard(id: string, now: number): boolean {
    return this.isNow(this.known.get(ALL), now) || this.isNow(this.known.get(id), now);
  }

  /** Whether somebody looks for bottlenecks. */
  areVitalsHeard(now: number): boolean {
    return this.vitalsUntil > now;
  }

  /** Whether somebody listens to all functions. */
  isAllHeard(now: number): boolean {
    return this.isNow(this.known.get(ALL), now);
  }

  isAnyHeard(now: number): boolean {
    for (const [id, known] of this.known) {
      if (this.isNow(known, now)) return true;
      this.known.delete(id);
    }
    return false;
  }

  /** What others should be told: listeners that were found, and that nobody has announced lately. */
  untold(now: number): 'all' | string[] {
    const untold: string[] = [];
    const isFresh = (known: Known): boolean => known.announcedUntil > now + HOLD_MS - FRESH_MS;
    const all = this.known.get(ALL);
    if (all !== undefined && isFresh(all)) return [];
    for (const [id, known] of this.known) {
      if (known.foundUntil <= now || isFresh(known)) continue;
      if (id === ALL) return 'all';
      untold.push(id);
    }
    return untold.slice(0, MAX_NAMED);
  }

  clear(): void {
    this.known.clear();
  }

  private isNow(known: Known | undefined, now: number): boolean {
    return known !== undefined && (known.announcedUntil > now || known.foundUntil > now);
  }

  private of(id: string): Known {
    let known = this.known.get(id);
    if (known === undefined) {
      if (this.known.size >= MAX_REMEMBERED) this.known.clear();
      known = { announcedUntil: -Infinity, foundUntil: -Infinity };
      this.known.set(id, known);
    }
    return known;
  }
}
