import { Logger } from '@nestjs/common';
import { CALL_FIELDS, entryTime } from '../../protocol/call.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import type {
  CallPressure,
  CallReader,
  CallStreams,
  Cancelled,
  Concluded,
  Outcome,
  RawCall,
  Release,
  Released,
  ReplyReader,
  Submission,
  Submitted,
  SubmitTerms,
} from '../call-streams.js';
import { CLAIM_GRACE_MS } from '../limits.js';
import { adopt } from './adopt.js';
import { cancel } from './cancel.js';
import { conclude } from './conclude.js';
import type { QueuedCall } from './call-queue.js';
import { CallFields } from './call-fields.js';
import { MemoryCallReader } from './memory-call-reader.js';
import type { MemoryConnection } from './memory-connection.js';
import { MemoryReplyReader } from './memory-reply-reader.js';
import { release } from './release.js';
import { requeue } from './requeue.js';
import { submit } from './submit.js';

/** Delayed calls that one step puts back. */
const PROMOTIONS = 100;
const NOTHING_RELEASED: Released = { requeued: 0, answered: 0, deadLettered: 0 };

/** Calls and replies in the memory of this process. */
export class MemoryCallStreams implements CallStreams {
  private readonly logger = new Logger('MEMORY');
  private readonly readers = new Set<{ close(): Promise<void> }>();

  constructor(
    private readonly connection: MemoryConnection,
    private readonly keys: Keys,
  ) {}

  /** When other sessions host the function, its group was destroyed under them: they claim what they run. */
  ensureGroups(refs: readonly FunctionRef[], consumer: string): Promise<FunctionRef[]> {
    return this.connection.run((space) =>
      refs.filter((ref) => {
        const fn = space.make(ref);
        const sessions = [...fn.workers.values()].map(({ processId }) => processId);
        const others = sessions.filter((sessionId) => sessionId !== consumer);
        const isMade = fn.queue.makeGroup(others.length === 0);
        if (!isMade || others.length === 0 || fn.queue.size === 0) return false;
        space.unclaimed.set(ref.id, space.now() + CLAIM_GRACE_MS);
        for (const other of others)
          this.tellSession(other, { type: 'regrouped', functionId: ref.id });
        return true;
      }),
    );
  }

  claim(ref: FunctionRef, consumer: string, entryIds: readonly string[]): Promise<void> {
    return this.connection.run((space) => {
      for (const id of entryIds) space.find(ref)?.queue.claim(id, consumer);
    });
  }

  adopt(ref: FunctionRef): Promise<number> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      // It was destroyed once more, and its workers have time to claim again.
      if ((space.unclaimed.get(ref.id) ?? 0) > space.now()) return 0;
      space.unclaimed.delete(ref.id);
      return fn === undefined ? 0 : adopt(space, fn);
    });
  }

  inherit(ref: FunctionRef, from: string, to: string): Promise<RawCall[]> {
    return this.connection.run((space) => {
      const queue = space.find(ref)?.queue;
      return (queue?.heldBy(from) ?? []).map((call) => {
        queue?.pass(call, to);
        return { ref, entryId: call.id, fields: call.fields };
      });
    });
  }

  submit(calls: readonly Submission[], terms: SubmitTerms): Promise<Submitted[]> {
    return this.connection.run((space) => submit(space, calls, terms.maxBacklog));
  }

  cancel(
    ref: FunctionRef,
    entryId: string,
    callId: string,
    idempotencyKey: string | undefined,
  ): Promise<Cancelled> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      if (fn === undefined) return 'unknown';
      return cancel(space, fn, { entryId, callId, idempotencyKey }, (session, message) =>
        this.tellSession(session, message),
      );
    });
  }

  conclude(outcomes: readonly Outcome[], consumer: string): Promise<Concluded> {
    return this.connection.run((space) =>
      conclude(space, outcomes, consumer, (text) => this.logger.warn(text)),
    );
  }

  release(ref: FunctionRef, consumer: string, why: Release): Promise<Released> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      return fn === undefined ? NOTHING_RELEASED : release(space, fn, consumer, why);
    });
  }

  promote(ref: FunctionRef): Promise<number> {
    return this.connection.run((space) => {
      const fn = space.find(ref);
      if (fn === undefined) return 0;
      const due = fn.aside.takeDue(space.now(), PROMOTIONS);
      for (const { id, fields } of due) requeue(space, fn, new CallFields(id, fields));
      space.noteDelayed(fn);
      if (due.length > 0) space.ring(fn);
      return due.length;
    });
  }

  /** Nobody else writes here. */
  broken(): Promise<FunctionRef[]> {
    return Promise.resolve([]);
  }

  backlog(ref: FunctionRef): Promise<number> {
    return this.connection.run((space) => space.find(ref)?.queue.size ?? 0);
  }

  pressure(refs: readonly FunctionRef[]): Promise<CallPressure[]> {
    return this.connection.run((space) =>
      refs.map((ref) => {
        const queue = space.find(ref)?.queue;
        const first = queue?.first;
        return {
          calls: queue?.size ?? 0,
          waiting: queue?.waitingCount ?? 0,
          since: first === undefined ? undefined : submittedAt(first),
        };
      }),
    );
  }

  openReader(consumer: string): CallReader {
    return this.keep(
      new MemoryCallReader(this.connection, consumer, (reader) => this.readers.delete(reader)),
    );
  }

  openReplies(processId: string): ReplyReader {
    return this.keep(
      new MemoryReplyReader(this.connection, processId, (reader) => this.readers.delete(reader)),
    );
  }

  /** Ends all reads. */
  async close(): Promise<void> {
    await Promise.all([...this.readers].map((reader) => reader.close()));
  }

  private keep<R extends { close(): Promise<void> }>(reader: R): R {
    this.readers.add(reader);
    return reader;
  }

  private tellSession(sessionId: string, data: object): void {
    const packet = JSON.stringify({ pattern: 'control', data });
    this.connection.server.pubsub.publish(this.keys.control(sessionId), packet);
  }
}

/** An entry that was added again says when its call was submitted first. */
function submittedAt({ id, fields }: QueuedCall): number {
  const at = fields.findIndex((name, index) => index % 2 === 0 && name === CALL_FIELDS.origin);
  return at < 0 ? entryTime(id) : Number(fields[at + 1]);
}
