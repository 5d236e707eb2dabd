import { Logger } from '@nestjs/common';
import { Complaint } from '../common/complaint.js';
import { messageOf } from '../common/text.js';
import type { Dispose } from '../common/typed-events.js';
import type { Subscription } from '../notifications/channel-message.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { parseAnnouncement, type Announcement } from './listeners.js';

/**
 * The channel on which processes tell each other who listens. Every process hears it; without pub/sub it hears
 * nothing, and measures nothing for others.
 */
export class ListenerChannel {
  private readonly logger = new Logger('METRICS');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private subscription: Subscription | undefined;
  private subscribing = false;
  private closed = false;
  private dispose: Dispose = () => undefined;

  constructor(
    private readonly notifications: NotificationManager,
    /** Without the prefix. */
    private readonly channel: string,
    private readonly hear: (announcement: Announcement) => void,
  ) {}

  start(): void {
    // A test may have put a stub in its place.
    if (!(this.notifications instanceof NotificationManager)) return;
    this.dispose = this.notifications.on('connected', () => void this.subscribe());
    if (this.notifications.state === 'connected') void this.subscribe();
  }

  async say(announcement: Announcement): Promise<void> {
    try {
      await this.notifications.publish(this.channel, announcement);
    } catch (error) {
      this.trouble.tell(`others cannot be told that somebody listens: ${messageOf(error)}`);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.dispose();
    await this.subscription?.unsubscribe();
  }

  /** A subscription survives connections; one that failed is tried again on the next. */
  private async subscribe(): Promise<void> {
    if (this.subscription !== undefined || this.subscribing || this.closed) return;
    this.subscribing = true;
    try {
      const subscription = await this.notifications.subscribe(this.channel, ({ data }) => {
        const announcement = parseAnnouncement(data);
        if (announcement !== undefined) this.hear(announcement);
        else this.notifications.noteDropped(this.channel, 'no announcement of this version');
      });
      if (this.closed) await subscription.unsubscribe();
      else this.subscription = subscription;
    } catch (error) {
      this.logger.debug(`listeners are not heard of: ${messageOf(error)}`);
    } finally {
      this.subscribing = false;
    }
  }
}
