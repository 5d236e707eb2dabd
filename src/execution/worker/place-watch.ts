import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Lane, Lanes } from './lanes.js';
import type { Roster } from './roster.js';
import type { RunningCall } from './running-call.js';

/** A call that this process made, and that is not settled. */
export interface OwnCall {
  readonly callId: string;
  readonly ref: FunctionRef;
}

/**
 * Notices when a process waits for itself: its places are taken by handlers that seem to wait for calls which would
 * need a place here. Nobody is helped by that until a deadline ends it, and nothing else says why.
 *
 * It is asked with each heartbeat, and costs a call nothing. Which call a handler made is not known, so it goes by
 * numbers: the same calls hold all places from one heartbeat to the next, and at least as many calls that were made
 * here, of functions hosted here, do not run here.
 */
export class PlaceWatch {
  private before = new Set<RunningCall>();
  private told = false;

  constructor(
    private readonly lanes: Lanes,
    private readonly running: Roster<RunningCall>,
    private readonly concurrency: number,
    private readonly ownCalls: () => Iterable<OwnCall>,
    private readonly warn: (text: string) => void,
  ) {}

  look(): void {
    if (this.told) return;
    const { before } = this;
    const full = this.running.size >= this.concurrency;
    const fullLanes = full ? [] : this.lanes.all().filter(isFull);
    this.before = full || fullLanes.length > 0 ? new Set(this.running) : NONE;
    if (before.size === 0 || this.before.size === 0) return;
    const staying = [...this.running].filter((call) => before.has(call));
    if (full) this.judge(staying, undefined);
    for (const lane of fullLanes)
      this.judge(
        staying.filter((call) => call.lane === lane),
        lane,
      );
  }

  private judge(staying: readonly RunningCall[], lane: Lane | undefined): void {
    const places = lane?.hosted.concurrency ?? this.concurrency;
    const waiting = staying.length < places ? 0 : this.countWaiting(lane);
    if (waiting < places || this.told) return;
    this.told = true;
    this.before = NONE;
    const whose = lane === undefined ? 'this process' : lane.ref.functionName;
    this.warn(
      `the ${places} place(s) of ${whose} are taken by calls that do not end, while ${waiting} call(s) wait that this ` +
        'process made itself, of functions that it hosts. If those that run made them, they wait for each other ' +
        'until their deadline: raise concurrency, or host callers and what they call in different processes.',
    );
  }

  private countWaiting(lane: Lane | undefined): number {
    const runningIds = new Set([...this.running].map(({ entry }) => entry.callId));
    let waiting = 0;
    for (const { callId, ref } of this.ownCalls()) {
      const own = this.lanes.get(ref);
      if (own !== undefined && (lane === undefined || own === lane) && !runningIds.has(callId))
        waiting += 1;
    }
    return waiting;
  }
}

const NONE: Set<RunningCall> = new Set();

function isFull({ running, hosted }: Lane): boolean {
  return running >= hosted.concurrency;
}
