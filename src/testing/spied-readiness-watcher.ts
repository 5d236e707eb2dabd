import {
  FunctionReadinessWatcher,
  type WaitOptions,
} from '../readiness/function-readiness-watcher.js';
import type { WorkerInfo } from '../readiness/function-watch.js';
import type { FunctionsSpy } from './functions-spy.js';

/** The watcher, with a spy that sees who waits. */
export class SpiedReadinessWatcher extends FunctionReadinessWatcher {
  constructor(
    private readonly spy: FunctionsSpy,
    ...parts: ConstructorParameters<typeof FunctionReadinessWatcher>
  ) {
    super(...parts);
  }

  override waitForFunction(
    functionName: string,
    workflowId: string,
    options?: number | WaitOptions,
  ): Promise<WorkerInfo> {
    const waiting = super.waitForFunction(functionName, workflowId, options);
    this.spy.note('waiting', { functionName, workflowId });
    return waiting;
  }
}
