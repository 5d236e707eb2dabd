import type { FunctionRef } from '../protocol/function-ref.js';
import type { Vitals } from '../protocol/vitals.js';
import type { AlarmChange } from './alarm.js';
import type { BacklogSample } from './backlog-trend.js';
import type { BottleneckFinding, Finding } from './bottleneck-finding.js';
import { compareWithPeers } from './peer-comparison.js';
import { VITALS_INTERVAL_MS } from './vitals-reporter.js';
import { WatchedFunctions, type Place, type Watched } from './watched-functions.js';

/** A call that waits for a worker for so long makes its caller a starved one. */
export const STARVED_MS = 500;
/**
 * Finds bottlenecks in what it is fed: vitals of processes, and backlogs. It has no clock and no connection of its own;
 * what it finds it tells at once.
 *
 * A function that nobody speaks of any more is forgotten, and an alarm of it with it: its end is the silence.
 */
export class BottleneckDetector {
  private readonly functions = new WatchedFunctions();

  constructor(private readonly tell: (finding: BottleneckFinding) => void) {}

  /** Functions whose backlog it wants to know. */
  refs(): FunctionRef[] {
    return this.functions.refs();
  }

  /** Whether there was room for all of them. */
  hear(vitals: Vitals, now: number): boolean {
    let isRoom = true;
    for (const { id, worker, caller } of vitals.functions) {
      const watched = this.functions.of(id);
      const place = watched?.place(vitals.processId);
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
    const watched = this.functions.find(ref);
    if (watched === undefined) return;
    watched.trend.add(sample);
    const servedPerSecond = watched.servedPerSecond(sample.at);
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
    this.functions.forget(now);
  }

  private compare(watched: Watched, place: Place, now: number): void {
    const { ref } = watched;
    const others = watched.fresh(now).filter((other) => other !== place);
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
    for (const { ref, places } of this.functions.all()) {
      const place = places.get(processId);
      if (place === undefined || named.has(ref.id)) continue;
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

  private tellIf(state: AlarmChange | undefined, ref: FunctionRef, what: Finding): void {
    if (state !== undefined) this.tell({ ...what, state, ref });
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
