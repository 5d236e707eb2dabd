import type { NotificationBus } from '../backend/notification-bus.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import type { LocalRegistration, LocalWorkers } from './local-workers.js';

/**
 * Periodic health of this process's workers, on channels that somebody listens to: two commands, and a
 * publish per listener's function, for any number of workers.
 */
export class HealthNews {
  constructor(
    private readonly bus: NotificationBus,
    private readonly notifications: NotificationManager,
    private readonly keys: Keys,
    private readonly workers: LocalWorkers,
  ) {}

  /** @param timestamp Redis's clock, milliseconds */
  async tell(timestamp: number): Promise<void> {
    if (this.workers.size === 0) return;
    const byChannel = new Map<string, LocalRegistration[]>();
    for (const registration of this.workers.all()) {
      const channel = this.keys.channel('health', registration.ref);
      byChannel.set(channel, [...(byChannel.get(channel) ?? []), registration]);
    }
    const heard = await this.bus.heard([...byChannel.keys()]);
    const news = heard.flatMap((channel) =>
      (byChannel.get(channel) ?? []).map((registration) => ({ channel, registration })),
    );
    await Promise.all(
      news.map(({ channel, registration }) => this.tellOne(channel, registration, timestamp)),
    );
  }

  private async tellOne(
    channel: string,
    registration: LocalRegistration,
    timestamp: number,
  ): Promise<void> {
    const { ref, workerId, epoch, seq, status, reason } = registration;
    if (epoch === undefined) return;
    await this.notifications.publish(this.keys.unprefixed(channel), {
      type: 'health',
      functionName: ref.functionName,
      workflowId: ref.workflowId,
      workerId,
      epoch,
      seq,
      timestamp,
      healthy: status === 'ready',
      reason,
    });
  }
}
