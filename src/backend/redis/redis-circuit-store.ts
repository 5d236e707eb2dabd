import type { CircuitRecord } from '../../protocol/circuit.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type {
  CircuitCounts,
  CircuitOrder,
  CircuitReading,
  CircuitReport,
  CircuitStore,
  CircuitTerms,
  ProbeAnswer,
  ProbeVerdict,
} from '../circuit-store.js';
import type { RedisConnection } from './redis-connection.js';
import { ScriptRunner } from './script-runner.js';
import { scripts, type Script } from './scripts.js';
import type { UntoldNews } from './untold-news.js';

type Answer = [record: string, timestamp: string, untold: string, granted?: number];

/** Circuits in Redis: a record per function, and a hash of what its callers counted. */
export class RedisCircuitStore implements CircuitStore {
  private readonly scripts: ScriptRunner;

  constructor(
    commands: RedisConnection,
    private readonly keys: Keys,
    private readonly untold: UntoldNews,
  ) {
    this.scripts = new ScriptRunner(commands);
  }

  async read(ref: FunctionRef, known: CircuitRecord | undefined): Promise<CircuitReading> {
    return this.reading(await this.run('circuit-read', scripts.circuitRead, ref, [textOf(known)]));
  }

  async report(ref: FunctionRef, report: CircuitReport): Promise<CircuitReading> {
    const { caller, generation, calls, failures, terms } = report;
    const args = [caller, generation, calls, failures];
    const { windowMs, minimumCalls, failureRate, quorum, openMs, settleMs } = terms;
    args.push(windowMs, minimumCalls, failureRate, quorum, openMs, settleMs);
    return this.reading(await this.run('circuit-report', scripts.circuitReport, ref, args));
  }

  async probe(
    ref: FunctionRef,
    caller: string,
    leaseMs: number,
    known: CircuitRecord | undefined,
  ): Promise<ProbeAnswer> {
    const args = [textOf(known), caller, leaseMs];
    const answer = await this.run('circuit-probe', scripts.circuitProbe, ref, args);
    return { ...this.reading(answer), granted: (answer as Answer)[3] === 1 };
  }

  async conclude(
    ref: FunctionRef,
    generation: number,
    verdict: ProbeVerdict,
    ms: number,
  ): Promise<CircuitReading> {
    const args = [generation, verdict, ms];
    return this.reading(await this.run('circuit-conclude', scripts.circuitConclude, ref, args));
  }

  async order(ref: FunctionRef, order: CircuitOrder): Promise<CircuitReading> {
    const { reason, forMs } = order.kind === 'open' ? order : { reason: '', forMs: undefined };
    const args = [order.kind, reason, forMs ?? ''];
    return this.reading(await this.run('circuit-order', scripts.circuitOrder, ref, args));
  }

  async counts(
    ref: FunctionRef,
    { windowMs, failureRate }: Pick<CircuitTerms, 'windowMs' | 'failureRate'>,
  ): Promise<CircuitCounts> {
    const args = [windowMs, failureRate];
    const answer = await this.run('circuit-counts', scripts.circuitCounts, ref, args);
    const [calls, failures, callers, failingCallers] = answer as [number, number, number, number];
    return { calls, failures, callers, failingCallers };
  }

  private run(
    operation: string,
    script: Script,
    ref: FunctionRef,
    args: readonly (string | number)[],
  ): Promise<unknown> {
    const { keys } = this;
    const { functionName, workflowId } = ref;
    return this.scripts.run(
      operation,
      script,
      [keys.circuit(ref), keys.circuitCounts(ref)],
      [keys.circuitChannel(ref), functionName, workflowId, ...args],
    );
  }

  private reading(answer: unknown): CircuitReading {
    const [record, timestamp, untold] = answer as Answer;
    this.untold.note(untold);
    return { record, timestamp: Number(timestamp) };
  }
}

function textOf(record: CircuitRecord | undefined): string {
  return record === undefined ? '' : JSON.stringify(record);
}
