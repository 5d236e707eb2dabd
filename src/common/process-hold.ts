const INTERVAL_MS = 60_000;

/**
 * Keeps this process alive while somebody waits in it for an answer. No timer of the library does, and over Redis the
 * connections do; in memory nothing else would, and a script would end, without a word, at the `await` of its first wait.
 */
export class ProcessHold {
  private holders = 0;
  private handle: NodeJS.Timeout | undefined;

  /** Until it is released as often. */
  take(): void {
    this.holders += 1;
    if (this.holders > 1) return;
    this.handle ??= setInterval(() => undefined, INTERVAL_MS);
    this.handle.ref();
  }

  release(): void {
    this.holders -= 1;
    if (this.holders === 0) this.handle?.unref();
  }

  /** Leaves no timer behind, unless somebody waits: an application has ended. */
  tidy(): void {
    if (this.holders > 0) return;
    clearInterval(this.handle);
    this.handle = undefined;
  }
}

/** Of this process: whoever waits in it. */
export const processHold = new ProcessHold();
