import { randomUUID } from 'node:crypto';
import {
  isFunctionsError,
  type CallOptions,
  type CircuitOpenError,
  type EnhancedFunctionRegistry,
} from '../../src/index.js';
import { PATIENT_MS, type CallPlan } from './caller-kinds.js';
import type { HistoryLog } from './history.js';

/** What every handler of the storm answers. */
export interface Answer {
  readonly run: string;
  readonly attempt: number;
  /** Those of the workflow only. */
  readonly generation?: number;
  readonly version?: number | null;
}

/** Makes the call; with the registry itself, or a group of bound calls. */
type Perform = (fn: string, parameters: object, options: CallOptions) => Promise<Answer>;

/** Makes calls, and writes each, and how it settled, into the history. */
export class RecordedCalls {
  constructor(
    private readonly registry: EnhancedFunctionRegistry,
    private readonly history: HistoryLog,
  ) {}

  /**
   * @param moved how often its group moved on since then
   * @returns what it was answered; never rejects
   */
  async make(plan: CallPlan, perform?: Perform, moved?: () => number): Promise<Answer | undefined> {
    const { kind, fn, ms, fails = 0, impatient = false, cancelMs } = plan;
    const { timeoutMs = PATIENT_MS, readinessTimeoutMs = PATIENT_MS } = plan.options ?? {};
    const options: CallOptions = { ...plan.options, timeoutMs, readinessTimeoutMs };
    const { delivery = 'at-least-once', idempotencyKey: key } = options;
    const id = randomUUID();
    const cancel = new AbortController();
    const timer = cancelMs === undefined ? undefined : setTimeout(() => cancel.abort(), cancelMs);
    this.history.note({
      ...{
        e: 'call',
        id,
        kind,
        fn,
        delivery,
        key,
        fails,
        timeoutMs,
        readinessTimeoutMs,
        impatient,
      },
    });
    try {
      const answer = await (perform ?? this.registry.call.bind(this.registry))(
        fn,
        { id, ms, fails },
        { ...options, signal: cancel.signal, onProgress: () => undefined },
      );
      const { run, attempt, generation, version } = answer as Answer;
      this.history.note({
        ...{ e: 'settled', id, run, attempt, generation, version, moves: moved?.() },
      });
      return answer as Answer;
    } catch (error) {
      const retryAfterMs = isFunctionsError(error, 'CIRCUIT_OPEN')
        ? (error as CircuitOpenError).retryAfterMs
        : undefined;
      const code = isFunctionsError(error) ? error.code : String(error);
      this.history.note({ e: 'settled', id, code, retryAfterMs, moves: moved?.() });
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}
