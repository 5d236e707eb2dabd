import { outcomeOf } from './outcome.js';

/** What a tally tells of a call. */
export interface TallyEvents {
  readonly isFailure: ((error: Error) => boolean | undefined) | undefined;
  counted(failed: boolean): void;
}

/**
 * Calls that began under one generation of a circuit. Its two methods are bound, so that counting a call makes
 * nothing but what listens to its end.
 */
export class Tally {
  private calls = 0;
  private failures = 0;

  constructor(
    readonly generation: number,
    private readonly events: TallyEvents,
  ) {}

  /** Whether there is something to report. */
  get isEmpty(): boolean {
    return this.calls === 0;
  }

  readonly succeed = (): void => {
    this.calls += 1;
    this.events.counted(false);
  };

  readonly fail = (error: unknown): void => {
    const outcome = outcomeOf(error, this.events.isFailure);
    if (outcome === 'nothing') return;
    this.calls += 1;
    if (outcome === 'failure') this.failures += 1;
    this.events.counted(outcome === 'failure');
  };

  /** What was counted since the last time. */
  take(): { readonly calls: number; readonly failures: number } {
    const { calls, failures } = this;
    this.calls = 0;
    this.failures = 0;
    return { calls, failures };
  }
}
