/** An exchange that takes longer than this says too little of when in between Redis's clock was read. */
export const GOOD_SAMPLE_MS = 50;
/** One that is quicker need not be made again: it is wrong by half of this. */
export const EXACT_SAMPLE_MS = 5;

/**
 * How far Redis's clock is ahead of this host's, measured by exchanges that tell Redis's time. What one says is
 * wrong by at most half of what it took, so a quick one is worth more than a late one: a process that is just
 * starting, or whose event loop was blocked, measures again.
 */
export class RedisClock {
  private offset: number | undefined;
  private tookMs = Infinity;

  /** Redis's clock minus this host's, in milliseconds; `undefined` before it was measured. */
  get offsetMs(): number | undefined {
    return this.offset;
  }

  /** Whether it is known as well as an exchange can tell it. */
  get isExact(): boolean {
    return this.tookMs <= EXACT_SAMPLE_MS;
  }

  /**
   * Notes an exchange. One that is slower than the best says less than is known, unless it took a moderate time and
   * cannot be true together with that: then a clock was set.
   *
   * @param timestamp Redis's clock in it
   * @param sentAt and `answeredAt`: this host's clock
   * @returns the offset that holds now
   */
  note(timestamp: number, sentAt: number, answeredAt: number): number {
    const tookMs = answeredAt - sentAt;
    const { offset } = this;
    if (offset !== undefined && tookMs > this.tookMs) {
      const fits = timestamp - answeredAt <= offset && offset <= timestamp - sentAt;
      if (fits || tookMs > GOOD_SAMPLE_MS) return offset;
    }
    this.tookMs = tookMs;
    return (this.offset = timestamp - (sentAt + answeredAt) / 2);
  }
}
