import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS } from '../backend/tokens.js';
import type { StoredGeneration } from '../backend/workflow-store.js';
import { within, type Clock, type Timer } from '../common/clock.js';
import { Complaint } from '../common/complaint.js';
import { BackendUnavailableError, isRefused } from '../common/errors.js';
import { messageOf } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import type { WorkflowNotification } from '../protocol/workflow-event.js';
import type { WorkflowEvent, WorkflowListener } from './workflow-event.js';
import { readDetails } from './workflow-notifier.js';

const BOOT_WAIT_MS = 2_000;
const RETRY_MS = 1_000;

/**
 * Runs the handlers of `@OnWorkflowEvent`. What one throws is logged, and keeps no other from running.
 *
 * A save is never missed, and handled once: what was seen last is compared with the registry after every (re)subscription.
 * - saved before the subscription, after this process began: the read after it finds it.
 * - saved between subscription and read: heard, and read; the second one is not newer than what was seen.
 * - saved while pub/sub is away: the read after its return finds it; of several saves the last one.
 * - older news that come after newer ones: not newer than what was seen.
 * Other news are handled as they are heard, and missed while pub/sub is away.
 *
 * `restarting` handlers of a process that has workers of the workflow are not run by the news, but when this very
 * process restarts them: see WorkerRestart.
 */
@Injectable()
export class WorkflowEvents {
  private readonly logger = new Logger('WORKFLOW');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private readonly listeners: WorkflowListener[] = [];
  private readonly subscribed = new Set<string>();
  /** The generation that handlers know of, by workflow. */
  private readonly seen = new Map<string, number>();
  private following: Promise<void> = Promise.resolve();
  private retry: Timer | undefined;
  private stopped = false;
  private dispose: Dispose = () => undefined;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
  ) {}

  /** Adds a handler; before {@link start}. */
  add(listener: WorkflowListener): void {
    this.listeners.push(listener);
  }

  /** Subscribes, and waits for it for 2 s at the most; without Redis it goes on in the background. */
  async start(): Promise<void> {
    if (this.listeners.length === 0) return;
    // A test may have put a stub in its place.
    if (this.notifications instanceof NotificationManager)
      this.dispose = this.notifications.on('connected', () => void this.follow());
    const late = (): Error => new BackendUnavailableError('subscribing', this.backend.address);
    await within(this.clock, BOOT_WAIT_MS, this.follow(), late).catch(() => undefined);
  }

  stop(): void {
    this.stopped = true;
    this.dispose();
    this.retry?.cancel();
  }

  /**
   * Runs the `restarting` handlers, one after the other, while this process restarts its workers.
   *
   * @throws what the first that fails has thrown; the others behind it are run all the same
   */
  async reload(workflowId: string, { generation, details }: StoredGeneration): Promise<void> {
    const event: WorkflowEvent = {
      type: 'restarting',
      workflowId,
      generation,
      timestamp: Math.round(this.clock.now() + (this.coordinator.redisOffsetMs ?? 0)),
      details: readDetails(details),
      source: 'restart',
    };
    const failures: unknown[] = [];
    const listeners = this.listenersOf('restarting', workflowId);
    if (listeners.length === 0) this.logger.warn(loadsNothing(workflowId));
    for (const listener of listeners) {
      try {
        await listener.handle(event);
      } catch (error) {
        this.report(listener, error);
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /**
   * Subscribes to what is not subscribed to yet, and looks for saves that were missed; again until it succeeds. Never
   * rejects. One at a time: a look counts only behind the acknowledgement of the subscription.
   */
  private follow(): Promise<void> {
    this.retry?.cancel();
    this.following = this.following.then(() => this.followAll());
    return this.following;
  }

  private async followAll(): Promise<void> {
    if (this.stopped) return;
    const workflows = [...new Set(this.listeners.map(({ workflowId }) => workflowId))];
    const followed = await Promise.all(workflows.map((one) => this.followWorkflow(one)));
    if (this.stopped || followed.every(Boolean)) return;
    this.retry?.cancel();
    this.retry = this.clock.after(RETRY_MS, () => void this.follow());
  }

  private async followWorkflow(workflowId: string): Promise<boolean> {
    try {
      // Before the first subscription: what this process has loaded.
      if (!this.seen.has(workflowId)) await this.begin(workflowId);
      for (const { type } of this.listeners.filter((one) => one.workflowId === workflowId))
        await this.subscribe(type, workflowId);
      await this.findMissed(workflowId);
      return true;
    } catch (error) {
      if (isRefused(error)) this.trouble.tell(`workflow ${workflowId}: ${messageOf(error)}`);
      this.logger.debug(`workflow ${workflowId} cannot be followed: ${messageOf(error)}`);
      return false;
    }
  }

  private async begin(workflowId: string): Promise<void> {
    const { generation } = await this.coordinator.loadedGeneration(workflowId);
    this.seen.set(workflowId, generation);
  }

  private async subscribe(type: WorkflowListener['type'], workflowId: string): Promise<void> {
    const channel = this.keys.unprefixed(this.keys.workflowChannel(type, workflowId));
    if (this.subscribed.has(channel)) return;
    await this.notifications.subscribe<WorkflowNotification>(channel, ({ data }) =>
      this.hear(data),
    );
    this.subscribed.add(channel);
  }

  private async findMissed(workflowId: string): Promise<void> {
    if (this.listenersOf('saved', workflowId).length === 0) return;
    const { generation, details } = await this.backend.workflows.current(workflowId);
    const news = { type: 'saved', workflowId, generation, details: readDetails(details) } as const;
    this.save({ ...news, timestamp: generation, source: 'registry' });
  }

  private hear(news: WorkflowNotification): void {
    if (news.type === 'saved') return this.save({ ...news, source: 'news' });
    if (news.type === 'restarting' && this.coordinator.hostsWorkflow(news.workflowId)) return;
    this.dispatch({ ...news, source: 'news' });
  }

  private save(event: WorkflowEvent): void {
    if (event.generation <= this.seenOf(event.workflowId)) return;
    this.seen.set(event.workflowId, event.generation);
    this.dispatch(event);
  }

  private dispatch(event: WorkflowEvent): void {
    for (const listener of this.listenersOf(event.type, event.workflowId))
      void this.run(listener, event);
  }

  private async run(listener: WorkflowListener, event: WorkflowEvent): Promise<void> {
    try {
      await listener.handle(event);
    } catch (error) {
      this.report(listener, error);
    }
  }

  private report({ source, type, workflowId }: WorkflowListener, error: unknown): void {
    this.logger.error(`${source} failed on ${type} of workflow ${workflowId}: ${messageOf(error)}`);
  }

  private listenersOf(type: WorkflowListener['type'], workflowId: string): WorkflowListener[] {
    return this.listeners.filter((one) => one.type === type && one.workflowId === workflowId);
  }

  private seenOf(workflowId: string): number {
    return this.seen.get(workflowId) ?? -1;
  }
}

function loadsNothing(workflowId: string): string {
  return (
    `workflow ${workflowId} restarts, and this process loads nothing anew: none of its methods has ` +
    `@OnWorkflowEvent('restarting', '${workflowId}'). Add one, or set restart: 'exit'.`
  );
}
