import type { RawReply } from '../call-streams.js';
import { Waiters } from './waiters.js';

/** Answers to one process's calls, numbered from the first on. */
export class ReplyStream {
  readonly waiting = new Waiters<() => void>();
  private replies: RawReply[] = [];
  /** The number of the first one that is kept. */
  private first = 0;

  /** Answers that are kept. */
  get size(): number {
    return this.replies.length;
  }

  add(callId: string, reply: string): void {
    this.replies.push({ callId, reply });
    this.waiting.first()?.();
  }

  /** Answers from this number on; `next` is the number behind them. */
  from(number: number, limit: number): { readonly replies: RawReply[]; readonly next: number } {
    const start = Math.max(0, number - this.first);
    const replies = this.replies.slice(start, start + limit);
    return { replies, next: this.first + start + replies.length };
  }

  /** Drops those before this number. */
  trim(number: number): void {
    const count = Math.min(this.replies.length, number - this.first);
    if (count <= 0) return;
    this.replies = this.replies.slice(count);
    this.first += count;
  }
}
