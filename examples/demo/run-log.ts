/** A run of a handler, noted by the worker when it starts. */
export interface Run {
  readonly call: number;
  readonly callId: string;
  readonly workerId: string;
  readonly attempt: number;
  readonly at: number;
}

/** Every run of every handler. Whether a call ran twice is counted here, and not by what the library says of itself. */
export interface RunLog {
  add(run: Run): Promise<void>;
  /** All runs by the number of their call, in order. */
  byCall(): Promise<Map<number, Run[]>>;
  /** Lets go of it, and of everything else that the demo left below this key prefix. */
  close(keyPrefix: string): Promise<void>;
}

/** Injects the {@link RunLog}. */
export const RUN_LOG = Symbol('RUN_LOG');

/** Notes a run in what {@link RunLog.byCall} gives. */
export function noteRun(byCall: Map<number, Run[]>, run: Run): void {
  byCall.set(run.call, [...(byCall.get(run.call) ?? []), run]);
}
