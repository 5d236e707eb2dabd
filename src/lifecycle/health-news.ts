import type { NotificationBus } from '../backend/notification-bus.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import type { Keys } from '../protocol/keys.js';
import type { LocalRegistration, LocalWorkers } from './local-workers.js';

/** What somebody else wants to know of listeners: it is asked together with what health wants to know. */
export interface ListenerQuestion {
  /** Channels to ask for now. */
  channels(): readonly string[];
  /** Those of them that somebody listens to; a pattern, whatever it is for, counts for all. */
  heard(channels: readonly string[]): unknown;
}

/**
 * Periodic health of this process's workers, on channels that somebody listens to: two commands, and a
 * publish per listener's function, for any number of workers.
 */
export class HealthNews {
  private question: ListenerQuestion | undefined;

  constructor(
    private readonly bus: NotificationBus,
    private readonly notifications: NotificationManager,
    private readonly keys: Keys,
    private readonly workers: LocalWorkers,
  ) {}

  /** Asks this, too, from now on. */
  askAlso(question: ListenerQuestion): void {
    this.question = question;
  }

  /** @param timestamp Redis's clock, milliseconds */
  async tell(timestamp: number): Promise<void> {
    if (this.workers.size === 0) return;
    const byChannel = new Map<string, LocalRegistration[]>();
    for (const registration of this.workers.all()) {
      const channel = this.keys.channel('health', registration.ref);
      byChannel.set(channel, [...(byChannel.get(channel) ?? []), registration]);
    }
    const others = this.question?.channels() ?? [];
    const heard = await this.bus.heard([...byChannel.keys(), ...others]);
    this.question?.heard(heard.filter((channel) => !byChannel.has(channel)));
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
