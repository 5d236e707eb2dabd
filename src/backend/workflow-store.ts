import type { WorkflowEventType } from '../protocol/workflow-event.js';

/** A workflow as it was saved last. */
export interface StoredGeneration {
  /** 0: it was never saved. */
  readonly generation: number;
  /** What was said about the save, as JSON. */
  readonly details: string;
}

/** What was told about a workflow. */
export interface WorkflowTold {
  readonly generation: number;
  /** Redis's clock. */
  readonly timestamp: number;
}

/** A restart of a workflow's workers, by the process that leads it. */
export interface RestartLease {
  readonly restartId: string;
  /** The process that leads it, for texts. */
  readonly holder: string;
  /** Its session: once that is dead the lead is free. `''` when it has none: the lead ends by itself. */
  readonly session: string;
}

/** What is left of a restart, for whoever carries it to its end. */
export interface RestartLegacy {
  readonly restartId: string;
  /** What is to be done, as whoever left it has written it. */
  readonly rest: string;
  /** Sessions that are told of it. */
  readonly sessions: readonly string[];
}

/** An order to restart, and to whom. */
export interface RestartOrder {
  readonly restartId: string;
  /** The session that is to restart its workers. */
  readonly sessionId: string;
  /** The session that leads, to be told when it has failed. */
  readonly replyTo: string;
}

/**
 * Port: workflows as a whole. A save and its news are one atomic step; the generation grows with every save, also when
 * everything that was stored is lost in between. One process at a time leads the restart of a workflow, and whoever
 * does not lead any more can order nothing.
 */
export interface WorkflowStore {
  /** The save that holds now. */
  current(workflowId: string): Promise<StoredGeneration>;
  /** Raises the generation, and tells `saved`. */
  save(workflowId: string, details: string): Promise<WorkflowTold>;
  /** Tells something else about a workflow. */
  tell(
    workflowId: string,
    type: Exclude<WorkflowEventType, 'saved'>,
    details: string,
  ): Promise<WorkflowTold>;
  /** Takes the lead of a restart; who has it, when that is somebody else who lives. */
  beginRestart(
    workflowId: string,
    lease: RestartLease,
    leaseMs: number,
  ): Promise<RestartLease | undefined>;
  /** Keeps the lead; `false` when it was lost. */
  keepRestart(workflowId: string, restartId: string, leaseMs: number): Promise<boolean>;
  /**
   * Leaves the lead to whoever takes it first, for so long, and tells sessions of it; `false` when it was lost. Until
   * somebody takes it nobody leads, and nobody begins another restart.
   */
  leaveRestart(workflowId: string, legacy: RestartLegacy, forMs: number): Promise<boolean>;
  /** Takes a lead that was left, with the restartId that it had; nothing when there is none. */
  takeRestart(
    workflowId: string,
    taker: Omit<RestartLease, 'restartId'>,
    leaseMs: number,
  ): Promise<Omit<RestartLegacy, 'sessions'> | undefined>;
  /** Whether this restart has the lead. */
  leadsRestart(workflowId: string, restartId: string): Promise<boolean>;
  /** Gives the lead back; that of another restart stays. */
  endRestart(workflowId: string, restartId: string): Promise<void>;
  /** Orders a session to restart its workers of the workflow; `false` when the lead was lost: nothing is sent. */
  orderRestart(workflowId: string, order: RestartOrder): Promise<boolean>;
}
