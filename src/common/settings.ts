/** The options of the module, resolved: nothing optional is left. Units are in the names. */
export interface Settings {
  readonly keyPrefix: string;
  readonly workflowId: string;
  readonly workerId: string;
  readonly worker: boolean;
  readonly supervise: boolean;
  readonly concurrency: number;
  readonly readinessTimeoutMs: number;
  readonly executionTimeoutMs: number;
  readonly leaseMs: number;
  readonly drainTimeoutMs: number;
  readonly pollIntervalMs: number;
  readonly maxDeliveries: number;
  readonly maxPayloadBytes: number;
  readonly maxBacklog: number;
  readonly idempotencyTtlMs: number;
  readonly exposeStacks: boolean;
  readonly tracing: boolean;
  readonly health: HealthSettings | undefined;
  readonly metrics: MetricsSettings | undefined;
  /** Absent: no function has a circuit, unless its contract says so. */
  readonly circuit: CircuitSettings | undefined;
}

/** When a function's circuit opens, and for how long. */
export interface CircuitPolicySettings {
  readonly failureRate: number;
  readonly minimumCalls: number;
  readonly windowMs: number;
  readonly quorum: number;
  readonly openMs: number;
  /** What counts as a failure; `undefined` leaves it to the library. */
  readonly isFailure: ((error: Error) => boolean | undefined) | undefined;
}

/** The `circuit` option, resolved. */
export interface CircuitSettings {
  /** Of functions that are not listed; absent: they have no circuit. */
  readonly policy: CircuitPolicySettings | undefined;
  /** By the id of a function's reference; `undefined`: it has none. */
  readonly functions: ReadonlyMap<string, CircuitPolicySettings | undefined>;
}

/** The `metrics` option, resolved. */
export interface MetricsSettings {
  readonly path: string;
}

/** The `health` option, resolved. */
export interface HealthSettings {
  readonly path: string;
  readonly required: readonly { readonly functionName: string; readonly workflowId: string }[];
}
