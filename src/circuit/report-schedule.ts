import { CIRCUIT_REPORT_MS } from '../backend/limits.js';
import { tickSent } from '../common/batch.js';
import type { Clock, Timer } from '../common/clock.js';
import type { FunctionCircuit } from './function-circuit.js';

/** When the circuits of a process report what they counted. No timer runs while nothing is counted. */
export class ReportSchedule {
  private readonly counted = new Set<FunctionCircuit>();
  private readonly urgent = new Set<FunctionCircuit>();
  private timer: Timer | undefined;

  constructor(private readonly clock: Clock) {}

  /** @param isUrgent it might open the circuit: it is reported with what else ends in this tick */
  note(circuit: FunctionCircuit, isUrgent: boolean): void {
    if (isUrgent && this.urgent.add(circuit).size === 1)
      void tickSent().then(() => this.send(this.urgent));
    this.counted.add(circuit);
    this.timer ??= this.clock.after(CIRCUIT_REPORT_MS, () => {
      this.timer = undefined;
      this.send(this.counted);
    });
  }

  stop(): void {
    this.timer?.cancel();
    this.counted.clear();
    this.urgent.clear();
  }

  private send(circuits: Set<FunctionCircuit>): void {
    const due = [...circuits];
    circuits.clear();
    for (const circuit of due) void circuit.report();
  }
}
