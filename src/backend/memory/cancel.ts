import type { Cancelled } from '../call-streams.js';
import type { MemoryFunction } from './memory-function.js';
import { sharedKey, type MemorySpace } from './memory-space.js';

/** A call as its caller knows it. */
interface KnownCall {
  readonly entryId: string;
  readonly callId: string;
  readonly idempotencyKey: string | undefined;
}

/**
 * Takes a call out, from among the calls or from aside, when nobody has it; else its worker is told. A call that
 * others share by an idempotency key goes on for them.
 */
export function cancel(
  space: MemorySpace,
  fn: MemoryFunction,
  known: KnownCall,
  tellWorker: (sessionId: string, message: object) => void,
): Cancelled {
  const target = known.idempotencyKey === undefined ? known : leave(space, fn, known);
  if (typeof target === 'string') return target;
  const { entryId, callId } = target;
  const owner = fn.queue.get(entryId)?.owner;
  if (owner !== undefined) {
    tellWorker(owner, { type: 'cancel', callId, entryId, functionId: fn.ref.id });
    return 'running';
  }
  if (fn.queue.remove(entryId)) return 'removed';
  if (!fn.aside.remove(entryId)) return 'unknown';
  space.noteDelayed(fn);
  return 'removed';
}

/** Leaves those who share a call; what is to be cancelled when nobody is left. */
function leave(
  space: MemorySpace,
  fn: MemoryFunction,
  { callId, idempotencyKey = '' }: KnownCall,
): Pick<KnownCall, 'entryId' | 'callId'> | Cancelled {
  const name = sharedKey(fn.ref, idempotencyKey);
  const shared = space.shared.get(name);
  shared?.sharers.delete(callId);
  if (shared?.entryId === undefined) return 'unknown';
  if (shared.sharers.size > 0) return 'shared';
  space.shared.delete(name);
  return { entryId: shared.entryId, callId: shared.callId };
}
