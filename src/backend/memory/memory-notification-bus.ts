import type { Dispose } from '../../common/typed-events.js';
import type { BusEvents, NotificationBus } from '../notification-bus.js';
import type { MemoryConnection } from './memory-connection.js';
import type { MemoryPubSub, Subscriber } from './memory-pubsub.js';

/** News inside one process. */
export class MemoryNotificationBus implements NotificationBus, Subscriber {
  private events: BusEvents | undefined;
  private connected = false;

  constructor(private readonly connection: MemoryConnection) {}

  attach(events: BusEvents): Dispose {
    this.events = events;
    if (this.connected) events.connected();
    return () => {
      if (this.events === events) this.events = undefined;
    };
  }

  /** From here on its user is told of messages. */
  open(): void {
    this.connected = true;
    this.events?.connected();
  }

  /** From here on it is not. */
  close(): void {
    this.connected = false;
  }

  receive(channel: string, payload: string, pattern: string | undefined): void {
    if (this.connected) this.events?.message(channel, payload, pattern);
  }

  isConnected(): boolean {
    return this.connected;
  }

  publish(channel: string, payload: string): Promise<number> {
    return this.connection.run(() => this.pubsub.publish(channel, payload));
  }

  subscribe(channels: readonly string[]): Promise<void> {
    return this.connection.run(() => this.pubsub.subscribe(this, channels));
  }

  unsubscribe(channels: readonly string[]): Promise<void> {
    return this.connection.run(() => this.pubsub.unsubscribe(this, channels));
  }

  psubscribe(patterns: readonly string[]): Promise<void> {
    return this.connection.run(() => this.pubsub.subscribePatterns(this, patterns));
  }

  punsubscribe(patterns: readonly string[]): Promise<void> {
    return this.connection.run(() => this.pubsub.unsubscribePatterns(this, patterns));
  }

  heard(channels: readonly string[]): Promise<string[]> {
    return this.connection.run(() => {
      const { pubsub } = this;
      return channels.filter((channel) => pubsub.hasPatterns || pubsub.hasSubscriber(channel));
    });
  }

  /** There is no connection that could be half open. */
  probe(): Promise<void> {
    return Promise.resolve();
  }

  private get pubsub(): MemoryPubSub {
    return this.connection.server.pubsub;
  }
}
