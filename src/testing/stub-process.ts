import type { Settings } from '../common/settings.js';
import { CallProbes } from '../execution/call-probes.js';
import type { HostedFunction } from '../execution/worker/hosted-function.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import type { DrainReport } from '../lifecycle/work-source.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { encodeDefinition } from '../protocol/definition.js';
import { Keys } from '../protocol/keys.js';
import type { FleetBackend, FleetProcess } from './fleet-process.js';
import type { FunctionsSpy } from './functions-spy.js';
import { SpiedCallConsumer } from './spied-call-consumer.js';

/**
 * One life of a stub's worker: a process of the fleet with the worker side of the library as it is, and without Nest,
 * which would cost a test more than all the rest.
 */
export class StubProcess {
  private readonly backend: FleetBackend;
  private readonly notifications: NotificationManager;
  private readonly coordinator: WorkerCoordinator;
  private readonly consumer: SpiedCallConsumer;

  constructor(
    private readonly process: FleetProcess,
    private readonly hosted: HostedFunction,
    spy: FunctionsSpy,
    settings: Settings,
  ) {
    const { clock } = process;
    const keys = new Keys(settings.keyPrefix);
    this.backend = process.connect(keys);
    this.notifications = new NotificationManager(this.backend, keys, settings, clock);
    this.coordinator = new WorkerCoordinator(
      this.backend,
      keys,
      settings,
      clock,
      this.notifications,
    );
    this.consumer = new SpiedCallConsumer(
      spy,
      this.backend,
      settings,
      clock,
      new CallProbes(),
      () => [],
    );
  }

  /** Resolves when its `ready` was told. */
  async start(): Promise<void> {
    const { ref, definition } = this.hosted;
    this.consumer.add(this.hosted);
    this.backend.start();
    this.notifications.start();
    this.coordinator.attach(this.consumer);
    this.coordinator.host([{ ref, definition: encodeDefinition(definition) }]);
    await this.coordinator.start();
  }

  changeHealth(healthy: boolean, reason: string): Promise<unknown> {
    const { ref } = this.hosted;
    return this.coordinator.changeHealth(ref, this.coordinator.workerId, healthy, reason);
  }

  /** A shutdown, as of a deploy. */
  async drain(): Promise<DrainReport> {
    const report = await this.coordinator.drain();
    await this.close();
    return report;
  }

  /** The end of the process without a word. */
  async die(): Promise<void> {
    await this.process.die(() => Promise.all([this.consumer.close(), this.close()]));
  }

  private async close(): Promise<void> {
    await this.coordinator.stop();
    this.notifications.close();
    await this.backend.close();
  }
}
