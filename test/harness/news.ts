import { Redis } from 'ioredis';
import { eventually } from './eventually.js';

/** A packet as it was published. */
export interface NewsPacket {
  readonly channel: string;
  readonly pattern: unknown;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What is published under a key prefix, as a stranger with a plain Redis client hears it. */
export class News {
  readonly packets: NewsPacket[] = [];

  private constructor(
    private readonly subscriber: Redis,
    private readonly prefix: string,
  ) {}

  /** @param heard called at once with each packet, before anything else is received */
  static async listen(
    url: string,
    prefix: string,
    channels: readonly string[],
    heard: (packet: NewsPacket) => void = () => undefined,
  ): Promise<News> {
    const subscriber = new Redis(url);
    const news = new News(subscriber, prefix);
    subscriber.on('message', (channel: string, text: string) => {
      const packet = JSON.parse(text) as Omit<NewsPacket, 'channel'>;
      news.packets.push({ channel: channel.slice(prefix.length), ...packet });
      heard({ channel: channel.slice(prefix.length), ...packet });
    });
    await subscriber.subscribe(...channels.map((channel) => prefix + channel));
    return news;
  }

  /** The four channels of a function. */
  static channelsOf(functionName: string, workflowId = 'default'): string[] {
    return ['function:ready', 'function:shutdown', 'function:offline', 'worker:health'].map(
      (head) => `${head}:${functionName}:${workflowId}`,
    );
  }

  /** Packets of a type so far. */
  of(type: string): NewsPacket[] {
    return this.packets.filter(({ data }) => data['type'] === type);
  }

  /** The packet number `count` of a type, counted from 1, once it has come. */
  async next(type: string, count = 1): Promise<NewsPacket> {
    return eventually(`packet ${count} of ${type} comes`, () => {
      const packet = this.of(type)[count - 1];
      if (packet === undefined) throw new Error(`${this.of(type).length} came`);
      return packet;
    });
  }

  close(): void {
    this.subscriber.disconnect();
  }
}
