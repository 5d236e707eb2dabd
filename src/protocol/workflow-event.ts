/** What is told about a workflow as a whole. */
export type WorkflowEventType = 'saved' | 'restarting' | 'ready' | 'stopped';

/** All of them. */
export const WORKFLOW_EVENTS: readonly WorkflowEventType[] = [
  'saved',
  'restarting',
  'ready',
  'stopped',
];

/** What the name of a workflow's channel tells. */
export interface WorkflowAddress {
  readonly type: WorkflowEventType;
  readonly workflowId: string;
}

/** News about a workflow, as it travels on its channel. */
export interface WorkflowNotification extends WorkflowAddress {
  /** The workflow's generation when it was told: `saved` tells the new one. 0: it was never saved. */
  readonly generation: number;
  /** Redis's clock, milliseconds since the epoch. */
  readonly timestamp: number;
  /** What whoever told it says about it; any JSON. */
  readonly details: unknown;
}

/** Details, as JSON: far below what a message may have. */
export const MAX_DETAILS_BYTES = 16 * 1024;

/** Whether a value can be a generation: a whole number, 0 or more. */
export function isGeneration(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
