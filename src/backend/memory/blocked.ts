import type { Timer } from '../../common/clock.js';
import type { MemoryServer } from './memory-server.js';

/** A read that waits. It ends once: with what it waits for, when its time is up, woken, or with its connection. */
export class Blocked<T> {
  readonly promise: Promise<T>;
  private settle: ((outcome: T | Error) => void) | undefined;
  private readonly timer: Timer;

  /**
   * @param nothing what it brings when its time is up
   * @param ended called once, whatever ends it
   */
  constructor(
    server: MemoryServer,
    blockMs: number,
    private readonly nothing: T,
    ended: () => void,
  ) {
    const { answers, clock } = server;
    this.promise = new Promise((resolve, reject) => {
      this.settle = (outcome) => {
        this.settle = undefined;
        this.timer.cancel();
        ended();
        answers.add(() => (outcome instanceof Error ? reject(outcome) : resolve(outcome)));
      };
    });
    this.timer = clock.after(blockMs, () => this.wake());
  }

  /** Ends it with what it waited for, or with an error; the first one counts. */
  end(outcome: T | Error): void {
    this.settle?.(outcome);
  }

  /** Ends it without anything; `false` when it had ended. */
  wake(): boolean {
    if (this.settle === undefined) return false;
    this.settle(this.nothing);
    return true;
  }
}
