import type { FunctionRef } from '../protocol/function-ref.js';
import { parseFunctionId } from '../protocol/keys.js';
import type { WorkerVitals } from '../protocol/vitals.js';
import { Alarm } from './alarm.js';
import { BacklogTrend } from './backlog-trend.js';
import { VITALS_INTERVAL_MS } from './vitals-reporter.js';

/** What a process said longer ago than this counts no more. */
const FRESH_MS = 2_500;
/** Looks in a row that have to find it, at backlogs and at vitals. */
const BACKLOG_LOOKS = 3;
const VITALS_LOOKS = 2;
/** Functions that are looked at, and processes per function, at the most. */
export const MAX_FUNCTIONS = 200;
const MAX_PROCESSES = 1_000;

/** One function in one process. */
export interface Place {
  readonly processId: string;
  workerId: string;
  heardAt: number;
  worker: WorkerVitals | undefined;
  readonly slow: Alarm;
  readonly starved: Alarm;
}

/** One function, wherever it is spoken of. */
export class Watched {
  readonly places = new Map<string, Place>();
  readonly trend = new BacklogTrend();
  readonly growing = new Alarm(BACKLOG_LOOKS);

  constructor(readonly ref: FunctionRef) {}

  /** The function in a process; nothing when there is no room for it. */
  place(processId: string): Place | undefined {
    let place = this.places.get(processId);
    if (place !== undefined) return place;
    if (this.places.size >= MAX_PROCESSES) return undefined;
    place = {
      processId,
      workerId: '',
      heardAt: 0,
      worker: undefined,
      slow: new Alarm(VITALS_LOOKS),
      starved: new Alarm(VITALS_LOOKS),
    };
    this.places.set(processId, place);
    return place;
  }

  /** Where it was spoken of lately. */
  fresh(now: number): Place[] {
    return [...this.places.values()].filter(({ heardAt }) => now - heardAt <= FRESH_MS);
  }

  servedPerSecond(now: number): number {
    let runs = 0;
    for (const { worker } of this.fresh(now)) runs += worker?.runs ?? 0;
    return (runs * 1_000) / VITALS_INTERVAL_MS;
  }
}

/** The functions that somebody speaks of, within bounds. */
export class WatchedFunctions {
  private readonly functions = new Map<string, Watched>();

  all(): Iterable<Watched> {
    return this.functions.values();
  }

  refs(): FunctionRef[] {
    return [...this.functions.values()].map(({ ref }) => ref);
  }

  find({ id }: FunctionRef): Watched | undefined {
    return this.functions.get(id);
  }

  /** The function of an id; nothing when it is none, or there is no room for it. */
  of(id: string): Watched | undefined {
    const known = this.functions.get(id);
    if (known !== undefined) return known;
    const ref = this.functions.size < MAX_FUNCTIONS ? parseFunctionId(id) : undefined;
    if (ref === undefined) return undefined;
    const watched = new Watched(ref);
    this.functions.set(id, watched);
    return watched;
  }

  /** Forgets processes, and functions, that nobody speaks of any more. */
  forget(now: number): void {
    for (const [id, { places }] of this.functions) {
      for (const [processId, { heardAt }] of places)
        if (now - heardAt > FRESH_MS) places.delete(processId);
      if (places.size === 0) this.functions.delete(id);
    }
  }
}
