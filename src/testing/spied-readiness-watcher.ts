import { createDeferred } from '../common/deferred.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import {
  FunctionReadinessWatcher,
  type WaitOptions,
} from '../readiness/function-readiness-watcher.js';
import type { FunctionWatch, WorkerInfo } from '../readiness/function-watch.js';
import type { FunctionsSpy } from './functions-spy.js';
import { withinReal } from './real-time.js';

/** An application that begins is initialised by then; one whose test forgot it never is. Real milliseconds. */
const INIT_LIMIT_MS = 1_000;

/** The watcher, with a spy that sees who waits; and who waits in an application that nobody initialised is told. */
export class SpiedReadinessWatcher extends FunctionReadinessWatcher {
  private readonly initialised = createDeferred();
  private isInitialised = false;

  constructor(
    private readonly spy: FunctionsSpy,
    ...parts: ConstructorParameters<typeof FunctionReadinessWatcher>
  ) {
    super(...parts);
  }

  override start(): void {
    super.start();
    this.isInitialised = true;
    this.initialised.resolve();
  }

  override async waitForFunction(
    functionName: string,
    workflowId: string,
    options?: number | WaitOptions,
  ): Promise<WorkerInfo> {
    if (!this.isInitialised) await this.untilInitialised();
    const waiting = super.waitForFunction(functionName, workflowId, options);
    this.spy.note('waiting', { functionName, workflowId });
    return waiting;
  }

  override async watchSynced(ref: FunctionRef): Promise<FunctionWatch> {
    if (!this.isInitialised) await this.untilInitialised();
    return super.watchSynced(ref);
  }

  override close(): Promise<void> {
    this.initialised.resolve();
    return super.close();
  }

  private untilInitialised(): Promise<void> {
    return withinReal(INIT_LIMIT_MS, this.initialised.promise, () => {
      const way = 'await module.init(), or app.init(), after compile()';
      return new Error(`The application is not initialised, so nothing of it runs: ${way}.`);
    });
  }
}
