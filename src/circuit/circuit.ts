import type { Backend } from '../backend/backend.js';
import type { CircuitCounts } from '../backend/circuit-store.js';
import { InvalidArgumentError } from '../common/errors.js';
import { show } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import type { CircuitState } from '../protocol/circuit.js';
import type { CircuitEvents } from './circuit-events.js';
import type { FunctionCircuit } from './function-circuit.js';
import type { FunctionCircuits } from './function-circuits.js';

const MAX_REASON_LENGTH = 256;
const MAX_MS = 86_400_000;

/**
 * The circuit of one function, as `getCircuit()` gives it: what this process knows of it, and the orders of an
 * operator, which hold for the whole fleet when their promise resolves and reach other processes within milliseconds.
 *
 * @example
 * ```ts
 * const circuit = functions.getCircuit('charge', 'shop');
 * await circuit.open('the bank is down until 14:00', 3_600_000);
 * circuit.on('closed', () => console.log('charging again'));
 * await circuit.close();
 * ```
 */
export class Circuit {
  constructor(
    private readonly circuit: FunctionCircuit,
    private readonly circuits: FunctionCircuits,
    private readonly backend: Backend,
  ) {
    circuit.pinned = true;
  }

  get functionName(): string {
    return this.circuit.ref.functionName;
  }

  get workflowId(): string {
    return this.circuit.ref.workflowId;
  }

  /** As far as this process knows; {@link refresh} asks Redis. */
  get state(): CircuitState {
    return this.circuit.state;
  }

  /** Why it is not closed: `failure-rate`, `probe-failed`, or an operator's word. */
  get reason(): string | undefined {
    return this.state === 'closed' ? undefined : this.circuit.reason;
  }

  /** When it is tried again, on this host's clock, milliseconds since the epoch; `undefined` when closed, or held by hand. */
  get retryAt(): number | undefined {
    return this.state === 'closed' ? undefined : this.circuit.retryAt;
  }

  /** `false` while Redis cannot be asked, and this process decides by itself; also before the record was first read. */
  get isShared(): boolean {
    return this.circuit.isShared;
  }

  /** Reads the record; the state. */
  async refresh(): Promise<CircuitState> {
    await this.circuit.open();
    await this.circuit.read();
    return this.state;
  }

  /**
   * What all callers reported within the window; what this process has not reported yet goes first.
   *
   * @throws BackendUnavailableError, BackendRefusedError, ClosedError
   */
  async counts(): Promise<CircuitCounts> {
    await this.circuit.open();
    await this.circuit.report();
    return this.backend.circuits.counts(this.circuit.ref, this.circuit.policy);
  }

  /**
   * Opens it for all callers, whatever it was.
   *
   * @param reason for people, in every CircuitOpenError; 1 to 256 characters. Default `opened by hand`
   * @param forMs after which a call tries again, 1 to 86 400 000; default: it stays open until {@link close} or {@link reset}
   * @throws InvalidArgumentError, BackendUnavailableError, BackendRefusedError, ClosedError
   */
  async open(reason = 'opened by hand', forMs?: number): Promise<void> {
    if (typeof reason !== 'string' || reason === '' || reason.length > MAX_REASON_LENGTH)
      throw new InvalidArgumentError(
        'reason',
        show(reason),
        `a string of 1 to ${MAX_REASON_LENGTH} characters`,
      );
    if (forMs !== undefined && !(Number.isInteger(forMs) && forMs >= 1 && forMs <= MAX_MS))
      throw new InvalidArgumentError(
        'forMs',
        show(forMs),
        `whole milliseconds from 1 to ${MAX_MS}`,
      );
    await this.circuit.order((store) =>
      store.order(this.circuit.ref, { kind: 'open', reason, forMs }),
    );
  }

  /**
   * Closes it for all callers; of one that is closed nothing changes.
   *
   * @throws BackendUnavailableError, BackendRefusedError, ClosedError
   */
  async close(): Promise<void> {
    await this.circuit.order((store) => store.order(this.circuit.ref, { kind: 'close' }));
  }

  /**
   * Closes it for all callers and forgets what was counted, calls that are out included.
   *
   * @throws BackendUnavailableError, BackendRefusedError, ClosedError
   */
  async reset(): Promise<void> {
    await this.circuit.order((store) => store.order(this.circuit.ref, { kind: 'reset' }));
  }

  /** Listens to this circuit; the result removes the listener. */
  on<K extends keyof CircuitEvents>(
    event: K,
    listener: (payload: CircuitEvents[K]) => unknown,
  ): Dispose {
    const { functionName, workflowId } = this.circuit.ref;
    return this.circuits.on(event, (payload) => {
      if (payload.functionName === functionName && payload.workflowId === workflowId)
        return listener(payload);
      return undefined;
    });
  }
}
