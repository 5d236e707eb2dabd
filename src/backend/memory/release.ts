import { CALL_FIELDS } from '../../protocol/call.js';
import type { Release, Released } from '../call-streams.js';
import type { QueuedCall } from './call-queue.js';
import { CallFields } from './call-fields.js';
import type { MemoryFunction } from './memory-function.js';
import type { MemorySpace } from './memory-space.js';
import { fail, requeue } from './requeue.js';

type Fate = keyof Released;

/**
 * Lets go of calls that a consumer holds: each goes back under a new id (so the old owner's outcome finds nothing),
 * is answered, or is given up.
 */
export function release(
  space: MemorySpace,
  fn: MemoryFunction,
  consumer: string,
  release: Release,
): Released {
  const released: Record<Fate, number> = { requeued: 0, answered: 0, deadLettered: 0 };
  const letGo = (call: QueuedCall, started: boolean): void => {
    released[place(space, fn, call, { consumer, release, started })] += 1;
    fn.queue.remove(call.id);
  };
  if (release.kind === 'lost') for (const call of fn.queue.heldBy(consumer)) letGo(call, true);
  else {
    for (const { entryId, started } of release.entries) {
      const call = fn.queue.get(entryId);
      if (call?.owner === consumer) letGo(call, started);
    }
  }
  if (released.requeued > 0) space.ring(fn);
  return released;
}

interface Circumstances {
  readonly consumer: string;
  readonly release: Release;
  readonly started: boolean;
}

/** The new place of a call, or its answer. */
function place(
  space: MemorySpace,
  fn: MemoryFunction,
  call: QueuedCall,
  { consumer, release, started }: Circumstances,
): Fate {
  const entry = new CallFields(call.id, call.fields);
  const attempt = entry.count(CALL_FIELDS.attempt, 1);
  if (entry.isAtMostOnce && started) {
    fail(space, fn, entry, {
      code: 'WORKER_LOST',
      message: `The worker that ran ${fn.label} was lost, and delivery at-most-once forbids running it again.`,
      details: { attempt, reason: release.kind },
    });
    return 'answered';
  }
  entry.keepOrigin();
  entry.set(CALL_FIELDS.attempt, attempt);
  if (release.kind === 'lost') {
    const losses = entry.count(CALL_FIELDS.losses, 0) + 1;
    const message = 'its worker was lost';
    entry.note({ at: space.now(), attempt, code: 'WORKER_LOST', worker: consumer, message });
    if (losses >= release.maxDeliveries) {
      bury(space, fn, entry, losses);
      return 'deadLettered';
    }
    entry.set(CALL_FIELDS.losses, losses);
    entry.set(CALL_FIELDS.attempt, attempt + 1);
  }
  requeue(space, fn, entry);
  return 'requeued';
}

function bury(space: MemorySpace, fn: MemoryFunction, entry: CallFields, losses: number): void {
  entry.set('reason', 'MAX_DELIVERIES');
  space.bury(fn, entry.flat());
  fail(space, fn, entry, {
    code: 'MAX_DELIVERIES',
    message:
      `${fn.label} lost its worker ${losses} times and was moved to the dead letters. Look for what ` +
      'its handler does to its process; maxDeliveries sets the bound.',
    details: { attempts: losses },
  });
}
