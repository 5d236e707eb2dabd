import type { CallFields } from './call-fields.js';
import type { MemoryFunction } from './memory-function.js';
import { sharedKey, type MemorySpace } from './memory-space.js';
import { tell } from './tell.js';

/** Adds a call again, under a new id, which its callers learn; who waits for calls is told by the caller of this. */
export function requeue(space: MemorySpace, fn: MemoryFunction, entry: CallFields): void {
  const { id } = fn.queue.add(entry.flat(), space.now());
  const { addressee } = entry;
  if (addressee.key !== undefined) {
    const shared = space.shared.get(sharedKey(fn.ref, addressee.key));
    if (shared !== undefined) shared.entryId = id;
  }
  tell(space, fn, addressee, JSON.stringify({ k: 'm', d: id }));
}

/** The final answer to everybody who waits for a call that will not run; a key that they share is free again. */
export function fail(
  space: MemorySpace,
  fn: MemoryFunction,
  entry: CallFields,
  error: {
    readonly code: string;
    readonly message: string;
    readonly details: object;
    readonly retryable?: boolean;
  },
): void {
  const { addressee } = entry;
  const reply = { k: 'e', o: 1, e: { retryable: false, ...error } };
  tell(space, fn, addressee, JSON.stringify(reply));
  if (addressee.key !== undefined) space.shared.delete(sharedKey(fn.ref, addressee.key));
}
