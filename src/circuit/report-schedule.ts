import { CIRCUIT_REPORT_MS } from '../backend/limits.js';
import { tickSent } from '../common/batch.js';
import type { Clock, Timer } from '../common/clock.js';
import type { FunctionCircuit } from './function-circuit.js';

/** Reports that might open a circuit are this far apart. */
export const URGENT_INTERVAL_MS = 25;

/** When the circuits of a process report what they counted. No timer runs while nothing is counted. */
export class ReportSchedule {
  private readonly counted = new Set<FunctionCircuit>();
  private readonly urgent = new Set<FunctionCircuit>();
  private timer: Timer | undefined;
  private urgentTimer: Timer | undefined;
  private urgentAt = -URGENT_INTERVAL_MS;

  constructor(private readonly clock: Clock) {}

  note(circuit: FunctionCircuit, isUrgent: boolean): void {
    if (isUrgent) this.hurry(circuit);
    if (this.timer !== undefined) {
      this.counted.add(circuit);
      return;
    }
    this.counted.add(circuit);
    this.timer = this.clock.after(CIRCUIT_REPORT_MS, () => {
      this.timer = undefined;
      this.send(this.counted);
    });
  }

  stop(): void {
    this.timer?.cancel();
    this.urgentTimer?.cancel();
    this.counted.clear();
    this.urgent.clear();
  }

  /** With what else ends in this tick; or when the last one is long enough ago. */
  private hurry(circuit: FunctionCircuit): void {
    const isFirst = this.urgent.size === 0;
    this.urgent.add(circuit);
    if (!isFirst) return;
    const waitMs = this.urgentAt + URGENT_INTERVAL_MS - this.clock.elapsed();
    const send = (): void => {
      this.urgentAt = this.clock.elapsed();
      this.send(this.urgent);
    };
    if (waitMs <= 0) void tickSent().then(send);
    else this.urgentTimer = this.clock.after(waitMs, send);
  }

  private send(circuits: Set<FunctionCircuit>): void {
    const due = [...circuits];
    circuits.clear();
    for (const circuit of due) void circuit.report();
  }
}
