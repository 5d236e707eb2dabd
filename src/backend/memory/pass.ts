import { CALL_FIELDS } from '../../protocol/call.js';
import type { Outcome } from '../call-streams.js';
import { LAST_PASS_DELAY_MS, MAX_ASIDE, PASSES_AT_ONCE } from '../limits.js';
import { CallFields } from './call-fields.js';
import type { QueuedCall } from './call-queue.js';
import type { MemoryFunction, StoredWorker } from './memory-function.js';
import type { MemorySpace } from './memory-space.js';
import type { Taker } from './pool.js';
import { fail, requeue } from './requeue.js';

/** Passes a call on that is bound to another generation than that of the worker which got it. */
export function pass(
  space: MemorySpace,
  fn: MemoryFunction,
  call: QueuedCall,
  { generation = 0, delayMs = 0 }: Outcome,
): void {
  const entry = new CallFields(call.id, call.fields);
  fn.queue.remove(call.id);
  const workers = servers(space, fn, generation);
  if (workers.length === 0) {
    fail(space, fn, entry, {
      code: 'GENERATION_GONE',
      message: `${fn.label} has no worker of generation ${generation} left.`,
      details: { generation },
    });
    return;
  }
  const passes = entry.count(CALL_FIELDS.passes, 0);
  const taker = takerAmong(space, workers);
  const waitMs = taker === undefined ? delayAfter(passes, fn, delayMs) : 0;
  if (waitMs > 0 && fn.aside.size >= MAX_ASIDE) {
    fail(space, fn, entry, {
      code: 'BACKLOG_FULL',
      message: `${fn.label} has ${MAX_ASIDE} calls put aside: no more are kept.`,
      details: { generation },
      retryable: true,
    });
    return;
  }
  entry.keepOrigin();
  entry.set(CALL_FIELDS.passes, passes + 1);
  if (waitMs === 0) {
    const isFirst = !fn.queue.hasWaiting;
    requeue(space, fn, entry);
    if (taker !== undefined && isFirst) give(fn, taker);
    else space.ring(fn);
    return;
  }
  const dueAt = space.now() + Math.ceil(waitMs);
  fn.aside.add({ id: call.id, dueAt, fields: entry.flat() });
  space.noteDelayed(fn);
}

/** How long it waits aside when it was passed on so often before: at first not at all, until it may have met everybody. */
function delayAfter(passes: number, fn: MemoryFunction, firstMs: number): number {
  const beyond = passes - Math.max(PASSES_AT_ONCE, fn.workers.size);
  if (beyond < 0) return 0;
  return Math.min(LAST_PASS_DELAY_MS, firstMs * 2 ** Math.min(beyond, 20));
}

/** Workers of that generation that live, and are not about to leave. */
function servers(space: MemorySpace, fn: MemoryFunction, generation: number): StoredWorker[] {
  return [...fn.workers.values()].filter(
    (worker) =>
      worker.generation === generation &&
      worker.status !== 'draining' &&
      space.sessions.leases.has(worker.processId),
  );
}

/** Who of them waits for a bell and offers to take calls. */
function takerAmong(
  space: MemorySpace,
  workers: readonly StoredWorker[],
): [sessionId: string, taker: Taker] | undefined {
  for (const { pool, processId } of workers) {
    const taker = pool === undefined ? undefined : space.pool(pool).offers.get(processId);
    if (taker !== undefined && taker.until >= space.now()) return [processId, taker];
  }
  return undefined;
}

/** Gives it the next call. */
function give(fn: MemoryFunction, [sessionId, taker]: [string, Taker]): void {
  for (const call of fn.take(sessionId, 1)) taker.give(call);
}
