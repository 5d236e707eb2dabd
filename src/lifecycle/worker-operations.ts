import type { FunctionRef } from '../protocol/function-ref.js';

/**
 * Runs operations on one worker one after the other, and those on others beside them.
 *
 * Interleavings: a worker that is registered while it is being removed ends registered, and one that is removed
 * while it registers ends removed. An operation that fails keeps none behind it from running.
 */
export class WorkerOperations {
  private readonly last = new Map<string, Promise<unknown>>();

  async run<T>(ref: FunctionRef, workerId: string, operation: () => Promise<T>): Promise<T> {
    const key = `${ref.id} ${workerId}`;
    const before = this.last.get(key) ?? Promise.resolve();
    const mine = before.then(operation, operation);
    const settled = mine.catch(() => undefined);
    this.last.set(key, settled);
    try {
      return await mine;
    } finally {
      if (this.last.get(key) === settled) this.last.delete(key);
    }
  }
}
