import type { Clock } from '../../common/clock.js';
import type { FunctionRef } from '../../protocol/function-ref.js';

/** How many results are kept, how long, and how much text of them. */
export const RECENT_RESULTS = Object.freeze({
  entries: 10_000,
  ttlMs: 60_000,
  characters: 8 * 1024 * 1024,
});

interface Recent {
  readonly ref: FunctionRef;
  readonly reply: string;
  readonly at: number;
}

/**
 * The replies to the calls that this process ran lately. A caller that cannot know what became of its call
 * (Redis was emptied, the connection broke in the middle of a write) writes it again under its id; a worker
 * that finds the id here answers with what it said before instead of running it twice.
 *
 * Bounded three ways: entries, time, and text. What is not found here runs again, which at-least-once allows.
 */
export class RecentResults {
  private readonly replies = new Map<string, Recent>();
  private characters = 0;

  constructor(
    private readonly clock: Clock,
    private readonly limits: typeof RECENT_RESULTS = RECENT_RESULTS,
  ) {}

  remember(ref: FunctionRef, callId: string, reply: string): void {
    this.forget(callId);
    if (reply.length > this.limits.characters) return;
    this.replies.set(callId, { ref, reply, at: this.clock.now() });
    this.characters += reply.length;
    // In the order of their age: the oldest go first.
    for (const [oldest] of this.replies) {
      const fits =
        this.replies.size <= this.limits.entries && this.characters <= this.limits.characters;
      if (fits) return;
      this.forget(oldest);
    }
  }

  /** What was answered to a call of this function, if that is known. */
  find(ref: FunctionRef, callId: string): string | undefined {
    const recent = this.replies.get(callId);
    if (recent === undefined || recent.ref.id !== ref.id) return undefined;
    return this.clock.now() - recent.at <= this.limits.ttlMs ? recent.reply : undefined;
  }

  private forget(callId: string): void {
    const recent = this.replies.get(callId);
    if (recent === undefined) return;
    this.characters -= recent.reply.length;
    this.replies.delete(callId);
  }
}
