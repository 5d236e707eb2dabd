import type { FunctionRef } from '../protocol/function-ref.js';
import { parseFunctionId } from '../protocol/keys.js';
import type { Vitals, WorkerVitals } from '../protocol/vitals.js';
import { Alarm, type AlarmChange } from './alarm.js';
import { BacklogTrend, type BacklogSample } from './backlog-trend.js';
import type { BottleneckFinding, Finding } from './bottleneck-finding.js';
import { compareWithPeers } from './peer-comparison.js';
import { VITALS_INTERVAL_MS } from './vitals-reporter.js';

/** What a process said longer ago than this counts no more. */
const FRESH_MS = 2_500;
/** A call that waits for a worker for so long makes its caller a starved one. */
export const STARVED_MS = 500;
/** Looks in a row that have to find it, at backlogs and at vitals. */
const BACKLOG_LOOKS = 3;
const VITALS_LOOKS = 2;
/** Functions that are looked at, and processes per function, at the most. */
export const MAX_FUNCTIONS = 200;
const MAX_PROCESSES = 1_000;

/** One function in one process. */
interface Place {
  readonly processId: string;
  workerId: string;
  heardAt: number;
  worker: WorkerVitals | undefined;
  readonly slow: Alarm;
  readonly starved: Alarm;
}

interface Watched {
  readonly ref: FunctionRef;
  readonly places: Map<string, Place>;
  readonly trend: BacklogTrend;
  readonly growing: Alarm;
}

/**
 * Finds bottlenecks in what it is fed: vitals of processes, and backlogs. It has no clock and no connection of its own;
 * what it finds it tells at once.
 *
 * A function that nobody speaks of any more is forgotten, and an alarm of it with it: its end is the silence.
 */
export class BottleneckDetector {
  private readonly functions = new Map<string, Watched>();

  constructor(private readonly tell: (finding: BottleneckFinding) => void) {}

  /** Functions whose backlog it wants to know. */
  refs(): FunctionRef[] {
    return [...this.functions.values()].map(({ ref }) => ref);
  }

  /** Whether there was room for all of them. */
  hear(vitals: Vitals, now: number): boolean {
    let isRoom = true;
    for (const { id, worker, caller } of vitals.functions) {
      const watched = this.of(id);
      const place = watched && placeOf(watched, vitals.processId);
      if (watched === undefined || place === undefined) {
        isRoom = false;
        continue;
      }
      place.heardAt = now;
      place.workerId = vitals.workerId;
      place.worker = worker;
      this.compare(watched, place, now);
      const { waiting, oldestWaitMs } = caller ?? { waiting: 0, oldestWaitMs: 0 };
      const isStarved = waiting > 0 && oldestWaitMs >= STARVED_MS;
      this.tellIf(place.starved.look(isStarved, now), watched.ref, {
        kind: 'starved-caller',
        processId: place.processId,
        workerId: place.workerId,
        figures: { waiting, oldestWaitMs: Math.round(oldestWaitMs) },
      });
    }
    this.lookAtSilent(vitals, now);
    return isRoom;
  }

  sample(ref: FunctionRef, sample: BacklogSample): void {
    const watched = this.functions.get(ref.id);
    if (watched === undefined) return;
    watched.trend.add(sample);
    const servedPerSecond = this.servedPerSecond(watched, sample.at);
    const isGrowing = watched.trend.isGrowing(servedPerSecond);
    const { calls, waiting, oldestMs } = sample;
    this.tellIf(watched.growing.look(isGrowing, sample.at), ref, {
      kind: 'backlog',
      figures: {
        calls,
        waiting,
        oldestMs,
        growthPerSecond: Math.round(watched.trend.growthPerSecond),
        servedPerSecond: Math.round(servedPerSecond),
      },
    });
  }

  /** Forgets processes, and functions, that nobody speaks of any more. */
  forget(now: number): void {
    for (const [id, { places }] of this.functions) {
      for (const [processId, { heardAt }] of places)
        if (now - heardAt > FRESH_MS) places.delete(processId);
      if (places.size === 0) this.functions.delete(id);
    }
  }

  private compare({ ref, places }: Watched, place: Place, now: number): void {
    const others = [...places.values()].filter(
      (other) => other !== place && now - other.heardAt <= FRESH_MS,
    );
    const comparison =
      place.worker &&
      compareWithPeers(
        place.worker,
        others.flatMap(({ worker }) => worker ?? []),
      );
    // With nothing to compare an alarm that is on stays on: a worker that is slow enough ends few runs.
    if (comparison === undefined && place.slow.isOn && place.worker !== undefined) return;
    const { medianMs = 0, peersMedianMs = 0, peers = 0, isSlow = false } = comparison ?? {};
    this.tellIf(place.slow.look(isSlow, now), ref, {
      kind: 'slow-worker',
      processId: place.processId,
      workerId: place.workerId,
      figures: {
        medianMs: rounded(medianMs),
        peersMedianMs: rounded(peersMedianMs),
        peers,
        runsPerSecond: ((place.worker?.runs ?? 0) * 1_000) / VITALS_INTERVAL_MS,
      },
    });
  }

  /** A process says nothing of a function that nothing happens to: no call waits there, and nothing is slow. */
  private lookAtSilent({ processId, functions }: Vitals, now: number): void {
    const named = new Set(functions.map(({ id }) => id));
    for (const [id, { ref, places }] of this.functions) {
      const place = places.get(processId);
      if (place === undefined || named.has(id)) continue;
      place.worker = undefined;
      // Until its alarms have ended.
      if (place.starved.isOn || place.slow.isOn) place.heardAt = now;
      const { workerId } = place;
      const figures = { waiting: 0, oldestWaitMs: 0 };
      const none = { medianMs: 0, peersMedianMs: 0, peers: 0, runsPerSecond: 0 };
      this.tellIf(place.starved.look(false, now), ref, {
        kind: 'starved-caller',
        processId,
        workerId,
        figures,
      });
      this.tellIf(place.slow.look(false, now), ref, {
        kind: 'slow-worker',
        processId,
        workerId,
        figures: none,
      });
    }
  }

  private servedPerSecond({ places }: Watched, now: number): number {
    let runs = 0;
    for (const { worker, heardAt } of places.values())
      if (now - heardAt <= FRESH_MS) runs += worker?.runs ?? 0;
    return (runs * 1_000) / VITALS_INTERVAL_MS;
  }

  private of(id: string): Watched | undefined {
    const known = this.functions.get(id);
    if (known !== undefined) return known;
    const ref = this.functions.size < MAX_FUNCTIONS ? parseFunctionId(id) : undefined;
    if (ref === undefined) return undefined;
    const watched = {
      ref,
      places: new Map<string, Place>(),
      trend: new BacklogTrend(),
      growing: new Alarm(BACKLOG_LOOKS),
    };
    this.functions.set(id, watched);
    return watched;
  }

  private tellIf(state: AlarmChange | undefined, ref: FunctionRef, what: Finding): void {
    if (state !== undefined) this.tell({ ...what, state, ref });
  }
}

function placeOf({ places }: Watched, processId: string): Place | undefined {
  let place = places.get(processId);
  if (place !== undefined) return place;
  if (places.size >= MAX_PROCESSES) return undefined;
  place = {
    processId,
    workerId: '',
    heardAt: 0,
    worker: undefined,
    slow: new Alarm(VITALS_LOOKS),
    starved: new Alarm(VITALS_LOOKS),
  };
  places.set(processId, place);
  return place;
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
