import type { Clock } from '../common/clock.js';
import { isFunctionsError } from '../common/errors.js';
import type { CallerProbe, EndedRun, FollowedCall, WorkerProbe } from '../execution/call-probes.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import { FunctionMeter } from './function-meter.js';
import type { HistogramLibrary } from './histograms.js';

/** Functions that a process measures at once: names may come from outside. */
export const MAX_MEASURED = 1_000;
/** One that nothing happened to for so long makes room for another. */
const IDLE_MS = 60_000;

/** A call that this process has made. */
interface OpenCall {
  readonly meter: FunctionMeter;
  readonly beganAt: number;
  sentAt: number | undefined;
}

/**
 * Measures the calls and runs of this process while it stands in `CallProbes`.
 *
 * A call that began before it came there is not known here, and is not counted; one that ends after it left is
 * counted where nobody looks any more.
 */
export class ProcessMeter implements CallerProbe, WorkerProbe {
  /** Calls and runs of functions that were too many to be measured. */
  unmeasured = 0;
  private readonly functions = new Map<string, FunctionMeter>();
  private readonly open = new Map<string, OpenCall>();

  constructor(
    private readonly library: HistogramLibrary,
    private readonly clock: Clock,
    /** When it began, on Redis's clock. */
    readonly epoch: number,
  ) {}

  async follow<T>(
    { callId, ref }: FollowedCall,
    payload: string,
    perform: (payload: string) => Promise<T>,
  ): Promise<T> {
    const meter = this.of(ref);
    if (meter === undefined) return perform(payload);
    const call: OpenCall = { meter, beganAt: this.clock.elapsed(), sentAt: undefined };
    this.open.set(callId, call);
    meter.waiting += 1;
    try {
      const result = await perform(payload);
      this.settle(callId, call, undefined);
      return result;
    } catch (error) {
      this.settle(callId, call, isFunctionsError(error) ? error.code : 'UNKNOWN');
      throw error;
    }
  }

  sent(callId: string): void {
    const call = this.open.get(callId);
    if (call === undefined || call.sentAt !== undefined) return;
    call.sentAt = this.clock.elapsed();
    call.meter.waiting -= 1;
    call.meter.pending += 1;
    call.meter.wait.record(call.sentAt - call.beganAt);
  }

  started(ref: FunctionRef, queuedMs: number): number {
    const now = this.clock.elapsed();
    // Where there is no room, its end is counted.
    const meter = this.hosted(ref);
    if (meter !== undefined) {
      meter.usedAt = now;
      meter.queue.record(queuedMs);
    }
    return now;
  }

  ended(ref: FunctionRef, run: EndedRun): void {
    const meter = this.of(ref);
    if (meter === undefined) return;
    meter.noteRun(run);
    if (run.startedAt !== undefined) meter.noteRunTime(this.clock.elapsed() - run.startedAt);
  }

  /** Of every function that is measured. */
  all(): FunctionMeter[] {
    return [...this.functions.values()];
  }

  /** The measurement of a function that this process hosts, also before anything was measured. */
  hosted(ref: FunctionRef): FunctionMeter | undefined {
    return this.functions.get(ref.id) ?? this.make(ref);
  }

  /** Remembers runs one by one no more: nobody looks for bottlenecks. */
  dropRecent(): void {
    for (const meter of this.functions.values()) meter.recent = undefined;
  }

  /** How long the call that waits longest for a worker of each function has been waiting, in milliseconds. */
  oldestWaits(): Map<FunctionMeter, number> {
    const oldest = new Map<FunctionMeter, number>();
    const now = this.clock.elapsed();
    for (const { meter, beganAt, sentAt } of this.open.values())
      // In the order in which they began: the first is the oldest.
      if (sentAt === undefined && !oldest.has(meter)) oldest.set(meter, now - beganAt);
    return oldest;
  }

  private settle(callId: string, call: OpenCall, code: string | undefined): void {
    this.open.delete(callId);
    const { meter } = call;
    meter.calls += 1;
    meter.usedAt = this.clock.elapsed();
    if (code !== undefined) meter.callErrors.add(code);
    if (call.sentAt === undefined) {
      meter.waiting -= 1;
      meter.wait.record(this.clock.elapsed() - call.beganAt);
    } else {
      meter.pending -= 1;
      meter.roundTrip.record(this.clock.elapsed() - call.sentAt);
    }
  }

  private of(ref: FunctionRef): FunctionMeter | undefined {
    const meter = this.functions.get(ref.id) ?? this.make(ref);
    if (meter === undefined) this.unmeasured += 1;
    else meter.usedAt = this.clock.elapsed();
    return meter;
  }

  private make(ref: FunctionRef): FunctionMeter | undefined {
    if (this.functions.size >= MAX_MEASURED && !this.makeRoom()) return undefined;
    const meter = new FunctionMeter(ref, this.library);
    this.functions.set(ref.id, meter);
    return meter;
  }

  private swept = -Infinity;

  /** At most once a second: a caller of ever new names must not pay for a search with each. */
  private makeRoom(): boolean {
    const now = this.clock.elapsed();
    if (now - this.swept < 1_000) return false;
    this.swept = now;
    for (const [id, meter] of this.functions)
      if (meter.isIdle && now - meter.usedAt > IDLE_MS) this.functions.delete(id);
    return this.functions.size < MAX_MEASURED;
  }
}
