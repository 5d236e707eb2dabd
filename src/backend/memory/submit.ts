import { CALL_FIELDS, CALL_VERSION, callFlags, type CallSubmission } from '../../protocol/call.js';
import type { Submission, Submitted, SubmitTerms } from '../call-streams.js';
import { ONCE_GRACE_MS } from '../limits.js';
import type { MemoryFunction } from './memory-function.js';
import { sharedKey, type MemorySpace } from './memory-space.js';
import { tellOne } from './tell.js';

/** Less than this is the clocks' own inexactness, and no lateness. */
const LATE_MS = 1_000;

/** Adds calls to their functions' queues, as long as the functions' backlogs allow it, and tells who waits for them. */
export function submit(
  space: MemorySpace,
  calls: readonly Submission[],
  terms: SubmitTerms,
): Submitted[] {
  const lateMs = latenessOf(space, terms);
  const news = new Set<MemoryFunction>();
  const results = calls.map(({ ref, call }): Submitted => {
    const fn = space.make(ref);
    if (call.idempotencyKey !== undefined) {
      const known = join(space, fn, call, call.idempotencyKey);
      if (known !== undefined) return known;
    }
    const ttlMs = call.ttlMs - lateMs;
    // What is written again was let in before.
    if (fn.queue.size >= terms.maxBacklog && !call.again) return { backlog: fn.queue.size };
    if (lateMs > 0 && ttlMs <= 0) return 'late';
    const { id } = fn.queue.add(fieldsOf(call, ttlMs), space.now());
    news.add(fn);
    if (call.idempotencyKey !== undefined) share(space, fn, call, call.idempotencyKey, id);
    return id;
  });
  for (const fn of news) space.ring(fn);
  return results;
}

/** A call's time runs also while it is on its way. */
function latenessOf(space: MemorySpace, { sentAt }: SubmitTerms): number {
  const lateMs = sentAt === undefined ? 0 : space.now() - sentAt;
  return lateMs >= LATE_MS ? lateMs : 0;
}

/** Joins the call that is out under this key, or answers from its result. */
function join(
  space: MemorySpace,
  fn: MemoryFunction,
  call: CallSubmission,
  key: string,
): Submitted | undefined {
  const name = sharedKey(fn.ref, key);
  const shared = space.shared.get(name);
  if (shared === undefined) return undefined;
  if (shared.reply !== undefined) {
    tellOne(space, call.replyTo, call.callId, shared.reply);
    return 'answered';
  }
  shared.sharers.set(call.callId, call.replyTo);
  space.shared.touch(name, Math.max(space.shared.leftMs(name), call.ttlMs + ONCE_GRACE_MS));
  return shared.entryId;
}

function share(
  space: MemorySpace,
  fn: MemoryFunction,
  { callId, replyTo, ttlMs }: CallSubmission,
  key: string,
  entryId: string,
): void {
  const sharers = new Map([[callId, replyTo]]);
  const shared = { entryId, callId, sharers, reply: undefined };
  space.shared.set(sharedKey(fn.ref, key), shared, ttlMs + ONCE_GRACE_MS);
}

function fieldsOf(call: CallSubmission, ttlMs: number): string[] {
  const { version, callId, replyTo, ttlMs: ttl, payload, idempotencyKey } = CALL_FIELDS;
  const fields = [version, CALL_VERSION, callId, call.callId, replyTo, call.replyTo];
  fields.push(ttl, String(ttlMs), payload, call.payload);
  if (call.idempotencyKey !== undefined) fields.push(idempotencyKey, call.idempotencyKey);
  for (const flag of callFlags(call)) fields.push(flag, '1');
  return fields;
}
