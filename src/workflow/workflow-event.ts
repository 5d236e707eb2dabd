import type { WorkflowNotification } from '../protocol/workflow-event.js';

/** News about a workflow, as a handler of `@OnWorkflowEvent` gets it. */
export interface WorkflowEvent extends WorkflowNotification {
  /**
   * `news`: heard as it happened. `registry`: a save that was missed, and found when pub/sub came (back). `restart`:
   * this very process restarts its workers of the workflow, and waits for the handler.
   */
  readonly source: 'news' | 'registry' | 'restart';
}

/** Something in this process that wants to hear of workflows. */
export interface WorkflowListener {
  readonly type: WorkflowNotification['type'];
  readonly workflowId: string;
  /** Where it is written, for the log: `Config.reload (AppModule)`. */
  readonly source: string;
  readonly handle: (event: WorkflowEvent) => unknown;
}
