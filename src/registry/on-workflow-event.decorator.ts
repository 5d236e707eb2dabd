import 'reflect-metadata';
import { InvalidArgumentError } from '../common/errors.js';
import { assertName } from '../protocol/function-ref.js';
import type { WorkflowEventType } from '../protocol/workflow-event.js';
import type { WorkflowEvent } from '../workflow/workflow-event.js';
import { assertWorkflowEvent } from '../workflow/workflow-notifier.js';

/** Metadata on a method: what it wants to hear of workflows. */
export const WORKFLOW_EVENT_METADATA = 'nestjs-functions:workflow-event';

/** What one decorator on a method says. */
export interface WorkflowEventMetadata {
  readonly type: WorkflowEventType;
  readonly workflowId: string | undefined;
}

/**
 * Runs a method of any provider or controller when something is told about a workflow. What it throws is logged, and
 * keeps no other handler from running. A method may have several of these decorators.
 *
 * - `saved`: a save; also one that was missed while Redis was away (then the last one).
 * - `restarting`: in a process with workers of the workflow, while it restarts them: their calls are done, and they
 *   register anew when the method has resolved. This is where code and configuration are loaded again. In other
 *   processes, when a restart is announced.
 * - `ready`, `stopped`: as they are told.
 *
 * @param workflowId default: the module's `workflowId`
 * @throws InvalidArgumentError, InvalidNameError when the class is defined
 * @example
 * ```ts
 * @OnWorkflowEvent('restarting', 'media')
 * async reload({ generation, details }: WorkflowEvent): Promise<void> {
 *   this.templates = await this.store.load(details);
 * }
 * ```
 */
export function OnWorkflowEvent(
  type: WorkflowEventType,
  workflowId?: string,
): <T extends (event: WorkflowEvent) => unknown>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<T>,
) => void {
  assertWorkflowEvent(type, 'The event of @OnWorkflowEvent');
  if (workflowId !== undefined) assertName('The workflowId', workflowId);
  return (_target, key: string | symbol | undefined, descriptor) => {
    const method: unknown = (descriptor as PropertyDescriptor | undefined)?.value;
    if (typeof method !== 'function')
      throw new InvalidArgumentError(
        '@OnWorkflowEvent',
        key === undefined ? 'on a class' : `on ${String(key)}, which is no method`,
        'a method, compiled with "experimentalDecorators": true',
      );
    const known = eventsOf(method);
    Reflect.defineMetadata(WORKFLOW_EVENT_METADATA, [...known, { type, workflowId }], method);
  };
}

/** What the decorators on a method say. */
export function eventsOf(method: object): readonly WorkflowEventMetadata[] {
  const events: unknown = Reflect.getMetadata(WORKFLOW_EVENT_METADATA, method);
  return Array.isArray(events) ? (events as WorkflowEventMetadata[]) : [];
}
