import type { FunctionRef } from '../protocol/function-ref.js';
import type { BrokenKeyError } from './broken-key-error.js';

/** A worker that a session offered. */
export interface HostedWorker {
  readonly ref: FunctionRef;
  /** `''` for workers that left before: calls of the function may be pending for the session still. */
  readonly workerId: string;
}

/** What the supervisor saw. */
export interface FleetView {
  /** Redis's clock. */
  readonly timestamp: number;
  /** Sessions that joined. */
  readonly sessions: number;
  /** Sessions without a presence: no connection holds their subscription. */
  readonly absent: readonly string[];
  /** Sessions without a lease; only filled when leases were looked at. */
  readonly lapsed: readonly string[];
  /** Functions that have a delayed call that is due. */
  readonly due: readonly FunctionRef[];
  /** Functions whose calls that nobody claimed are to be put back; only filled when leases were looked at. */
  readonly unclaimed: readonly FunctionRef[];
  /** Keys that keep it from seeing functions whose calls are due; it sees the dead all the same. */
  readonly broken: readonly BrokenKeyError[];
}

/**
 * - `supervisor`: looks for the dead
 * - `deputy`: looks after the supervisor, and takes its place within a fraction of a second
 * - `none`: asks now and then
 */
export type Office = 'supervisor' | 'deputy' | 'none';

/** How long an office is held without being kept. */
export interface OfficeLeases {
  readonly supervisorMs: number;
  readonly deputyMs: number;
}

/** What a session's loss is concluded from; checked once more in the step that acts on it. */
export type DeathEvidence = 'presence' | 'lease';

/**
 * Port: the fleet as its supervisor sees it. What somebody else has put in the place of a key fails with a
 * BrokenKeyError. All operations are safe to repeat: a supervisor that dies in
 * the middle is followed by another, which does the rest.
 */
export interface FleetStore {
  /** Takes an office if it is free; which this session holds now. */
  elect(sessionId: string, leases: OfficeLeases): Promise<Office>;
  /** Whether both offices are held, by whomever. */
  areHeld(): Promise<boolean>;
  /** Keeps the deputy's office; `false` when this session does not hold it. */
  keepDeputy(sessionId: string, leaseMs: number): Promise<boolean>;
  /** Gives its office back. */
  resign(sessionId: string): Promise<void>;
  /**
   * One look at all sessions, of which the deputy is told; `undefined` when the lease is no longer held. A deputy
   * that does not hear of it, although it has a presence, has died: its office is free.
   *
   * @param settled whether nobody is given time any more to come back, which the deputy is told, too
   */
  look(
    sessionId: string,
    leaseMs: number,
    withLeases: boolean,
    settled: boolean,
  ): Promise<FleetView | undefined>;
  /**
   * Whether a connection is open on which the session reads calls: its process, or the host of it, lives then.
   * `undefined` when this user may not ask.
   */
  isReading(sessionId: string): Promise<boolean | undefined>;
  /** Ends a session's lease if the evidence still holds; its workers, or `undefined` if it lives. */
  condemn(sessionId: string, evidence: DeathEvidence): Promise<HostedWorker[] | undefined>;
  /** Forgets a session whose workers and calls were dealt with. */
  bury(sessionId: string): Promise<void>;
}
