import { Logger } from '@nestjs/common';
import type { Outcome, RawCall } from '../../backend/call-streams.js';
import type { Clock } from '../../common/clock.js';
import { createDeferred } from '../../common/deferred.js';
import { MalformedCallError } from '../../common/errors.js';
import type { Settings } from '../../common/settings.js';
import {
  canBeAnswered,
  encodeFailure,
  isCallId,
  parseCall,
  partsOf,
  type CallEntry,
} from '../../protocol/call.js';
import { isMalformed } from '../../protocol/notification.js';
import { toWireError } from '../../protocol/wire-error.js';
import type { CallProbes } from '../call-probes.js';
import { CallRun, type RunSurroundings } from './call-run.js';
import { EchoRun } from './echo-run.js';
import type { Lane } from './lanes.js';
import { RecentResults } from './recent-results.js';
import { UNLISTED, type Roster } from './roster.js';
import type { CallObserver, EchoSource, RunningCall } from './running-call.js';
import type { Settler } from './settler.js';

/** Makes of each entry what becomes of it: a run, an echo of one, or a refusal. */
export class CallRunner {
  /** Entries that were no calls. */
  malformed = 0;
  private readonly logger = new Logger('CallFunction');
  private readonly malformedLogged = new Set<string>();
  private readonly results: RecentResults;
  private readonly surroundings: RunSurroundings;

  constructor(
    private readonly settings: Settings,
    clock: Clock,
    private readonly settler: Settler,
    private readonly offsetMs: () => number,
    private readonly observer: CallObserver,
    probes: CallProbes,
    generationOf: (workflowId: string) => number,
    private readonly running: Roster<RunningCall>,
  ) {
    this.results = new RecentResults(clock);
    const { logger, results } = this;
    const own = { logger, results };
    this.surroundings = { ...own, settings, clock, settler, observer, probes, generationOf };
  }

  start(lane: Lane, raw: RawCall): RunningCall {
    const parsed = parseCall(raw.entryId, raw.fields);
    if (isMalformed(parsed)) return this.refuse(lane, raw, parsed.malformed);
    const source = parsed.again ? this.sourceOf(lane, parsed) : undefined;
    if (source !== undefined) {
      this.logger.debug(`${parsed.callId} was written again: it runs, or ran, here already`);
      return new EchoRun(lane, raw, parsed, this.surroundings, source);
    }
    return new CallRun(lane, raw, parsed, this.surroundings, this.offsetMs());
  }

  /** Where a call's outcome is known from, or will be. */
  private sourceOf({ ref }: Lane, { callId }: CallEntry): EchoSource | undefined {
    const reply = this.results.find(ref, callId);
    if (reply !== undefined)
      return { whenEnded: (listener) => listener({ kind: 'settle', reply }, false) };
    for (let run = this.running.first; run !== undefined; run = run.after)
      if (run instanceof CallRun && run.callId === callId && run.ref.id === ref.id) return run;
    return undefined;
  }

  /** An entry that is no call: removed and counted, and whoever wrote it is told if that can be read. */
  private refuse(lane: Lane, raw: RawCall, problem: string): RunningCall {
    this.malformed += 1;
    const { functionName, workflowId } = lane.ref;
    if (!this.malformedLogged.has(lane.ref.id)) {
      this.malformedLogged.add(lane.ref.id);
      this.logger.warn(
        `dropped an entry in the calls of ${functionName} (workflow ${workflowId}): ${problem} (further ones are counted, not logged)`,
      );
    }
    const done = createDeferred();
    const { callId, replyTo } = partsOf(raw.fields);
    const answers = isCallId(callId) && canBeAnswered(replyTo);
    const { observer } = this;
    const refused: RunningCall = {
      ...UNLISTED,
      raw,
      lane,
      entry: { callId },
      context: { abort: () => undefined },
      startedAt: undefined,
      done: done.promise,
      lose: () => done.resolve(),
      run: () => {
        const outcome: Outcome = {
          ref: lane.ref,
          entryId: raw.entryId,
          callId,
          replyTo: answers ? replyTo : '',
          kind: answers ? 'settle' : 'discard',
          reply: answers
            ? encodeFailure(
                toWireError(new MalformedCallError(problem), false),
                this.settings.workerId,
              )
            : '',
        };
        this.settler.add(outcome, () => {
          observer.settled(refused);
          done.resolve();
        });
        observer.ended(refused);
      },
    };
    return refused;
  }
}
