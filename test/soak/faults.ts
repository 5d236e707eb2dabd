import type { FaultDone } from './history.js';
import { STORM } from './plan.js';

/** Faults after which leases may have run out, or sessions are joined anew, for a while. */
export const AFTERMATH_MS = STORM.leaseMs + 2_000;
/** A connection whose other end is gone without a word is found out by a command that nobody answers. */
const DROPPED_MS = 8_000;

/** What nothing may suffer from. */
const GRACEFUL = /^(restart-worker|save-and-restart|silence)$/;
/** Redis, or a connection to it, was away, stood still, or was emptied. */
export const SHAKES = /^(redis-|flushall|client-kill|proxy-)/;
/** Redis forgets who had which call. */
export const FORGETS = /^(redis-kill|flushall|group-destroy)$/;
/** Redis forgets everything. */
export const EMPTIES = /^(redis-kill|flushall)$/;
const STANDS_STILL = /^(redis-freeze|proxy-hold|freeze-)/;

/** What was done to a fleet, and how long it may suffer from it. */
export class Faults {
  readonly all: FaultDone[] = [];

  add(fault: FaultDone): void {
    this.all.push(fault);
  }

  /** Whether nothing but graceful restarts happened. */
  isClean(from: number, to: number): boolean {
    return !this.all.some((fault) => !GRACEFUL.test(fault.kind) && touches(fault, from, to));
  }

  /** From when on, at `t` or later, nothing is wrong but what comes anew. */
  cleanFrom(t: number): number {
    let clean = t;
    for (const fault of this.all.toSorted((a, b) => a.from - b.from))
      if (!GRACEFUL.test(fault.kind) && touches(fault, clean, clean + 1))
        clean = fault.to + aftermathOf(fault.kind);
    return clean;
  }

  overlaps(from: number, to: number, kinds: RegExp): boolean {
    return this.all.some((fault) => kinds.test(fault.kind) && touches(fault, from, to));
  }

  /** Whether one fault of these kinds was on at both times. */
  spans(one: number, other: number, kinds: RegExp): boolean {
    return this.all.some(
      (fault) =>
        kinds.test(fault.kind) && touches(fault, one, one + 1) && touches(fault, other, other + 1),
    );
  }

  /** Whether this process itself was frozen. */
  wasFrozen(who: string, from: number, to: number): boolean {
    return this.all.some(
      (fault) =>
        fault.kind.startsWith('freeze-') &&
        who.startsWith(`${fault.target}.`) &&
        touches(fault, from, to),
    );
  }

  /** How long Redis, a connection or a process stood still in this span, at the most. */
  standstill(from: number, to: number): number {
    return this.lasted(STANDS_STILL, from, to);
  }

  /** How long workers were away in this span because they were restarted one by one, at the most. */
  away(from: number, to: number): number {
    return this.lasted(/^restart-worker$/, from, to);
  }

  private lasted(kinds: RegExp, from: number, to: number): number {
    let sum = 0;
    for (const fault of this.all) {
      if (!kinds.test(fault.kind)) continue;
      sum += Math.max(0, Math.min(to, fault.to) - Math.max(from, fault.from));
    }
    return sum;
  }
}

function touches({ kind, from: began, to: ended }: FaultDone, from: number, to: number): boolean {
  return from < ended + aftermathOf(kind) && to > began;
}

function aftermathOf(kind: string): number {
  return kind === 'proxy-drop' ? DROPPED_MS : AFTERMATH_MS;
}
