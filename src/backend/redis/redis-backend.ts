import { Logger } from '@nestjs/common';
import { redactUrl } from '../../common/text.js';
import type { Dispose } from '../../common/typed-events.js';
import type { Keys } from '../../protocol/keys.js';
import type { Backend } from '../backend.js';
import { RedisCallStreams } from './redis-call-streams.js';
import { RedisCircuitStore } from './redis-circuit-store.js';
import { isRedisInstance, RedisConnection, type RedisSource } from './redis-connection.js';
import { RedisDeadLetterStore } from './redis-dead-letter-store.js';
import { RedisFleetStore } from './redis-fleet-store.js';
import { RedisNotificationBus } from './redis-notification-bus.js';
import { RedisWorkerStore } from './redis-worker-store.js';
import { UntoldNews } from './untold-news.js';

/**
 * The backend on one Redis. At most four connections, whatever the number of functions: commands and
 * subscriber from the start, one blocking read of calls once functions are hosted, one of replies once
 * something is called.
 */
export class RedisBackend implements Backend {
  readonly bus: RedisNotificationBus;
  readonly workers: RedisWorkerStore;
  readonly fleet: RedisFleetStore;
  readonly calls: RedisCallStreams;
  readonly deadLetters: RedisDeadLetterStore;
  readonly circuits: RedisCircuitStore;
  readonly address: string;
  private readonly logger = new Logger('REDIS');
  private readonly commands: RedisConnection;
  private readonly subscriber: RedisConnection;
  private readonly open = new Set<RedisConnection>();

  constructor(
    private readonly source: RedisSource,
    keys: Keys,
  ) {
    this.address = addressOf(source);
    this.commands = this.connect('commands');
    this.subscriber = this.connect('subscriber');
    this.bus = new RedisNotificationBus(this.commands, this.subscriber);
    const untold = new UntoldNews();
    this.workers = new RedisWorkerStore(this.commands, keys, untold);
    this.deadLetters = new RedisDeadLetterStore(this.commands, keys);
    this.fleet = new RedisFleetStore(this.commands, keys);
    this.circuits = new RedisCircuitStore(this.commands, keys, untold);
    this.calls = new RedisCallStreams(
      this.commands,
      (role, owner) => this.connect(role, owner),
      keys,
      untold,
    );
  }

  start(): void {
    this.commands.open();
    this.subscriber.open();
  }

  isConnected(): boolean {
    return this.commands.isReady();
  }

  onConnected(listener: () => void): Dispose {
    return this.commands.onReady(listener);
  }

  async ping(): Promise<void> {
    await this.commands.command('PING', (client) => client.ping());
  }

  close(): Promise<void> {
    for (const connection of this.open) connection.close();
    this.open.clear();
    return Promise.resolve();
  }

  private connect(role: string, owner = ''): RedisConnection {
    const connection: RedisConnection = new RedisConnection(
      this.source,
      role,
      this.address,
      owner,
      (time) => [...this.open].some((other) => other !== connection && other.readySince > time),
    );
    this.open.add(connection);
    let down = false;
    connection.onLost((reason) => {
      if (!down)
        this.logger.warn(
          `${role} connection to ${this.address} is down (${redactUrl(reason)}); reconnecting`,
        );
      down = true;
    });
    connection.onReady(() => {
      for (const other of this.open) if (other !== connection) other.noteReached();
      this.logger.debug(`${role} connection to ${this.address} is up`);
      down = false;
    });
    return connection;
  }
}

function addressOf(source: RedisSource): string {
  if (typeof source === 'string') return redactUrl(source);
  const options = isRedisInstance(source) ? source.options : source;
  const scheme = options.tls === undefined ? 'redis' : 'rediss';
  // Whatever somebody took for a host or a path: an instance's options were never checked.
  return redactUrl(
    options.path ?? `${scheme}://${options.host ?? '127.0.0.1'}:${options.port ?? 6379}`,
  );
}
