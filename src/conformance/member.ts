import assert from 'node:assert/strict';
import type { Backend } from '../backend/backend.js';
import type {
  CallReader,
  Outcome,
  RawCall,
  RawReply,
  ReplyReader,
  Submission,
  Submitted,
} from '../backend/call-streams.js';
import type { OfficeLeases } from '../backend/fleet-store.js';
import type { ProcessSession, Registered, Registration } from '../backend/worker-store.js';
import {
  encodeFailure,
  encodeResult,
  parseCall,
  parseReply,
  type CallEntry,
  type CallSubmission,
  type Reply,
} from '../protocol/call.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { Keys } from '../protocol/keys.js';
import { isMalformed } from '../protocol/notification.js';
import { News } from './news.js';
import { atOnce, becomes, SHORT_BLOCK_MS } from './patience.js';

/** A call as a worker got it. */
export interface GivenCall extends CallEntry {
  readonly raw: RawCall;
}

/** A reply as its caller got it. */
export interface GivenReply {
  readonly callId: string;
  readonly reply: Reply;
}

export const LEASE_MS = 60_000;
/** Offices that are held for as long as a case takes. */
export const OFFICE_MS = 60_000;
export const OFFICES: OfficeLeases = { supervisorMs: OFFICE_MS, deputyMs: OFFICE_MS };
const MAX_BACKLOG = 1_000;

/** One process of a case: a backend, and how a process of this library uses it. */
export class Member {
  readonly news: News;
  private callReader: CallReader | undefined;
  private replyReader: ReplyReader | undefined;
  private joined: ProcessSession | undefined;
  private readonly unread: GivenReply[] = [];

  constructor(
    readonly backend: Backend,
    readonly keys: Keys,
    readonly processId: string,
  ) {
    this.news = new News(backend);
  }

  get sessionId(): string {
    return `${this.processId}.1`;
  }

  get session(): ProcessSession {
    assert.ok(this.joined, 'it has joined');
    return this.joined;
  }

  get reader(): CallReader {
    assert.ok(this.callReader, 'it reads');
    return this.callReader;
  }

  get replies(): ReplyReader {
    assert.ok(this.replyReader, 'it listens to replies');
    return this.replyReader;
  }

  async join(leaseMs = LEASE_MS, present = true): Promise<this> {
    if (present) await this.backend.bus.subscribe([this.keys.control(this.sessionId)]);
    this.joined = await this.backend.workers.join(this.sessionId, leaseMs, present);
    return this;
  }

  beat(leaseMs = LEASE_MS): ReturnType<Backend['workers']['heartbeat']> {
    return this.backend.workers.heartbeat(this.session, this.processId, leaseMs);
  }

  /** Makes the groups and opens the read, as before a worker is announced. */
  async reads(...refs: readonly FunctionRef[]): Promise<this> {
    await this.backend.calls.ensureGroups(refs, this.sessionId);
    this.callReader ??= this.backend.calls.openReader(this.sessionId);
    await atOnce('the read of calls connects', this.callReader.whenConnected());
    return this;
  }

  /** Makes the reply stream, so that answers are written. */
  async listens(): Promise<this> {
    this.replyReader = this.backend.calls.openReplies(this.processId);
    await atOnce('the read of replies connects', this.replyReader.whenConnected());
    await this.replyReader.ensure();
    return this;
  }

  register(
    ref: FunctionRef,
    workerId = 'w',
    more: Partial<Registration> = {},
  ): Promise<Registered> {
    const own = {
      definition: '',
      fingerprint: '',
      poolId: '',
      leaseMs: LEASE_MS,
      generation: 0,
    };
    return this.backend.workers.register({ ref, workerId, session: this.session, ...own, ...more });
  }

  /** What is handed over as one call of this process. */
  callOf(ref: FunctionRef, callId: string, more: Partial<CallSubmission> = {}): Submission {
    return {
      ref,
      callId,
      replyTo: this.processId,
      ttlMs: 60_000,
      sentAt: undefined,
      delivery: 'at-least-once',
      payload: '{"p":{},"i":null}',
      again: false,
      idempotencyKey: undefined,
      ...more,
    };
  }

  /** Submits one call; its entry id. */
  async submit(
    ref: FunctionRef,
    callId: string,
    more: Partial<CallSubmission> = {},
  ): Promise<string> {
    const [submitted] = await this.submitAll([this.callOf(ref, callId, more)]);
    assert.equal(typeof submitted, 'string', `${callId} is written`);
    return submitted as string;
  }

  submitAll(calls: readonly Submission[], maxBacklog = MAX_BACKLOG): Promise<Submitted[]> {
    return this.backend.calls.submit(calls, { maxBacklog });
  }

  /** The next calls, as they are there now. */
  async take(ref: FunctionRef, count = 10): Promise<GivenCall[]> {
    return (await this.reader.read([ref], count, 0)).map(given);
  }

  /** The next call, which is there. */
  async takeOne(ref: FunctionRef): Promise<GivenCall> {
    const [call] = await this.take(ref, 1);
    assert.ok(call, 'a call is there to be taken');
    return call;
  }

  /** Says one thing about a call; whether it counted. */
  async say(
    call: GivenCall,
    kind: Outcome['kind'],
    reply = encodeResult('"done"', 'w'),
    more: Partial<Outcome> = {},
  ): Promise<boolean> {
    const { lost, again } = await this.sayAll([outcomeOf(call, kind, reply, more)]);
    assert.deepEqual(again, []);
    return lost.length === 0;
  }

  sayAll(outcomes: readonly Outcome[]): ReturnType<Backend['calls']['conclude']> {
    return this.backend.calls.conclude(outcomes, this.sessionId);
  }

  /** The next replies, as many as this. */
  async nextReplies(count: number): Promise<GivenReply[]> {
    await becomes(`${count} replies`, async () => {
      if (this.unread.length < count) await this.hear();
      return this.unread.length >= count ? true : undefined;
    });
    return this.unread.splice(0, count);
  }

  async nextReply(): Promise<GivenReply> {
    return (await this.nextReplies(1))[0] as GivenReply;
  }

  /** Nothing has been replied, and nothing comes. */
  async hearsNothing(): Promise<void> {
    await this.hear();
    assert.deepEqual(this.unread, [], 'no further reply');
  }

  /** Its process ends without a word. */
  async vanish(): Promise<void> {
    this.news.close();
    await this.backend.close();
  }

  private async hear(): Promise<void> {
    this.unread.push(...(await this.replies.read(SHORT_BLOCK_MS)).map(heard));
  }
}

/** An outcome of a call. */
export function outcomeOf(
  call: GivenCall,
  kind: Outcome['kind'],
  reply: string,
  more: Partial<Outcome> = {},
): Outcome {
  const { callId, entryId, replyTo, raw, idempotencyKey: key } = call;
  const once = key === undefined ? undefined : { key, keepMs: 60_000 };
  return { ref: raw.ref, entryId, callId, replyTo, kind, reply, once, ...more };
}

/** A failure of a handler, as its reply. */
export function failure(code = 'FAILED'): string {
  return encodeFailure({ code, message: 'it failed', retryable: false }, 'w');
}

/** A failure of a handler, as a line of the history. */
export function failureNote(attempt: number): string {
  return JSON.stringify({ at: 1, attempt, code: 'FAILED', message: 'it failed', worker: 'w' });
}

export function given(raw: RawCall): GivenCall {
  const call = parseCall(raw.entryId, raw.fields);
  if (isMalformed(call)) throw new assert.AssertionError({ message: `a call: ${call.malformed}` });
  return { ...call, raw };
}

function heard({ callId, reply: text }: RawReply): GivenReply {
  const reply = parseReply(text);
  if (isMalformed(reply))
    throw new assert.AssertionError({ message: `a reply: ${reply.malformed}` });
  return { callId, reply };
}
