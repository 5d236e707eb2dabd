/** Facts that every word about a bottleneck carries. */
interface BottleneckBase {
  readonly type: 'bottleneck';
  readonly version: 1;
  readonly functionName: string;
  readonly workflowId: string;
  /** `began`; `lasts`, once a second; `ended`. One of which nothing was heard for five seconds is over, too. */
  readonly state: 'began' | 'lasts' | 'ended';
  /** When it was found, on Redis's clock. */
  readonly since: number;
  /** Redis's clock. */
  readonly timestamp: number;
  /** The process that looks for bottlenecks. */
  readonly detectedBy: string;
}

/** A function's backlog grows faster than it is served. */
export interface BacklogBottleneck extends BottleneckBase {
  readonly kind: 'backlog';
  readonly figures: {
    /** Calls in Redis, and those of them that no worker has taken. */
    readonly calls: number;
    readonly waiting: number;
    readonly oldestMs: number;
    readonly growthPerSecond: number;
    readonly servedPerSecond: number;
  };
}

/** A worker of a function is slower than the others. */
export interface SlowWorkerBottleneck extends BottleneckBase {
  readonly kind: 'slow-worker';
  readonly processId: string;
  readonly workerId: string;
  readonly figures: {
    readonly medianMs: number;
    /** Of the medians of the others. */
    readonly peersMedianMs: number;
    readonly peers: number;
    readonly runsPerSecond: number;
  };
}

/** Calls of a process wait for a worker of a function. */
export interface StarvedCallerBottleneck extends BottleneckBase {
  readonly kind: 'starved-caller';
  readonly processId: string;
  readonly workerId: string;
  readonly figures: { readonly waiting: number; readonly oldestWaitMs: number };
}

/** What is told on `function:bottleneck:${functionName}:${workflowId}`. */
export type BottleneckNotification =
  BacklogBottleneck | SlowWorkerBottleneck | StarvedCallerBottleneck;
