import { Logger } from '@nestjs/common';
import type { Backend } from '../../backend/backend.js';
import { LEAVE_WAIT_MS, reachable } from '../../backend/reachable.js';
import type { RawCall } from '../../backend/call-streams.js';
import { pause, type Clock } from '../../common/clock.js';
import { Complaint } from '../../common/complaint.js';
import { BackendUnavailableError, isRefused } from '../../common/errors.js';
import { messageOf } from '../../common/text.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { HeldCalls } from './held-calls.js';

const RETRY_MS = 50;

/**
 * Hands calls back that were given to this process and are not to end here: another worker gets them at once.
 *
 * Interleavings with a lost connection: as long as the session lasts, nobody else looks after what is pending for it, so
 * it is tried again. When the session is gone, or this process stops, the supervisor hands it over.
 */
export class CallReturner {
  private readonly logger = new Logger('COORDINATOR');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private returnedAll = true;

  constructor(
    private readonly backend: Backend,
    private readonly clock: Clock,
    private readonly held: HeldCalls,
    /** Under whose name calls are held here now. */
    private readonly owner: () => string,
    private readonly isStopping: () => boolean,
  ) {}

  /** Whether nothing was left to the supervisor. */
  get leftNothing(): boolean {
    return this.returnedAll;
  }

  /** Calls of whatever functions, none of which was started. */
  async handBackAll(calls: readonly RawCall[]): Promise<void> {
    const byRef = new Map<FunctionRef, RawCall[]>();
    for (const call of calls) {
      const others = byRef.get(call.ref);
      if (others === undefined) byRef.set(call.ref, [call]);
      else others.push(call);
    }
    await Promise.all([...byRef].map(([ref, mine]) => this.handBack(ref, mine)));
  }

  async handBack(ref: FunctionRef, calls: readonly RawCall[], started = false): Promise<void> {
    if (calls.length > 0) await this.attempt(ref, calls, started);
  }

  /** With nothing pending any more this removes the consumer from the functions' groups. */
  async leave(refs: readonly FunctionRef[]): Promise<void> {
    if (await this.isReachable())
      await Promise.all(refs.map((ref) => this.attempt(ref, [], false)));
    else if (this.isStopping()) this.returnedAll = false;
  }

  /** What cannot be looked for, or handed back, is the supervisor's. */
  noteLeft(what: string, error: unknown): void {
    this.returnedAll = false;
    this.logger.warn(`${what} could not be handed back: ${messageOf(error)}`);
  }

  /**
   * What a session was given that Redis forgot, and that nobody here has seen: no session comes after it that would look
   * after that.
   *
   * @returns whether it is done
   */
  async returnOf(forgotten: string, refs: readonly FunctionRef[]): Promise<boolean> {
    const leaver = `${forgotten}.leaving`;
    try {
      await Promise.all(
        refs.map(async (ref) => {
          const left = await this.backend.calls.inherit(ref, forgotten, leaver);
          await this.release(ref, leaver, left, false);
        }),
      );
      return true;
    } catch (error) {
      this.noteLeft(`calls of ${forgotten}`, error);
      return false;
    }
  }

  private async attempt(
    ref: FunctionRef,
    calls: readonly RawCall[],
    started: boolean,
  ): Promise<void> {
    const owner = this.owner();
    try {
      if (this.isStopping() && !(await this.isReachable()))
        throw new BackendUnavailableError('handing back', this.backend.address);
      await this.release(ref, owner, calls, started);
      this.trouble.settle();
    } catch (error) {
      if (!this.isStopping() && owner === this.owner()) {
        if (isRefused(error)) this.trouble.tell(`calls cannot be handed back: ${error.message}`);
        void pause(this.clock, RETRY_MS).then(() => this.handBack(ref, calls, started));
        return;
      }
      this.noteLeft(`${calls.length} call(s) of ${ref.functionName}`, error);
    }
    for (const call of calls) this.held.delete(call);
  }

  private async release(
    ref: FunctionRef,
    consumer: string,
    calls: readonly RawCall[],
    started: boolean,
  ): Promise<void> {
    const entries = calls.map(({ entryId }) => ({ entryId, started }));
    await this.backend.calls.release(ref, consumer, { kind: 'handed-back', entries });
  }

  private isReachable(): Promise<boolean> {
    return reachable(this.backend, this.clock, LEAVE_WAIT_MS);
  }
}
