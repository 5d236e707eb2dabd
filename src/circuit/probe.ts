import type { ProbeVerdict } from '../backend/circuit-store.js';
import type { Clock } from '../common/clock.js';
import type { CircuitPolicySettings } from '../common/settings.js';
import { outcomeOf } from './outcome.js';

/** A probe that says nothing leaves the next one to a call that comes so much later. */
export const NO_VERDICT_MS = 100;

/** The call that finds out for the fleet whether a function works again. Its lease is kept while it runs. */
export class Probe {
  private keeping = false;

  /** @param say tells the store how it stands; it never rejects */
  constructor(
    private readonly clock: Clock,
    private readonly leaseMs: number,
    private readonly policy: CircuitPolicySettings,
    private readonly say: (verdict: ProbeVerdict, ms: number) => Promise<unknown>,
  ) {}

  /** Settles as the call does, once the store was told. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    const timer = this.clock.every(
      Math.max(1, Math.floor(this.leaseMs / 3)),
      () => void this.keep(),
    );
    let verdict: ProbeVerdict = 'none';
    try {
      const value = await call();
      verdict = 'success';
      return value;
    } catch (error) {
      const outcome = outcomeOf(error, this.policy.isFailure);
      verdict = outcome === 'nothing' ? 'none' : outcome;
      throw error;
    } finally {
      timer.cancel();
      await this.say(verdict, verdict === 'failure' ? this.policy.openMs : NO_VERDICT_MS);
    }
  }

  private async keep(): Promise<void> {
    if (this.keeping) return;
    this.keeping = true;
    await this.say('keep', this.leaseMs);
    this.keeping = false;
  }
}
