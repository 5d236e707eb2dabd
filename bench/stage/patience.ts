/**
 * How long a run waits for others, and measures again because of them, all in all: on a machine that is never quiet
 * the figures are taken as they come once it is used up.
 */
export class Patience {
  constructor(private leftMs: number) {}

  get isLeft(): boolean {
    return this.leftMs > 0;
  }

  /** Does something that only others are the reason for. */
  async spend<T>(task: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      return await task();
    } finally {
      this.leftMs -= performance.now() - startedAt;
    }
  }
}
