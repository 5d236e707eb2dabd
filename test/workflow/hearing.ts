import { Injectable, type Type } from '@nestjs/common';
import { OnWorkflowEvent, type WorkflowEvent, type WorkflowEventType } from '../../src/index.js';

/** A provider with one handler of workflow events, written where it is used. */
export function hearing(
  type: WorkflowEventType,
  workflowId: string | undefined,
  handle: (event: WorkflowEvent) => unknown,
): Type<unknown> {
  class Hearer {
    hear(event: WorkflowEvent): unknown {
      return handle(event);
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Hearer.prototype, 'hear');
  const decorate = OnWorkflowEvent(type, workflowId) as MethodDecorator;
  decorate(Hearer.prototype, 'hear', descriptor as PropertyDescriptor);
  Injectable()(Hearer);
  return Hearer;
}

/** The connections on which the tests of workflows run: what is promised is promised on both. */
export const connections = (redisUrl: string): { title: string; connection: string }[] => [
  { title: 'Redis', connection: redisUrl },
  { title: 'memory', connection: 'memory://workflow-tests' },
];
