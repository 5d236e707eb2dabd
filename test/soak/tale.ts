import { checkHistory } from './checker.js';
import type { CallMade, CallSettled, HistoryEvent, Recorded, RunEnded } from './history.js';

/** A call of a tale: what is not said of it is as in a fleet that is well. */
export interface Told {
  readonly t: number;
  readonly who?: string;
  readonly made?: Partial<CallMade>;
  readonly tookMs?: number;
  readonly neverSettles?: boolean;
  readonly end?: Partial<CallSettled>;
  /** Its runs: when each started, and how it ended. */
  readonly runs?: readonly {
    readonly t: number;
    readonly ms?: number;
    readonly who?: string;
    readonly attempt?: number;
    readonly leftMs?: number;
    readonly how?: RunEnded['how'];
  }[];
}

/** What the wall clock says when a tale's clock says 0. */
export const WALL_MS = 1_000_000;

/** A small history, written by hand, with two callers and a worker that live all the time. */
export class Tale {
  private readonly lines: Recorded[] = [];
  private count = 0;

  constructor() {
    for (const [index, who] of ['caller-1.1', 'caller-2.1', 'worker-1.1'].entries())
      this.tell(0, who, { e: 'booted', pid: 101 + index, wallMs: WALL_MS });
  }

  tell(t: number, who: string, event: HistoryEvent): this {
    this.lines.push({ t, who, ...event });
    return this;
  }

  fault(kind: string, from: number, to = from, target = 'redis'): this {
    return this.tell(to, 'storm', { e: 'fault', kind, target, from, to });
  }

  /** A call that is answered by its last run, unless it is said otherwise. */
  call(told: Told): this {
    const { t, who = 'caller-1.1', made = {}, tookMs = 20, end = {}, runs } = told;
    this.count += 1;
    const id = `call-${this.count}`;
    this.tell(t, who, {
      ...{ e: 'call', id, kind: 'plain', fn: 'work', delivery: 'at-least-once', fails: 0 },
      ...{ timeoutMs: 1_000, readinessTimeoutMs: 1_000, impatient: false, ...made },
    });
    const isRefused = end.code === 'CIRCUIT_OPEN' || end.code === 'NO_WORKER';
    let last: string | undefined;
    for (const [index, run] of (runs ?? (isRefused ? [] : [{ t: t + 5 }])).entries()) {
      const { ms = 5, who: worker = 'worker-1.1', attempt = index + 1, leftMs = 900 } = run;
      last = `${id}-run-${index + 1}`;
      this.tell(run.t, worker, {
        ...{ e: 'start', run: last, id, callId: id, attempt, worker, leftMs },
      });
      this.tell(run.t + ms, worker, { e: 'end', run: last, how: run.how ?? 'returned' });
    }
    if (told.neverSettles === true) return this;
    const run = end.code === undefined ? last : undefined;
    return this.tell(t + tookMs, who, { e: 'settled', id, run, ...end });
  }

  /** All processes end as they should. */
  end(t = 100_000): this {
    for (const who of ['caller-1.1', 'caller-2.1', 'worker-1.1']) {
      this.tell(t, who, { e: 'stopping' });
      this.tell(t + 10, who, { e: 'closed', resources: [] });
      this.tell(t + 20, 'storm', { e: 'exited', process: who });
    }
    return this;
  }

  /** What the checker finds wrong with it. */
  violations(): string[] {
    const sorted = this.lines.toSorted((a, b) => a.t - b.t);
    return checkHistory(sorted).violations.map((text) => text.split('\n')[0] as string);
  }
}

/** The name that the library gives the process with this process id. */
export function processId(pid: number): string {
  return `host-${pid}-0123abcd`;
}
