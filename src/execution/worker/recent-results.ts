import type { Clock } from '../../common/clock.js';
import type { FunctionRef } from '../../protocol/function-ref.js';

/** How many results are kept at the least, how long, and how much text of them. */
export const RECENT_RESULTS = Object.freeze({
  entries: 1_000,
  ttlMs: 60_000,
  characters: 4 * 1024 * 1024,
});

interface Recent {
  readonly ref: FunctionRef;
  readonly reply: string;
}

/** Results of one stretch of time. */
class Generation {
  readonly replies = new Map<string, Recent>();
  characters = 0;

  constructor(readonly since: number) {}
}

/**
 * The replies to the calls that this process ran lately. A caller that cannot know what became of its call
 * (Redis was emptied, the connection broke in the middle of a write) writes it again under its id; a worker
 * that finds the id here answers with what it said before instead of running it twice.
 *
 * Two generations, of which the older is dropped whole: at most twice the limits are kept, and a call costs one
 * entry in a map, never a removal (measured: removing the oldest one by one cost a third of a worker's time).
 * What is not found here runs again, which at-least-once allows.
 */
export class RecentResults {
  private young: Generation;
  private old: Generation;

  constructor(
    private readonly clock: Clock,
    private readonly limits: typeof RECENT_RESULTS = RECENT_RESULTS,
  ) {
    this.young = new Generation(clock.now());
    this.old = this.young;
  }

  remember(ref: FunctionRef, callId: string, reply: string): void {
    if (reply.length > this.limits.characters) return;
    const now = this.clock.now();
    const { replies, characters, since } = this.young;
    const full =
      replies.size >= this.limits.entries ||
      characters + reply.length > this.limits.characters ||
      now - since >= this.limits.ttlMs;
    if (full) {
      this.old = this.young;
      this.young = new Generation(now);
    }
    this.young.replies.set(callId, { ref, reply });
    this.young.characters += reply.length;
  }

  /** What was answered to a call of this function, if that is known. */
  find(ref: FunctionRef, callId: string): string | undefined {
    const recent = this.young.replies.get(callId) ?? this.old.replies.get(callId);
    return recent?.ref.id === ref.id ? recent.reply : undefined;
  }
}
