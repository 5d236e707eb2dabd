import { CallFields } from './call-fields.js';
import type { MemoryFunction } from './memory-function.js';
import type { MemorySpace } from './memory-space.js';
import { fail, requeue } from './requeue.js';

/**
 * Puts calls back that a destroyed group had, and that nobody claimed; how many there were. One that must run at most
 * once may have run: its caller is told.
 */
export function adopt(space: MemorySpace, fn: MemoryFunction): number {
  if (!fn.queue.hasGroup) return 0;
  const orphans = fn.queue.orphans();
  for (const call of orphans) {
    fn.queue.remove(call.id);
    const entry = new CallFields(call.id, call.fields);
    if (!entry.isAtMostOnce) {
      entry.keepOrigin();
      requeue(space, fn, entry);
    } else {
      fail(space, fn, entry, {
        code: 'WORKER_LOST',
        message:
          `The consumer group of ${fn.label} was destroyed, nobody knows whether the call has run, and ` +
          'delivery at-most-once forbids running it again.',
        details: { reason: 'group_destroyed' },
      });
    }
  }
  if (orphans.length > 0) space.ring(fn);
  return orphans.length;
}
