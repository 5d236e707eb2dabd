import type { CircuitState } from '../protocol/circuit.js';

/** A circuit came into another state, as this process learnt it. */
export interface CircuitChange {
  readonly functionName: string;
  readonly workflowId: string;
  readonly from: CircuitState;
  readonly to: CircuitState;
  /** Why it is not closed: `failure-rate`, `probe-failed`, or an operator's word. */
  readonly reason?: string;
  /** When it is tried again, on this host's clock, milliseconds since the epoch; absent when closed, or held by hand. */
  readonly retryAt?: number;
  /** `false`: this process decided by itself, for Redis could not be asked. */
  readonly shared: boolean;
}

/** What a circuit, and all of them, can be listened to for. */
export interface CircuitEvents {
  /** Any change of state. */
  change: CircuitChange;
  /** Calls are refused from here on. */
  open: CircuitChange;
  /** One call of the fleet finds out whether the function works again. */
  'half-open': CircuitChange;
  /** Calls pass again. */
  closed: CircuitChange;
  /** Redis cannot be asked: this process decides by itself. */
  alone: { readonly functionName: string; readonly workflowId: string; readonly problem: string };
  /** The shared record holds again. */
  shared: { readonly functionName: string; readonly workflowId: string };
}
