import { createDeferred, type Deferred } from '../common/deferred.js';

/** Wakes who has asked to be woken. Who asks before looking misses no ring between the look and the wait. */
export class Doorbell {
  private asked: Deferred<void> | undefined;

  ring(): void {
    this.asked?.resolve();
    this.asked = undefined;
  }

  /** Resolves at the next ring. */
  next(): Promise<void> {
    this.asked ??= createDeferred();
    return this.asked.promise;
  }
}
