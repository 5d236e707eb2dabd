import { Inject, Injectable } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import type { WorkflowTold } from '../backend/workflow-store.js';
import { BACKEND, KEYS, SETTINGS } from '../backend/tokens.js';
import { InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import type { Subscription } from '../notifications/channel-message.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { assertName } from '../protocol/function-ref.js';
import { decodeJson, encodeJson } from '../protocol/json.js';
import type { Keys } from '../protocol/keys.js';
import {
  MAX_DETAILS_BYTES,
  WORKFLOW_EVENTS,
  type WorkflowEventType,
  type WorkflowNotification,
} from '../protocol/workflow-event.js';

/** A workflow as it was saved last. */
export interface WorkflowGeneration {
  readonly workflowId: string;
  /** 0: it was never saved. */
  readonly generation: number;
  /** What was said about that save; `null` when nothing was. */
  readonly details: unknown;
}

/**
 * Tells news about a workflow as a whole: to every process that listens, by `@OnWorkflowEvent`, by {@link listen}, or,
 * in another Nest application, by `@EventPattern`.
 *
 * News are hints, and reach whoever listens at that moment. A save is more: its generation and details are kept in
 * Redis, so that who missed the news finds it.
 *
 * @example
 * ```ts
 * constructor(private readonly workflows: WorkflowNotifier) {}
 *
 * const { generation } = await this.workflows.notifySaved('media', { version: 7 });
 * ```
 */
@Injectable()
export class WorkflowNotifier {
  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
  ) {}

  /**
   * Says that the workflow was saved: raises its generation, and tells `saved` with it, in one step. Save first, and
   * say here which version it is: a process that reloads gets these details.
   *
   * @param details any JSON of at most 16 KiB
   * @returns the news as they were told
   * @throws InvalidNameError, PayloadNotSerializableError, PayloadTooLargeError, BackendUnavailableError,
   * BackendRefusedError
   */
  notifySaved(workflowId: string, details: unknown = null): Promise<WorkflowNotification> {
    return this.tell(workflowId, 'saved', details, (text) =>
      this.backend.workflows.save(workflowId, text),
    );
  }

  /** Says that the workflow's workers restart. `coordinateRestart` does so by itself. As {@link notifySaved}. */
  notifyRestarting(workflowId: string, details: unknown = null): Promise<WorkflowNotification> {
    return this.tellOther(workflowId, 'restarting', details);
  }

  /** Says that the workflow is ready. `coordinateRestart` does so by itself. As {@link notifySaved}. */
  notifyReady(workflowId: string, details: unknown = null): Promise<WorkflowNotification> {
    return this.tellOther(workflowId, 'ready', details);
  }

  /** Says that the workflow was stopped. As {@link notifySaved}. */
  notifyStopped(workflowId: string, details: unknown = null): Promise<WorkflowNotification> {
    return this.tellOther(workflowId, 'stopped', details);
  }

  /**
   * The last save, as Redis has it now.
   *
   * @throws InvalidNameError, BackendUnavailableError, BackendRefusedError
   */
  async currentGeneration(workflowId: string): Promise<WorkflowGeneration> {
    assertName('The workflowId', workflowId);
    const { generation, details } = await this.backend.workflows.current(workflowId);
    return { workflowId, generation, details: readDetails(details) };
  }

  /**
   * The save that this process has loaded, or is to load: the present one when it is first asked for, and again after
   * each restart of its workers. Its workers are registered under this generation, so an application that loads what
   * `details` name is exactly of that generation, whatever is saved meanwhile.
   *
   * @throws InvalidNameError, BackendUnavailableError, BackendRefusedError
   */
  async loadedGeneration(workflowId: string): Promise<WorkflowGeneration> {
    assertName('The workflowId', workflowId);
    const { generation, details } = await this.coordinator.loadedGeneration(workflowId);
    return { workflowId, generation, details: readDetails(details) };
  }

  /**
   * Listens to one kind of news about a workflow; resolves once Redis has acknowledged it. What the listener throws is
   * logged. What was told before, or while Redis was away, is not heard: `@OnWorkflowEvent('saved')` hears of it.
   *
   * @throws InvalidNameError, InvalidArgumentError, BackendUnavailableError, ClosedError
   */
  async listen(
    type: WorkflowEventType,
    workflowId: string,
    listener: (news: WorkflowNotification) => unknown,
  ): Promise<Subscription> {
    assertWorkflowEvent(type, 'The event');
    assertName('The workflowId', workflowId);
    if (typeof listener !== 'function')
      throw new InvalidArgumentError('listener', show(listener), 'a function');
    const channel = this.keys.unprefixed(this.keys.workflowChannel(type, workflowId));
    return this.notifications.subscribe<WorkflowNotification>(channel, ({ data }) =>
      listener(data),
    );
  }

  private tellOther(
    workflowId: string,
    type: Exclude<WorkflowEventType, 'saved'>,
    details: unknown,
  ): Promise<WorkflowNotification> {
    return this.tell(workflowId, type, details, (text) =>
      this.backend.workflows.tell(workflowId, type, text),
    );
  }

  private async tell(
    workflowId: string,
    type: WorkflowEventType,
    details: unknown,
    send: (details: string) => Promise<WorkflowTold>,
  ): Promise<WorkflowNotification> {
    assertName('The workflowId', workflowId);
    const { maxPayloadBytes } = this.settings;
    const isOption = maxPayloadBytes < MAX_DETAILS_BYTES;
    const max = isOption ? maxPayloadBytes : MAX_DETAILS_BYTES;
    const text = encodeJson('details', details, max, isOption);
    return { type, workflowId, ...(await send(text)), details: decodeJson(text) };
  }
}

/** @throws InvalidArgumentError */
export function assertWorkflowEvent(
  type: unknown,
  argument: string,
): asserts type is WorkflowEventType {
  if (WORKFLOW_EVENTS.some((known) => known === type)) return;
  throw new InvalidArgumentError(
    argument,
    show(type),
    WORKFLOW_EVENTS.map((known) => `'${known}'`).join(' or '),
  );
}

/** Details as they are kept; what cannot be read was written by somebody else. */
export function readDetails(text: string): unknown {
  try {
    return decodeJson(text);
  } catch {
    return null;
  }
}
