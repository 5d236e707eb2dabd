import { NO_RECORD, type CircuitRecord, type CircuitState } from '../../protocol/circuit.js';
import type { CircuitCounts, CircuitReport, CircuitTerms } from '../circuit-store.js';
import { CallCounts } from './call-counts.js';

/** What a change of state brings. */
type Change = Pick<CircuitRecord, 'retryAt' | 'reason' | 'prober'>;

/** One function's circuit: its record, and what its callers counted. */
export class MemoryCircuit {
  record: CircuitRecord = NO_RECORD;
  private readonly total = new CallCounts();
  /** When counting began. */
  private began = 0;
  private readonly byCaller = new Map<string, CallCounts>();

  /** Under a new generation, with nothing counted. */
  move(now: number, state: CircuitState, change: Change = {}): void {
    const generation = Math.max(now, this.record.generation + 1);
    this.record = { generation, state, since: now, ...change };
    this.byCaller.clear();
    this.total.clear();
  }

  count(now: number, report: CircuitReport): void {
    const { calls, failures, terms } = report;
    if (this.total.sum(now, terms.windowMs).calls === 0) this.began = now;
    let own = this.byCaller.get(report.caller);
    if (own === undefined) this.byCaller.set(report.caller, (own = new CallCounts()));
    for (const counts of [this.total, own]) counts.add(now, terms.windowMs, calls, failures);
  }

  /** Whether what was counted opens it. */
  opens(now: number, terms: CircuitTerms): boolean {
    const { minimumCalls, failureRate, quorum, settleMs } = terms;
    if (now - this.began < settleMs) return false;
    const { calls, failures, callers, failingCallers } = this.counts(now, terms);
    if (failures === 0 || calls < minimumCalls || failures < failureRate * calls) return false;
    return failingCallers >= Math.min(callers, Math.max(2, Math.floor(quorum * callers) + 1));
  }

  /** What was counted; forgets callers that left. */
  counts(
    now: number,
    { windowMs, failureRate }: Pick<CircuitTerms, 'windowMs' | 'failureRate'>,
  ): CircuitCounts {
    let failingCallers = 0;
    for (const [caller, counts] of this.byCaller) {
      const own = counts.sum(now, windowMs);
      if (own.calls === 0) this.byCaller.delete(caller);
      else if (own.failures > 0 && own.failures >= failureRate * own.calls) failingCallers += 1;
    }
    return { ...this.total.sum(now, windowMs), callers: this.byCaller.size, failingCallers };
  }
}
