import { labelOf } from '../protocol/function-ref.js';
import type { WorkerName } from './function-stub.js';
import type { FunctionsSpy } from './functions-spy.js';
import type { TestClock } from './test-clock.js';

const STEP_MS = 50;
/** Longer than a lease, and than a new supervisor keeps quiet. */
const LIMIT_MS = 30_000;

/**
 * Notes what was told so far; the result lets time pass until the news came that these workers are gone.
 *
 * @throws Error nobody in the fleet looks for the dead
 */
export function watchForDeath(
  spy: FunctionsSpy,
  clock: TestClock,
  workers: readonly WorkerName[],
): () => Promise<void> {
  const before = new Set(spy.of('offline'));
  const isMissed = ({ ref: { functionName, workflowId }, workerId }: WorkerName): boolean =>
    spy
      .of('offline', { functionName, workflowId, workerId })
      .some((offline) => !before.has(offline));
  const findLeft = (): WorkerName | undefined => workers.find((worker) => !isMissed(worker));
  return async () => {
    let left = findLeft();
    for (let passed = 0; left !== undefined && passed < LIMIT_MS; passed += STEP_MS) {
      await clock.advance(STEP_MS);
      left = findLeft();
    }
    if (left === undefined) return;
    throw new Error(
      `Nobody missed ${left.workerId} of ${labelOf(left.ref)} within ${LIMIT_MS} ms: no other process of the ` +
        'fleet looks for the dead. Start one that does, or use { unnoticed: true }.',
    );
  };
}
