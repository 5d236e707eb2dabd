import { labelOf } from '../protocol/function-ref.js';
import type { WorkerName } from './function-stub.js';
import type { FunctionsSpy } from './functions-spy.js';
import type { TestClock } from './test-clock.js';

const STEP_MS = 50;
/** Longer than a lease, and than a new supervisor keeps quiet. */
const LIMIT_MS = 30_000;

/**
 * Listens from now on for the news that these workers are gone; the result lets time pass until all of it came.
 *
 * @throws Error nobody in the fleet looks for the dead
 */
export function watchForDeath(
  spy: FunctionsSpy,
  clock: TestClock,
  workers: readonly WorkerName[],
): () => Promise<void> {
  const living = new Map(workers.map((worker) => [nameOf(worker.ref.id, worker.workerId), worker]));
  const dispose = spy.listen((record) => {
    if (record.name !== 'offline') return;
    for (const [name, { ref, workerId }] of living)
      if (isOf(record.event, ref) && record.event.workerId === workerId) living.delete(name);
  });
  return async () => {
    try {
      for (let passed = 0; living.size > 0 && passed < LIMIT_MS; passed += STEP_MS)
        await clock.advance(STEP_MS);
      const [left] = living.values();
      if (left !== undefined)
        throw new Error(
          `Nobody missed ${left.workerId} of ${labelOf(left.ref)} within ${LIMIT_MS} ms: no other process of the ` +
            'fleet looks for the dead. Start one that does, or use { unnoticed: true }.',
        );
    } finally {
      dispose();
    }
  };
}

function nameOf(functionId: string, workerId: string): string {
  return `${functionId} ${workerId}`;
}

function isOf(
  event: { readonly functionName: string; readonly workflowId: string },
  ref: WorkerName['ref'],
): boolean {
  return event.functionName === ref.functionName && event.workflowId === ref.workflowId;
}
