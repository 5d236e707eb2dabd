import type { RawCall } from '../../backend/call-streams.js';
import { createDeferred } from '../../common/deferred.js';
import type { CallEntry } from '../../protocol/call.js';
import { outcomeOf, type RunSurroundings } from './call-run.js';
import type { Lane } from './lanes.js';
import type { EchoSource, RunningCall, Ending } from './running-call.js';

/**
 * An entry of a call that this process runs, or ran lately, under another entry: its caller could not know
 * whether the first one arrived, and wrote it again. It does not run. When the first entry's outcome reached
 * the caller this one is removed; when that entry was gone (Redis was emptied) this one carries the outcome.
 */
export class EchoRun implements RunningCall {
  readonly context = { abort: (): void => undefined };
  readonly startedAt = undefined;
  private readonly finished = createDeferred();
  private lost = false;
  before: RunningCall | undefined;
  after: RunningCall | undefined;
  isListed = false;

  constructor(
    readonly lane: Lane,
    readonly raw: RawCall,
    readonly entry: CallEntry,
    private readonly surroundings: RunSurroundings,
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
    const { observer, settler, settings } = this.surroundings;
    settler.add(outcomeOf(this.lane.ref, this.entry, ending, settings), () => {
      observer.settled(this);
      this.finished.resolve();
    });
    observer.ended(this);
  }
}
