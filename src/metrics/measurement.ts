import type { Clock } from '../common/clock.js';
import type { CallProbes } from '../execution/call-probes.js';
import { loadHistograms } from './histograms.js';
import { ProcessMeter } from './process-meter.js';

/**
 * Switches the measuring of this process on and off. Measuring anew begins at zero, with a higher epoch.
 *
 * Interleaving: switched off while the library is still being loaded, it stays off.
 */
export class Measurement {
  private present: ProcessMeter | undefined;
  private starting: Promise<ProcessMeter | undefined> | undefined;
  private wanted = false;
  private lastEpoch = 0;

  constructor(
    private readonly probes: CallProbes,
    private readonly clock: Clock,
    /** Redis's clock. */
    private readonly redisNow: () => number,
  ) {}

  /** What is measured; `undefined` while nothing is. */
  get meter(): ProcessMeter | undefined {
    return this.present;
  }

  start(): Promise<ProcessMeter | undefined> {
    this.wanted = true;
    if (this.present !== undefined) return Promise.resolve(this.present);
    this.starting ??= this.begin().finally(() => (this.starting = undefined));
    return this.starting;
  }

  stop(): void {
    this.wanted = false;
    const { present, probes } = this;
    if (present === undefined) return;
    this.present = undefined;
    probes.removeCaller(present);
    if (probes.worker === present) probes.worker = undefined;
  }

  private async begin(): Promise<ProcessMeter | undefined> {
    const library = await loadHistograms();
    if (!this.wanted) return undefined;
    this.lastEpoch = Math.max(this.lastEpoch + 1, Math.round(this.redisNow()));
    const meter = new ProcessMeter(library, this.clock, this.lastEpoch);
    this.present = meter;
    this.probes.addCaller(meter);
    this.probes.worker = meter;
    return meter;
  }
}
