import { isRecord } from '../protocol/json.js';

/** A word that somebody listens holds for so long. */
export const HOLD_MS = 3_000;
/** A listener that was announced by another process lately need not be announced once more. */
const FRESH_MS = 1_500;
/** Subjects that one announcement names at the most; whoever listens to more functions listens to all. */
export const MAX_NAMED = 1_000;
const MAX_REMEMBERED = 10_000;

/** What is said on the channel of listeners. */
export interface Announcement {
  readonly type: 'listening';
  /** The process that says so. */
  readonly from: string;
  /** What is listened to: ids of functions, {@link ALL}, {@link BOTTLENECKS}. */
  readonly subjects: readonly string[];
  /** Whether it looks for bottlenecks, and wants to hear everybody's vitals. */
  readonly vitals: boolean;
}

/** Metrics of all functions; a function's id has a colon in it. */
export const ALL = 'all';
/** Bottlenecks, of whatever function. */
export const BOTTLENECKS = 'bottlenecks';

/** Reads an announcement; what is none is nothing: whoever publishes it can publish anything. */
export function parseAnnouncement(data: unknown): Announcement | undefined {
  if (!isRecord(data) || data['type'] !== 'listening' || typeof data['from'] !== 'string')
    return undefined;
  const { from, subjects } = data;
  if (!Array.isArray(subjects) || subjects.length > MAX_NAMED) return undefined;
  if (!subjects.every((subject) => typeof subject === 'string')) return undefined;
  return { type: 'listening', from, subjects, vitals: data['vitals'] === true };
}

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

  /** Whether somebody listens to what nobody listened to before. */
  isNews({ subjects }: Pick<Announcement, 'subjects'>, now: number): boolean {
    return subjects.some((subject) => !this.isNow(this.known.get(subject), now));
  }

  announced({ subjects, vitals }: Pick<Announcement, 'subjects' | 'vitals'>, now: number): void {
    if (vitals) this.vitalsUntil = now + HOLD_MS;
    for (const subject of subjects) this.of(subject).announcedUntil = now + HOLD_MS;
  }

  /** A subscriber was found by asking, or was the receiver of a publish. */
  found(subject: string, now: number, holdMs = HOLD_MS): void {
    const known = this.of(subject);
    known.foundUntil = Math.max(known.foundUntil, now + holdMs);
  }

  /** Nobody received a publish: what was found is gone, a subscriber of all functions included. */
  missed(id: string): void {
    for (const subject of [id, ALL]) {
      const known = this.known.get(subject);
      if (known !== undefined) known.foundUntil = -Infinity;
    }
  }

  /** Nobody received vitals: who looked for bottlenecks has ended, or died. Who looks says so again within a second. */
  missedVitals(): void {
    this.vitalsUntil = -Infinity;
  }

  /** Whether somebody listens to the metrics of a function. */
  isHeard(id: string, now: number): boolean {
    return this.isNow(this.known.get(ALL), now) || this.isNow(this.known.get(id), now);
  }

  areBottlenecksHeard(now: number): boolean {
    return this.isNow(this.known.get(BOTTLENECKS), now);
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
    for (const [subject, known] of this.known) {
      if (this.isNow(known, now)) return true;
      this.known.delete(subject);
    }
    return false;
  }

  /** What others should be told: listeners that were found, and that nobody has announced lately. */
  untold(now: number): string[] {
    const isFresh = (known: Known | undefined): boolean =>
      known !== undefined && known.announcedUntil > now + HOLD_MS - FRESH_MS;
    const isAllTold = isFresh(this.known.get(ALL));
    return [...this.known]
      .filter(([, known]) => known.foundUntil > now && !isFresh(known))
      .map(([subject]) => subject)
      .filter((subject) => !isAllTold || subject === BOTTLENECKS);
  }

  clear(): void {
    this.known.clear();
  }

  private isNow(known: Known | undefined, now: number): boolean {
    return known !== undefined && (known.announcedUntil > now || known.foundUntil > now);
  }

  private of(subject: string): Known {
    let known = this.known.get(subject);
    if (known === undefined) {
      if (this.known.size >= MAX_REMEMBERED) this.known.clear();
      known = { announcedUntil: -Infinity, foundUntil: -Infinity };
      this.known.set(subject, known);
    }
    return known;
  }
}
