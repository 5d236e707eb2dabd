import type { RawCall } from '../call-streams.js';
import { Waiters } from './waiters.js';

/** Tokens that wait to be taken: who takes one and finds more work than it can do leaves another. */
const MAX_TOKENS = 16;

/** A process that takes calls at once while it waits for the bell. */
export interface Taker {
  /** When its offer ends, on the server's clock. */
  readonly until: number;
  /** A call that it has from here on. Its offer has ended. */
  give(call: RawCall): void;
}

/** Processes that host the same many functions, and the bell that tells one of them of calls. */
export class Pool {
  /** Functions that have calls which nobody took, the one that waits longest first. */
  readonly due = new Set<string>();
  /** Who offers to take calls, by its session. */
  readonly offers = new Map<string, Taker>();
  private readonly waiting = new Waiters<() => void>();
  private tokens = 0;

  get isDue(): boolean {
    return this.due.size > 0;
  }

  get hasToken(): boolean {
    return this.tokens > 0;
  }

  /** Notes that a function has calls; whether that is news. */
  note(functionId: string): boolean {
    if (this.due.has(functionId)) return false;
    this.due.add(functionId);
    return true;
  }

  /** Wakes one who waits, or leaves a token for the next one. */
  wakeOne(): void {
    const waiting = this.waiting.first();
    if (waiting !== undefined) waiting();
    else this.tokens = Math.min(MAX_TOKENS, this.tokens + 1);
  }

  /** Takes a token; `false` when there is none. */
  takeToken(): boolean {
    if (this.tokens === 0) return false;
    this.tokens -= 1;
    return true;
  }

  dropTokens(): void {
    this.tokens = 0;
  }

  /** Waits to be woken. */
  wait(woken: () => void): void {
    this.waiting.add(woken);
  }

  stopWaiting(woken: () => void): void {
    this.waiting.delete(woken);
  }
}
