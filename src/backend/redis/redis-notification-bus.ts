import { isFunctionsError } from '../../common/errors.js';
import type { Dispose } from '../../common/typed-events.js';
import type { BusEvents, NotificationBus } from '../notification-bus.js';
import type { RedisConnection } from './redis-connection.js';

/** News over Redis pub/sub: published on the command connection, received on one of its own. */
export class RedisNotificationBus implements NotificationBus {
  private events: BusEvents | undefined;

  constructor(
    private readonly commands: RedisConnection,
    private readonly subscriber: RedisConnection,
  ) {
    subscriber.client.on('message', (channel: string, payload: string) => {
      this.events?.message(channel, payload, undefined);
    });
    subscriber.client.on('pmessage', (pattern: string, channel: string, payload: string) => {
      this.events?.message(channel, payload, pattern);
    });
    subscriber.onReady(() => this.events?.connected());
    subscriber.onLost((reason) => this.events?.disconnected(reason));
  }

  attach(events: BusEvents): Dispose {
    this.events = events;
    if (this.subscriber.isReady()) events.connected();
    return () => {
      if (this.events === events) this.events = undefined;
    };
  }

  isConnected(): boolean {
    return this.subscriber.isReady();
  }

  publish(channel: string, payload: string): Promise<number> {
    return this.commands.command('PUBLISH', (client) => client.publish(channel, payload));
  }

  async subscribe(channels: readonly string[]): Promise<void> {
    await this.subscriber.command('SUBSCRIBE', (client) => client.subscribe(...channels));
  }

  async unsubscribe(channels: readonly string[]): Promise<void> {
    await this.subscriber.command('UNSUBSCRIBE', (client) => client.unsubscribe(...channels));
  }

  async psubscribe(patterns: readonly string[]): Promise<void> {
    await this.subscriber.command('PSUBSCRIBE', (client) => client.psubscribe(...patterns));
  }

  async punsubscribe(patterns: readonly string[]): Promise<void> {
    await this.subscriber.command('PUNSUBSCRIBE', (client) => client.punsubscribe(...patterns));
  }

  async probe(): Promise<void> {
    if (!this.subscriber.isReady()) return;
    const connection = this.subscriber.connections();
    await this.subscriber
      .command('PING', (client) => client.ping())
      .catch((error: unknown) => {
        const silent = isFunctionsError(error, 'BACKEND_UNAVAILABLE');
        if (silent && this.subscriber.connections() === connection) this.subscriber.reset();
      });
  }

  async heard(channels: readonly string[]): Promise<string[]> {
    if (channels.length === 0) return [];
    const [patterns, counts] = await this.commands.command('PUBSUB', (client) =>
      Promise.all([client.pubsub('NUMPAT'), client.pubsub('NUMSUB', ...channels)]),
    );
    if (Number(patterns) > 0) return [...channels];
    const flat = counts;
    return channels.filter((_, index) => Number(flat[index * 2 + 1]) > 0);
  }
}
