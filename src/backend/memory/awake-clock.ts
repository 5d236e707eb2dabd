import type { Clock } from '../../common/clock.js';

/** A fleet asks several times a second; who was silent for this long stood still. */
const STALL_MS = 1_000;

/**
 * Time in which this process was awake, for leases: they prove that a process lives, and here all of a fleet are one
 * process. While its event loop is blocked nobody can keep a lease, and nobody is dead.
 */
export class AwakeClock implements Pick<Clock, 'now'> {
  private last: number;
  private stoodStillMs = 0;

  constructor(private readonly clock: Pick<Clock, 'now'>) {
    this.last = clock.now();
  }

  now(): number {
    const now = this.clock.now();
    const silentMs = now - this.last;
    if (silentMs > STALL_MS) this.stoodStillMs += silentMs;
    this.last = now;
    return now - this.stoodStillMs;
  }
}
