import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

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
}

/** A process has ended, as its parent saw it. */
export interface Exited {
  readonly e: 'exited';
  readonly process: string;
}

export type HistoryEvent =
  CallMade | CallSettled | RunStarted | RunEnded | FaultDone | Logged | LifeStep | Exited;

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
