import type { MemoryFunction } from './memory-function.js';
import { sharedKey, type MemorySpace } from './memory-space.js';

/** Writes to the replies of one process; without any the caller is gone. */
export function tellOne(
  space: MemorySpace,
  processId: string,
  callId: string,
  reply: string,
): void {
  if (processId !== '') space.repliesOf(processId)?.add(callId, reply);
}

/** Answers a call: its caller, and everybody who shares it by an idempotency key. */
export function tell(
  space: MemorySpace,
  fn: MemoryFunction,
  { callId, replyTo, key }: { callId: string; replyTo: string; key: string | undefined },
  text: string,
): void {
  const sharers = key === undefined ? undefined : space.shared.get(sharedKey(fn.ref, key))?.sharers;
  for (const [sharer, processId] of sharers ?? []) tellOne(space, processId, sharer, text);
  if (sharers?.has(callId) !== true) tellOne(space, replyTo, callId, text);
}
