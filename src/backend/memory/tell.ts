import { PROGRESS_CAP } from '../limits.js';
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

/** Who is told of a call. */
interface Addressee {
  readonly callId: string;
  readonly replyTo: string;
  /** Its idempotency key. */
  readonly key: string | undefined;
}

/** Answers a call: its caller, and everybody who shares it by an idempotency key. */
export function tell(
  space: MemorySpace,
  fn: MemoryFunction,
  addressee: Addressee,
  text: string,
): void {
  tellAll(space, fn, addressee, (processId, callId) => tellOne(space, processId, callId, text));
}

/** The same with progress, which a stream that nobody reads does not take. */
export function tellProgress(
  space: MemorySpace,
  fn: MemoryFunction,
  addressee: Addressee,
  text: string,
): void {
  tellAll(space, fn, addressee, (processId, callId) => {
    if ((space.repliesOf(processId)?.size ?? 0) < PROGRESS_CAP)
      tellOne(space, processId, callId, text);
  });
}

function tellAll(
  space: MemorySpace,
  fn: MemoryFunction,
  { callId, replyTo, key }: Addressee,
  tellEach: (processId: string, callId: string) => void,
): void {
  const sharers = key === undefined ? undefined : space.shared.get(sharedKey(fn.ref, key))?.sharers;
  for (const [sharer, processId] of sharers ?? []) tellEach(processId, sharer);
  if (sharers?.has(callId) !== true) tellEach(replyTo, callId);
}
