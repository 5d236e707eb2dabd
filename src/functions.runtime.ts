import { Inject, Injectable, Logger } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { Backend } from './backend/backend.js';
import { BACKEND, CLOCK, SETTINGS } from './backend/tokens.js';
import { FunctionCircuits } from './circuit/function-circuits.js';
import { within, type Clock, type Timer } from './common/clock.js';
import { ClosedError } from './common/errors.js';
import type { Settings } from './common/settings.js';
import { processHold } from './common/process-hold.js';
import { messageOf } from './common/text.js';
import { CallClient } from './execution/caller/call-client.js';
import { CallConsumer } from './execution/worker/call-consumer.js';
import { endConnectionsWithAnswers } from './functions.http.js';
import { WorkerCoordinator } from './lifecycle/worker-coordinator.js';
import { BottleneckWatch } from './metrics/bottleneck-watch.js';
import { FunctionsMetrics } from './metrics/functions-metrics.js';
import { MetricsEngine } from './metrics/metrics-engine.js';
import { NotificationManager } from './notifications/notification-manager.js';
import { FunctionReadinessWatcher } from './readiness/function-readiness-watcher.js';
import { REGISTERS_LATER } from './readiness/situation.js';
import { HandlerRegistrar } from './registry/handler-registrar.js';
import { WorkflowEventRegistrar } from './registry/workflow-event-registrar.js';
import { WorkflowEvents } from './workflow/workflow-events.js';
import { WorkflowRestarts } from './workflow/workflow-restarts.js';

const HOOKS_CHECK_MS = 1_000;
/** All steps of the end together, behind the drain; what a command may wait for Redis is 3 s, for each. */
const CLOSE_LIMIT_MS = 5_000;
const HOSTS_NOTHING =
  'this process hosts no function so far: no provider or controller of the imported modules has a method ' +
  'with @FunctionHandler. One that only calls says so with worker: false.';

/**
 * Starts and stops the parts in order. A part that a test replaced by something else is left alone.
 *
 * Order of the end: the worker side drains first, while the application can still answer and call; streams end, and
 * Nest ends the HTTP server; what is pending at the caller is settled; the lease is given back; connections close last.
 *
 * Interleaving with a Redis that stands still: a step that waits for its answer is left when the time of all of them is
 * up, and those behind it are begun, and not waited for. What they wait for ends with the connections.
 */
@Injectable()
export class FunctionsRuntime {
  private readonly logger = new Logger('COORDINATOR');
  private joined: Promise<void> | undefined;
  private hooksCheck: Timer | undefined;
  private closeUntil = 0;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(FunctionReadinessWatcher) private readonly watcher: FunctionReadinessWatcher,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
    @Inject(CallClient) private readonly calls: CallClient,
    @Inject(FunctionCircuits) private readonly circuits: FunctionCircuits,
    @Inject(CallConsumer) private readonly consumer: CallConsumer,
    @Inject(HandlerRegistrar) private readonly registrar: HandlerRegistrar,
    @Inject(WorkflowEventRegistrar) private readonly workflowRegistrar: WorkflowEventRegistrar,
    @Inject(WorkflowEvents) private readonly workflowEvents: WorkflowEvents,
    @Inject(WorkflowRestarts) private readonly workflowRestarts: WorkflowRestarts,
    @Inject(MetricsEngine) private readonly engine: MetricsEngine,
    @Inject(FunctionsMetrics) private readonly metrics: FunctionsMetrics,
    @Inject(BottleneckWatch) private readonly bottlenecks: BottleneckWatch,
    @Inject(HttpAdapterHost) private readonly http: HttpAdapterHost,
  ) {}

  /** Before the application's own hooks: connect, so that they can subscribe. */
  connect(): void {
    this.backend.start();
    if (this.notifications instanceof NotificationManager) this.notifications.start();
    if (this.watcher instanceof FunctionReadinessWatcher) this.watcher.start();
    if (this.coordinator instanceof WorkerCoordinator) {
      this.coordinator.onEarlyRegistration(() => this.join());
      this.coordinator.announce((ref) => this.registrar.hosts(ref));
      this.coordinator.onReload((id, generation) => this.workflowEvents.reload(id, generation));
      this.workflowRestarts.start();
    }
    this.introduce();
    if (this.engine instanceof MetricsEngine) this.engine.start(this.bottlenecks);
  }

  /** The watcher stands below the coordinator, and hears from it all the same. */
  private introduce(): void {
    const { watcher, coordinator } = this;
    if (!(watcher instanceof FunctionReadinessWatcher)) return;
    if (!(coordinator instanceof WorkerCoordinator)) return;
    coordinator.on('told', ({ ref, news, definition }) => watcher.learn(ref, news, definition));
    watcher.explainWith((ref) => (coordinator.willHost(ref) ? REGISTERS_LATER : undefined));
  }

  /** When the application is up: host the handlers and join the fleet. Safe to call twice. */
  join(): Promise<void> {
    this.joined ??= this.joinOnce();
    return this.joined;
  }

  private async joinOnce(): Promise<void> {
    if (!(this.coordinator instanceof WorkerCoordinator)) return;
    this.coordinator.attach(this.consumer);
    try {
      this.registrar.registerAll();
      this.workflowRegistrar.registerAll();
    } catch (error) {
      // The boot fails, and nobody will get an application to close.
      await this.close();
      throw error;
    }
    await Promise.all([this.coordinator.start(), this.workflowEvents.start()]);
    if (this.coordinator.workers().length > 0)
      this.hooksCheck = this.clock.after(HOOKS_CHECK_MS, () => this.warnWithoutHooks());
    else if (this.settings.worker) this.logger.log(HOSTS_NOTHING);
  }

  /** At the first sign of shutdown. Whatever fails, {@link close} comes behind it: else nothing would end the process. */
  async drain(): Promise<void> {
    if (!(this.coordinator instanceof WorkerCoordinator)) return;
    try {
      await this.coordinator.drain();
    } catch (error) {
      this.logger.error(`draining failed: ${messageOf(error)}`);
    }
  }

  /**
   * Between the drain and the end of the HTTP server, which waits for every answer that is being written: one that
   * streams what the library tells (`@Sse`) would never be done, for the library itself ends after the server.
   */
  endStreams(): void {
    endConnectionsWithAnswers(this.http);
    if (this.metrics instanceof FunctionsMetrics) this.metrics.endStreams();
    this.circuits.endStreams();
  }

  /** At the very end. */
  async close(): Promise<void> {
    this.hooksCheck?.cancel();
    this.workflowEvents.stop();
    this.workflowRestarts.stop();
    this.closeUntil = this.clock.elapsed() + CLOSE_LIMIT_MS;
    await this.step('metrics', () => this.closeMetrics());
    await this.step('caller', () => this.calls.close());
    await this.step('watcher', () =>
      this.watcher instanceof FunctionReadinessWatcher ? this.watcher.close() : undefined,
    );
    // After all that ends a call: a probe that was out is concluded.
    await this.step('circuits', () => this.circuits.close());
    await this.step('coordinator', () =>
      this.coordinator instanceof WorkerCoordinator ? this.coordinator.stop() : undefined,
    );
    await this.step('notifications', () =>
      this.notifications instanceof NotificationManager ? this.notifications.close() : undefined,
    );
    await this.step('backend', () => this.backend.close());
    processHold.tidy();
  }

  private async closeMetrics(): Promise<void> {
    if (this.metrics instanceof FunctionsMetrics) this.metrics.close();
    if (this.engine instanceof MetricsEngine) await this.engine.close();
  }

  private async step(name: string, task: () => unknown): Promise<void> {
    const leftMs = Math.max(0, this.closeUntil - this.clock.elapsed());
    const late = new ClosedError(`The ${name}`);
    try {
      await within(this.clock, leftMs, Promise.resolve(task()), () => late);
    } catch (error) {
      if (error === late)
        this.logger.warn(`the ${name} could not be closed in time: ending without it`);
      else this.logger.error(`closing the ${name} failed: ${messageOf(error)}`);
    }
  }

  private warnWithoutHooks(): void {
    if (this.coordinator.state !== 'active' || process.listenerCount('SIGTERM') > 0) return;
    this.logger.warn(
      'nothing listens to SIGTERM: a deploy kills this worker in mid-call instead of draining it. ' +
        'Call app.enableShutdownHooks() in main.ts.',
    );
  }
}
