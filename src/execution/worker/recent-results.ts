import type { Clock } from '../../common/clock.js';
import type { FunctionRef } from '../../protocol/function-ref.js';

/** How many results are kept at the least, how long, and how much of them. */
export const RECENT_RESULTS = Object.freeze({
  entries: 1_000,
  ttlMs: 60_000,
  bytes: 4 * 1024 * 1024,
});

const FIRST_BYTES = 64 * 1024;
/** A generation that needed more gives it back. */
const KEPT_BYTES = 1024 * 1024;
const MAX_BYTES_PER_CHARACTER = 3;

/**
 * Results of one stretch of time: a line each of function id, call id and reply, with tabs between them (there are none
 * in ids, nor in JSON), in memory outside of the heap. Nearly none is ever looked for, so they are indexed only then.
 */
class Generation {
  entries = 0;
  since = 0;
  bytes = 0;
  private memory: Buffer | undefined;
  private index: Map<string, string> | undefined;
  private indexed = 0;

  begin(since: number): this {
    this.since = since;
    this.entries = this.bytes = this.indexed = 0;
    this.index = undefined;
    if (this.memory !== undefined && this.memory.length > KEPT_BYTES) this.memory = undefined;
    return this;
  }

  add(line: string): void {
    const memory = this.memoryFor(line.length * MAX_BYTES_PER_CHARACTER);
    this.bytes += memory.write(line, this.bytes);
    this.entries += 1;
  }

  find(key: string): string | undefined {
    if (this.indexed < this.bytes) this.read();
    return this.index?.get(key);
  }

  private memoryFor(bytes: number): Buffer {
    const { memory } = this;
    const needed = this.bytes + bytes;
    if (memory !== undefined && needed <= memory.length) return memory;
    const larger = Buffer.allocUnsafeSlow(
      Math.max(needed, (memory?.length ?? FIRST_BYTES / 2) * 2),
    );
    memory?.copy(larger, 0, 0, this.bytes);
    this.memory = larger;
    return larger;
  }

  private read(): void {
    this.index ??= new Map();
    const text = this.memory?.toString('utf8', this.indexed, this.bytes) ?? '';
    this.indexed = this.bytes;
    for (const line of text.split('\n')) {
      const end = line.indexOf('\t', line.indexOf('\t') + 1);
      if (end > 0) this.index.set(line.slice(0, end), line.slice(end + 1));
    }
  }
}

/**
 * The replies to the calls that this process ran lately. A caller that cannot know what became of its call
 * (Redis was emptied, the connection broke in the middle of a write) writes it again under its id; a worker
 * that finds the id here answers with what it said before instead of running it twice.
 *
 * Two generations, of which the older is dropped whole: at most twice the limits are kept, and a call costs the copy
 * of its text. (Measured: removing the oldest one by one cost a third of a worker's time; a map of strings cost more than
 * that in garbage collection at 512 calls in flight, for what outlives its call is copied, and then grows old.)
 * What is not found here runs again, which at-least-once allows.
 */
export class RecentResults {
  private young: Generation;
  private old = new Generation();

  constructor(
    private readonly clock: Clock,
    private readonly limits: Readonly<Record<keyof typeof RECENT_RESULTS, number>> = RECENT_RESULTS,
  ) {
    this.young = new Generation().begin(clock.now());
  }

  remember(ref: FunctionRef, callId: string, reply: string): void {
    if (reply.length > this.limits.bytes) return;
    const line = `${ref.id}\t${callId}\t${reply}\n`;
    const now = this.clock.now();
    const { entries, bytes, since } = this.young;
    const full =
      entries >= this.limits.entries ||
      bytes + line.length > this.limits.bytes ||
      now - since >= this.limits.ttlMs;
    if (full) {
      const { old } = this;
      this.old = this.young;
      this.young = old.begin(now);
    }
    this.young.add(line);
  }

  /** What was answered to a call of this function, if that is known. */
  find(ref: FunctionRef, callId: string): string | undefined {
    const key = `${ref.id}\t${callId}`;
    return this.young.find(key) ?? this.old.find(key);
  }
}
