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
import { CIRCUIT_MEMORY_MS } from '../limits.js';
import { MemoryCircuit } from './memory-circuit.js';
import type { MemoryConnection } from './memory-connection.js';
import type { MemorySpace } from './memory-space.js';

type Move = Parameters<MemoryCircuit['move']>;

/** Circuits in the memory of this process. */
export class MemoryCircuitStore implements CircuitStore {
  constructor(
    private readonly connection: MemoryConnection,
    private readonly keys: Keys,
  ) {}

  read(ref: FunctionRef, known: CircuitRecord | undefined): Promise<CircuitReading> {
    return this.connection.run((space) => this.reading(space, this.restored(space, ref, known)));
  }

  report(ref: FunctionRef, report: CircuitReport): Promise<CircuitReading> {
    return this.connection.run((space) => {
      const circuit = this.find(space, ref);
      const { state, generation } = circuit.record;
      if (state !== 'closed' || generation !== report.generation)
        return this.reading(space, circuit);
      const { terms } = report;
      const now = space.now();
      circuit.count(now, report);
      this.keep(space, ref, circuit);
      if (circuit.opens(now, terms))
        this.move(space, ref, circuit, now, 'open', {
          retryAt: now + terms.openMs,
          reason: 'failure-rate',
        });
      return this.reading(space, circuit);
    });
  }

  probe(
    ref: FunctionRef,
    caller: string,
    leaseMs: number,
    known: CircuitRecord | undefined,
  ): Promise<ProbeAnswer> {
    return this.connection.run((space) => {
      const circuit = this.restored(space, ref, known);
      const now = space.now();
      const { state, retryAt, reason } = circuit.record;
      const granted = state !== 'closed' && retryAt !== undefined && retryAt <= now;
      if (granted)
        this.move(space, ref, circuit, now, 'half-open', {
          retryAt: now + leaseMs,
          prober: caller,
          ...(reason === undefined ? {} : { reason }),
        });
      return { ...this.reading(space, circuit), granted };
    });
  }

  conclude(
    ref: FunctionRef,
    generation: number,
    verdict: ProbeVerdict,
    ms: number,
  ): Promise<CircuitReading> {
    return this.connection.run((space) => {
      const circuit = this.find(space, ref);
      const { record } = circuit;
      if (record.state !== 'half-open' || record.generation !== generation)
        return this.reading(space, circuit);
      const now = space.now();
      const retryAt = now + ms;
      if (verdict === 'keep') {
        circuit.record = { ...record, retryAt };
        this.keep(space, ref, circuit);
      } else if (verdict === 'success') this.move(space, ref, circuit, now, 'closed');
      else {
        const reason = verdict === 'failure' ? 'probe-failed' : record.reason;
        const change = { retryAt, ...(reason === undefined ? {} : { reason }) };
        this.move(space, ref, circuit, now, 'open', change);
      }
      return this.reading(space, circuit);
    });
  }

  order(ref: FunctionRef, order: CircuitOrder): Promise<CircuitReading> {
    return this.connection.run((space) => {
      const circuit = this.find(space, ref);
      const now = space.now();
      if (order.kind === 'open') {
        const { reason, forMs } = order;
        const until = forMs === undefined ? {} : { retryAt: now + forMs };
        this.move(space, ref, circuit, now, 'open', { reason, ...until });
      } else if (order.kind === 'reset' || circuit.record.state !== 'closed')
        this.move(space, ref, circuit, now, 'closed');
      return this.reading(space, circuit);
    });
  }

  counts(
    ref: FunctionRef,
    terms: Pick<CircuitTerms, 'windowMs' | 'failureRate'>,
  ): Promise<CircuitCounts> {
    return this.connection.run((space) => this.find(space, ref).counts(space.now(), terms));
  }

  private find(space: MemorySpace, ref: FunctionRef): MemoryCircuit {
    return space.circuits.get(ref.id) ?? new MemoryCircuit();
  }

  /** The circuit; as the caller knows it, where it was forgotten. */
  private restored(
    space: MemorySpace,
    ref: FunctionRef,
    known: CircuitRecord | undefined,
  ): MemoryCircuit {
    const circuit = this.find(space, ref);
    if (known === undefined || circuit.record.generation > 0) return circuit;
    const { retryAt, reason } = known;
    circuit.record = known;
    this.move(space, ref, circuit, space.now(), 'open', {
      ...(retryAt === undefined ? {} : { retryAt }),
      ...(reason === undefined ? {} : { reason }),
    });
    return circuit;
  }

  /** All times of a change are those of one look at the clock. */
  private move(space: MemorySpace, ref: FunctionRef, circuit: MemoryCircuit, ...move: Move): void {
    circuit.move(...move);
    this.keep(space, ref, circuit);
    const { functionName, workflowId } = ref;
    const pattern = this.keys.circuitChannel(ref);
    const data = {
      type: 'circuit',
      functionName,
      workflowId,
      timestamp: circuit.record.since,
      ...circuit.record,
    };
    this.connection.server.pubsub.publish(pattern, JSON.stringify({ pattern, data }));
  }

  private keep(space: MemorySpace, ref: FunctionRef, circuit: MemoryCircuit): void {
    const { state, retryAt } = circuit.record;
    const isHeld = state === 'open' && retryAt === undefined;
    const leftMs = Math.max(0, (retryAt ?? 0) - space.now());
    space.circuits.set(ref.id, circuit, isHeld ? Infinity : leftMs + CIRCUIT_MEMORY_MS);
  }

  private reading(space: MemorySpace, { record }: MemoryCircuit): CircuitReading {
    const text = record.generation === 0 ? '' : JSON.stringify(record);
    return { record: text, timestamp: space.now() };
  }
}
