import type { EnhancedFunctionRegistry } from 'nestjs-functions';
import { sharedClockMs } from '../stage/shared-clock.js';
import { functionName, WORKFLOW } from './function-name.js';

const TEXT = 'x'.repeat(100);

/** Many calls that nobody answers yet, and what they weigh. Needs `--expose-gc`. */
export class Pending {
  private calls: Promise<unknown>[] = [];

  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  /** Makes the calls; resolves to the moment before the first of them. */
  submit(count: number): number {
    const startedAt = sharedClockMs();
    for (let call = 0; call < count; call++)
      this.calls.push(
        this.functions.call(functionName(0), { text: TEXT }, { workflowId: WORKFLOW }),
      );
    return startedAt;
  }

  /** Resolves to the moment when the last one is answered. */
  async settled(): Promise<number> {
    await Promise.all(this.calls);
    this.calls = [];
    return sharedClockMs();
  }

  /** Bytes in use after everything that is garbage is gone, buffers outside the heap included. */
  usedBytes(): number {
    if (globalThis.gc === undefined) throw new Error('start this process with --expose-gc');
    globalThis.gc();
    globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  }
}
