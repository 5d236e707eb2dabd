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
