import type { PoolRead, RawCall, Taken } from '../call-streams.js';
import { noGroup } from './memory-function.js';
import type { MemorySpace } from './memory-space.js';

/**
 * Takes calls of a pool's due functions for one consumer, some of each, and crosses off what is empty. What is left
 * wakes the next process.
 */
export function takeFromPool(
  space: MemorySpace,
  poolId: string,
  consumer: string,
  { limit, functions, perFunction, rooms }: Omit<PoolRead, 'pools'>,
): Taken {
  const pool = space.pool(poolId);
  const roomOf = new Map(rooms.map(({ ref, room }) => [ref.id, room]));
  const last = functions + rooms.length;
  const due = [...pool.due].slice(0, last + 1);
  const calls: RawCall[] = [];
  // There may be more functions than are looked at.
  let more = due.length > last;
  for (const [index, id] of due.entries()) {
    const left = limit - calls.length;
    const room = roomOf.get(id) ?? perFunction;
    if (room === 0 || left === 0) {
      more = true;
      continue;
    }
    const fn = space.byId(id);
    if (fn?.queue.hasGroup !== true) {
      if (fn === undefined) pool.due.delete(id);
      else if (calls.length === 0) throw noGroup(fn.ref);
      // What was taken so far is told first, and this in the next look.
      more = true;
      break;
    }
    const share = Math.max(1, Math.floor(left / (due.length - index)));
    const count = Math.min(room, left, share);
    const taken = fn.take(consumer, count);
    calls.push(...taken);
    pool.due.delete(id);
    if (taken.length < count) continue;
    // It may have more. Others come first next time.
    pool.due.add(id);
    more = true;
  }
  if (due.length === 0) pool.dropTokens();
  // The token that woke this consumer is spent, and there is work left that another may do.
  else if (more && !pool.hasToken) pool.wakeOne();
  return { calls, more };
}
