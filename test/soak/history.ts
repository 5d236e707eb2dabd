import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { CircuitState } from '../../src/index.js';
import type { FuseTimes } from './fuse.js';

/** How a call of the storm is made; its id is in its parameters, so that every run of it tells. */
export interface CallMade {
  readonly e: 'call';
  readonly id: string;
  readonly kind: string;
  readonly fn: string;
  readonly delivery: 'at-least-once' | 'at-most-once';
  readonly key?: string | undefined;
  /** How many of its runs are to fail before one succeeds. */
  readonly fails: number;
  readonly timeoutMs: number;
  readonly readinessTimeoutMs: number;
  /** Whether the caller cancels it, or its deadline is meant to strike. */
  readonly impatient: boolean;
}

/** How it ended for its caller. */
export interface CallSettled {
  readonly e: 'settled';
  readonly id: string;
  /** The run whose result it is; absent for an error. */
  readonly run?: string | undefined;
  readonly attempt?: number | undefined;
  readonly code?: string | undefined;
  /** Of a call that an open circuit refused: when to try again. */
  readonly retryAfterMs?: number | undefined;
  /** Of a call of the workflow: the generation that its worker had loaded, and the version that it read with it. */
  readonly generation?: number | undefined;
  readonly version?: number | null | undefined;
  /** How often its group moved on meanwhile: it was made once more each time. */
  readonly moves?: number | undefined;
}

/** A handler has started. */
export interface RunStarted {
  readonly e: 'start';
  readonly run: string;
  readonly id: string;
  readonly callId: string;
  readonly attempt: number;
  readonly worker: string;
  /** Milliseconds that were left to the call, on this machine's clock. */
  readonly leftMs: number;
}

/** A handler has ended. */
export interface RunEnded {
  readonly e: 'end';
  readonly run: string;
  readonly how: 'returned' | 'failed' | 'aborted';
}

/** What happened to the fleet; `to` is when it was over. */
export interface FaultDone {
  readonly e: 'fault';
  readonly kind: string;
  readonly target: string;
  readonly from: number;
  readonly to: number;
}

/** A line of the library's log that tells what the caller or worker did about a fault. */
export interface Logged {
  readonly e: 'log';
  readonly text: string;
}

/** A step in a process's life. */
export interface LifeStep {
  readonly e: 'booted' | 'lost' | 'stopping' | 'closed';
  /** What still keeps the process alive, when it is `closed`. */
  readonly resources?: readonly string[];
  /** When it is `booted`: its process id, and this machine's wall clock, in milliseconds, beside `t`. */
  readonly pid?: number;
  readonly wallMs?: number;
}

/** A process has ended, as its parent saw it. */
export interface Exited {
  readonly e: 'exited';
  readonly process: string;
}

/** When the function `fused` fails: by the clock of all processes, so that every worker knows without being told. */
export interface FusePlan extends FuseTimes {
  readonly e: 'fuse';
}

/** The record of the circuit of `fused` in Redis has changed, as one who looks on heard it. */
export interface CircuitRecorded {
  readonly e: 'record';
  readonly state: CircuitState;
  readonly generation: number;
  readonly retryAt?: number | undefined;
  /** The process whose call is the probe. */
  readonly prober?: string | undefined;
}

/** A caller decides by itself, or no more. */
export interface CircuitShared {
  readonly e: 'alone' | 'shared';
  readonly problem?: string;
}

/** A save of the workflow is in Redis. */
export interface Saved {
  readonly e: 'saved';
  readonly generation: number;
  /** What it said of itself. */
  readonly version: number;
  /** Nothing is wrong any more, and everybody has to hear of it. */
  readonly isLast: boolean;
}

/** An `@OnWorkflowEvent('saved')` of this process was told. */
export interface SaveHeard {
  readonly e: 'heard';
  readonly generation: number;
}

/** A restart of the workflow that this process leads. */
export interface RestartStep {
  readonly e: 'restart' | 'restarted';
  readonly id: string;
  /** When it failed. */
  readonly code?: string | undefined;
}

/** Calls that are bound to one save, one after the other. */
export interface GroupSeen {
  readonly e: 'group';
  /** What it was bound to at first; with `movesOn`, it may be bound to later ones later. */
  readonly generation: number;
  readonly movesOn: boolean;
  readonly answers: readonly {
    /** What the group was bound to when it got the answer. */
    readonly bound: number;
    readonly generation: number;
    readonly version: number | null;
  }[];
}

/** A listener begins to listen to metrics, listens no more, or could not. */
export interface ListenStep {
  readonly e: 'listening' | 'deaf';
  readonly code?: string | undefined;
}

/** One function, as one process counted it. */
export interface Count {
  readonly fn: string;
  /** As its sessions have it, without their number; or the name of the process itself. */
  readonly process: string;
  /** Since when it counts, and when it said so, on this machine's wall clock. */
  readonly since: number;
  readonly at: number;
  readonly calls: number;
  /** Runs whose start was seen. */
  readonly runs: number;
}

/** What a listener was told, or a scrape brought. */
export interface Measured {
  readonly e: 'measured';
  readonly via: 'watch' | 'snapshot' | 'scrape';
  /** How long a scrape took: it was counted some time in between. */
  readonly tookMs?: number;
  readonly counts: readonly Count[];
}

/** Nobody has listened to metrics since `from`; these were published all the same, after the time to stop. */
export interface Silence {
  readonly e: 'silence';
  readonly from: number;
  readonly published: readonly string[];
}

export type HistoryEvent =
  | CallMade
  | CallSettled
  | RunStarted
  | RunEnded
  | FaultDone
  | Logged
  | LifeStep
  | Exited
  | FusePlan
  | CircuitRecorded
  | CircuitShared
  | Saved
  | SaveHeard
  | RestartStep
  | GroupSeen
  | ListenStep
  | Measured
  | Silence;

/** An event, when, and in which process. */
export type Recorded = HistoryEvent & { readonly t: number; readonly who: string };

/** One clock for all processes of this machine, in milliseconds. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Writes a process's history; each line is in the file when `note` returns, whatever ends the process then. */
export class HistoryLog {
  private readonly file: number;

  constructor(
    dir: string,
    private readonly who: string,
  ) {
    this.file = openSync(join(dir, `${who}.jsonl`), 'a');
  }

  note(event: HistoryEvent): void {
    writeSync(this.file, `${JSON.stringify({ t: monotonicMs(), who: this.who, ...event })}\n`);
  }

  close(): void {
    closeSync(this.file);
  }
}

/** All histories of a folder, in the order of the clock. */
export function readHistory(dir: string): Recorded[] {
  const events: Recorded[] = [];
  for (const file of readdirSync(dir).filter((name) => name.endsWith('.jsonl'))) {
    for (const line of readFileSync(join(dir, file), 'utf8').split('\n'))
      // The last line of a killed process may be cut off.
      if (line.endsWith('}')) events.push(JSON.parse(line) as Recorded);
  }
  return events.sort((a, b) => a.t - b.t);
}
