import type { FunctionRef } from '../protocol/function-ref.js';
import type { WorkerNews } from '../readiness/readiness-view.js';

/**
 * - `idle`: not started
 * - `joining`: taking a lease and registering, again and again until Redis lets it
 * - `active`: lease held, all workers registered
 * - `draining`: workers announced their leaving; nothing new is taken
 * - `stopped`: for good
 */
export type CoordinatorState = 'idle' | 'joining' | 'active' | 'draining' | 'stopped';

/** What `WorkerCoordinator.on` can listen to. */
export interface CoordinatorEvents {
  /** Any change of `WorkerCoordinator.state`. */
  state: { readonly from: CoordinatorState; readonly to: CoordinatorState };
  /** A worker of this process is registered (again). */
  registered: { readonly ref: FunctionRef; readonly workerId: string; readonly epoch: number };
  /**
   * The registry has a change that this process made, and it is told to everybody. Emitted before the promise of
   * the change resolves; `definition` is set when the worker registered.
   */
  told: {
    readonly ref: FunctionRef;
    readonly news: WorkerNews;
    readonly definition: string | undefined;
  };
  /** Another process says that it could not restart its workers of a workflow as this process has ordered. */
  restartFailed: { readonly restartId: string; readonly processId: string; readonly why: string };
  /** Another process has left the rest of a restart to whoever takes it first. */
  restartLeft: { readonly workflowId: string };
  /** The lease had run out: calls may have been handed over, everything registers anew. */
  lost: { readonly sessionId: string };
}
