import { CALL_FIELDS, encodeCall } from '../../protocol/call.js';
import type { Submission, Submitted } from '../call-streams.js';
import { ONCE_GRACE_MS } from '../limits.js';
import type { MemoryFunction } from './memory-function.js';
import { sharedKey, type MemorySpace } from './memory-space.js';
import { tellOne } from './tell.js';

/** Adds calls to their functions' queues, as long as the functions' backlogs allow it, and tells who waits for them. */
export function submit(
  space: MemorySpace,
  calls: readonly Submission[],
  maxBacklog: number,
): Submitted[] {
  const news = new Set<MemoryFunction>();
  const results = calls.map((call): Submitted => {
    const fn = space.make(call.ref);
    const { idempotencyKey: key } = call;
    const known = key === undefined ? undefined : join(space, fn, call, key);
    if (known !== undefined) return known;
    // What is written again was let in before.
    if (fn.queue.size >= maxBacklog && !call.again) return { backlog: fn.queue.size };
    const fields = [CALL_FIELDS.call, encodeCall(call)];
    if (key !== undefined) fields.push(CALL_FIELDS.idempotencyKey, key);
    const { id } = fn.queue.add(fields, space.now());
    news.add(fn);
    if (key !== undefined) share(space, fn, call, key, id);
    return id;
  });
  for (const fn of news) space.ring(fn);
  return results;
}

/** Joins the call that is out under this key, or answers from its result. */
function join(
  space: MemorySpace,
  fn: MemoryFunction,
  { callId, replyTo, ttlMs }: Submission,
  key: string,
): Submitted | undefined {
  const name = sharedKey(fn.ref, key);
  const shared = space.shared.get(name);
  if (shared === undefined) return undefined;
  if (shared.reply !== undefined) {
    tellOne(space, replyTo, callId, shared.reply);
    return 'answered';
  }
  shared.sharers.set(callId, replyTo);
  space.shared.touch(name, Math.max(space.shared.leftMs(name), ttlMs + ONCE_GRACE_MS));
  return shared.entryId;
}

function share(
  space: MemorySpace,
  fn: MemoryFunction,
  { callId, replyTo, ttlMs }: Submission,
  key: string,
  entryId: string,
): void {
  const sharers = new Map([[callId, replyTo]]);
  const shared = { entryId, callId, sharers, reply: undefined };
  space.shared.set(sharedKey(fn.ref, key), shared, ttlMs + ONCE_GRACE_MS);
}
