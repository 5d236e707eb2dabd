import type { RawCall } from '../../backend/call-streams.js';
import { createDeferred } from '../../common/deferred.js';
import type { CallEntry } from '../../protocol/call.js';
import type { Lane } from './lanes.js';
import type { CallObserver, Ending, RunningCall } from './running-call.js';
import type { Settler } from './settler.js';

/** Where an echo learns how its call ended. */
export interface EchoSource {
  /** Calls back once: how the call ended, and whether that was carried out under the first entry. */
  whenEnded(listener: (ending: Ending, carriedOut: boolean) => void): void;
}

/**
 * An entry of a call that this process runs, or ran lately, under another entry: its caller could not know
 * whether the first one arrived, and wrote it again. It does not run. When the first entry's outcome reached
 * the caller this one is removed; when that entry was gone (Redis was emptied) this one carries the outcome.
 */
export class EchoRun implements RunningCall {
  readonly context = { abort: (): void => undefined };
  private readonly finished = createDeferred();
  private lost = false;

  constructor(
    readonly lane: Lane,
    readonly raw: RawCall,
    readonly entry: CallEntry,
    private readonly observer: CallObserver,
    private readonly settler: Settler,
    private readonly keepMs: number,
    private readonly source: EchoSource,
  ) {}

  get done(): Promise<void> {
    return this.finished.promise;
  }

  run(): void {
    this.source.whenEnded((ending, carriedOut) => {
      if (this.lost) return;
      this.say(carriedOut ? { kind: 'discard', reply: '' } : ending);
    });
  }

  lose(): void {
    this.lost = true;
    this.finished.resolve();
  }

  private say(ending: Ending): void {
    const { entryId, callId, replyTo, idempotencyKey } = this.entry;
    this.settler.add(
      {
        ref: this.lane.ref,
        entryId,
        callId,
        replyTo: ending.reply === '' ? '' : replyTo,
        ...ending,
        ...(idempotencyKey === undefined
          ? {}
          : { once: { key: idempotencyKey, keepMs: this.keepMs } }),
      },
      () => {
        this.observer.settled();
        this.finished.resolve();
      },
    );
    this.observer.ended();
  }
}
