import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import type { Clock, Timer } from '../common/clock.js';
import { ClosedError, InvalidArgumentError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { messageOf, quote, show } from '../common/text.js';
import { callIsolated, TypedEvents, type Dispose } from '../common/typed-events.js';
import { encodeJson } from '../protocol/json.js';
import type { Keys } from '../protocol/keys.js';
import { isMalformed } from '../protocol/notification.js';
import type { ChannelListener, Subscription } from './channel-message.js';
import { packetReader } from './packet-reader.js';
import { Topics, type TopicKind } from './topics.js';

/**
 * - `connecting`: no connection yet
 * - `connected`: every subscription is acknowledged on the current connection
 * - `reconnecting`: the connection is lost, or its subscriptions are not acknowledged yet
 * - `closed`: for good
 */
export type NotificationState = 'connecting' | 'connected' | 'reconnecting' | 'closed';

/** What {@link NotificationManager.on} can listen to. */
export interface NotificationEvents {
  /** Any change of {@link NotificationManager.state}. */
  state: {
    readonly from: NotificationState;
    readonly to: NotificationState;
    readonly reason?: string;
  };
  /** All subscriptions are in place (again): what was missed can be read now. */
  connected: { readonly channels: number; readonly patterns: number };
  /** News are missed from now on. */
  disconnected: { readonly reason: string };
  /** A message was not what its channel is for. */
  dropped: { readonly channel: string; readonly reason: string };
}

/** Counters since the start. */
export interface NotificationStats {
  readonly state: NotificationState;
  readonly channels: number;
  readonly patterns: number;
  readonly listeners: number;
  readonly published: number;
  readonly received: number;
  readonly dropped: number;
}

const REMEMBERED_PROBLEMS = 1_000;
/** Longest channel or pattern: that of the longest names, every character encoded, has about 4,600. */
const MAX_CHANNEL_LENGTH = 8_192;
/** Between two attempts to subscribe anew on a connection that holds. */
const RETRY_MS = 500;

/**
 * All pub/sub of a process: publishes, and keeps one Redis subscription per channel however many listen.
 *
 * Invariants ({@link Topics} says how the subscriptions keep them):
 * - `subscribe` resolves after the server's acknowledgement, never before.
 * - After a lost connection every topic is subscribed anew before `connected` is told, so that a listener of
 *   that event may read the truth and knows that nothing after it is missed.
 *
 * Interleavings: resubscribing fails and the connection holds (a permission taken away, a server too busy to
 * answer): it is tried again on the same connection; there may never be another one.
 *
 * @example
 * ```ts
 * const subscription = await notifications.subscribe('function:ready:resize:media', ({ data }) => ...);
 * await notifications.subscribePattern('function:offline:*', ({ channel, data }) => ...);
 * await notifications.publish('app:cache-cleared', { region: 'eu' });
 * await subscription.unsubscribe();
 * ```
 */
@Injectable()
export class NotificationManager {
  private readonly logger = new Logger('NOTIFICATIONS');
  private readonly topics: Topics;
  private readonly events = new TypedEvents<NotificationEvents>((event, error) =>
    this.logger.error(`A listener of ${String(event)} failed: ${messageOf(error)}`),
  );
  private readonly problemsLogged = new Set<string>();
  private current: NotificationState = 'connecting';
  /** Counts connections, and attempts to subscribe anew on one: what is no longer the latest gives up. */
  private connection = 0;
  private lastLoss: string | undefined;
  private retry: Timer | undefined;
  private published = 0;
  private received = 0;
  private dropped = 0;
  private detach: Dispose = () => undefined;

  constructor(
    @Inject(BACKEND) private readonly backend: Backend,
    @Inject(KEYS) private readonly keys: Keys,
    @Inject(SETTINGS) private readonly settings: Settings,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {
    this.topics = new Topics(backend.bus, keys, this.logger);
  }

  /** Takes the bus; the module calls it before anything else of the application can subscribe. */
  start(): void {
    this.detach = this.backend.bus.attach({
      message: (channel, payload, pattern) => this.receive(channel, payload, pattern),
      connected: () => void this.resubscribe(),
      disconnected: (reason) => this.handleLoss(reason),
    });
  }

  /** Where the subscription connection stands. */
  get state(): NotificationState {
    return this.current;
  }

  /** Why there is no connection, as far as it is known; `undefined` while there is one. */
  get problem(): string | undefined {
    return this.lastLoss;
  }

  /** Listens to the manager itself; the result removes the listener. */
  on<K extends keyof NotificationEvents>(
    event: K,
    listener: (payload: NotificationEvents[K]) => unknown,
  ): Dispose {
    return this.events.on(event, listener);
  }

  /** Counters, for health and tests. */
  stats(): NotificationStats {
    return {
      state: this.current,
      channels: this.topics.count('channel'),
      patterns: this.topics.count('pattern'),
      listeners: this.topics.listeners,
      published: this.published,
      received: this.received,
      dropped: this.dropped,
    };
  }

  /**
   * Publishes a Nest packet `{ pattern: channel, data }`.
   *
   * @returns how many subscribers Redis delivered it to
   * @throws InvalidArgumentError, PayloadNotSerializableError, PayloadTooLargeError, BackendUnavailableError,
   * ClosedError
   */
  async publish(channel: string, data: unknown): Promise<number> {
    this.assertOpen();
    assertChannel('channel', channel);
    const name = this.keys.prefix + channel;
    const packet = `{"pattern":${JSON.stringify(name)},"data":${encodeJson('data', data, this.settings.maxPayloadBytes)}}`;
    const receivers = await this.backend.bus.publish(name, packet);
    this.published += 1;
    this.logger.debug(`published on ${quote(channel)} to ${receivers} subscriber(s)`);
    return receivers;
  }

  /**
   * Listens to a channel. Resolves once Redis has acknowledged the subscription.
   *
   * @throws BackendUnavailableError when Redis does not answer within 6 s; the listener is not kept then
   * @throws InvalidArgumentError, ClosedError
   */
  async subscribe<T = unknown>(
    channel: string,
    listener: ChannelListener<T>,
  ): Promise<Subscription> {
    assertChannel('channel', channel);
    return this.add('channel', [this.keys.prefix + channel], listener);
  }

  /** As {@link subscribe}, for several channels and one listener in one Redis command. */
  async subscribeAll<T = unknown>(
    channels: readonly string[],
    listener: ChannelListener<T>,
  ): Promise<Subscription> {
    if (!Array.isArray(channels))
      throw new InvalidArgumentError('channels', show(channels), 'an array of channels');
    for (const channel of channels) assertChannel('channel', channel);
    return this.add(
      'channel',
      channels.map((channel) => this.keys.prefix + channel),
      listener,
    );
  }

  /**
   * As {@link subscribe}, for a glob pattern: `function:ready:*`.
   *
   * It is heard below the `keyPrefix`, and `*` hears everything that begins with it. An application without a prefix
   * hears every channel of the Redis with `*`, those of other prefixes and applications too: nothing tells them from its
   * own. (`function:*` hears the library's own channels without a prefix alone.)
   */
  async subscribePattern<T = unknown>(
    pattern: string,
    listener: ChannelListener<T>,
  ): Promise<Subscription> {
    assertChannel('pattern', pattern);
    return this.add('pattern', [this.keys.prefixedPattern(pattern)], listener);
  }

  /** Removes all listeners of a channel. */
  async unsubscribe(channel: string): Promise<void> {
    assertChannel('channel', channel);
    await this.topics.drop('channel', [this.keys.prefix + channel]);
  }

  /** Removes all listeners of a pattern. */
  async unsubscribePattern(pattern: string): Promise<void> {
    assertChannel('pattern', pattern);
    await this.topics.drop('pattern', [this.keys.prefixedPattern(pattern)]);
  }

  /** Ends it for good; the connection itself is the backend's. */
  close(): void {
    if (this.current === 'closed') return;
    this.detach();
    this.retry?.cancel();
    this.transition('closed');
    this.topics.close();
    this.events.clear();
  }

  private async add<T>(
    kind: TopicKind,
    names: readonly string[],
    listener: ChannelListener<T>,
  ): Promise<Subscription> {
    this.assertOpen();
    if (typeof listener !== 'function')
      throw new InvalidArgumentError('listener', show(listener), 'a function');
    return this.topics.add(kind, names, listener);
  }

  private async resubscribe(): Promise<void> {
    const connection = (this.connection += 1);
    const channels = this.topics.count('channel');
    const patterns = this.topics.count('pattern');
    try {
      await this.topics.acknowledgeAll();
    } catch {
      // If the connection broke meanwhile, the next one comes here again.
      if (connection === this.connection && this.current !== 'closed')
        this.retry = this.clock.after(RETRY_MS, () => {
          if (connection === this.connection) void this.resubscribe();
        });
      return;
    }
    if (
      connection !== this.connection ||
      this.current === 'closed' ||
      !this.backend.bus.isConnected()
    )
      return;
    this.lastLoss = undefined;
    this.transition('connected');
    this.events.emit('connected', { channels, patterns });
  }

  private handleLoss(reason: string): void {
    this.connection += 1;
    this.lastLoss = reason;
    this.topics.handleLoss();
    if (this.current === 'connected') {
      this.transition('reconnecting', reason);
      this.events.emit('disconnected', { reason });
    }
  }

  private receive(name: string, payload: string, pattern: string | undefined): void {
    const audience =
      pattern === undefined
        ? this.topics.audienceOf('channel', name)
        : this.topics.audienceOf('pattern', pattern);
    if (audience === undefined) return;
    this.received += 1;
    const read = audience.read ?? packetReader(this.keys, name);
    const parsed = read(payload);
    const channel = this.keys.unprefixed(name);
    if (isMalformed(parsed)) {
      this.noteDropped(channel, parsed.malformed);
      return;
    }
    const message = {
      channel,
      pattern: pattern === undefined ? undefined : this.keys.unprefixedPattern(pattern),
      data: parsed.data,
    };
    for (const listener of audience.listeners) {
      callIsolated(
        () => listener(message as never),
        (error) => this.logger.error(`A listener of ${quote(channel)} failed: ${messageOf(error)}`),
      );
    }
  }

  /**
   * @internal Counts a message that its listener found not to be what its channel is for, as those that are found out
   * here.
   */
  noteDropped(channel: string, reason: string): void {
    this.dropped += 1;
    if (!this.problemsLogged.has(channel) && this.problemsLogged.size < REMEMBERED_PROBLEMS) {
      this.problemsLogged.add(channel);
      this.logger.warn(
        `dropped a message on ${quote(channel)}: ${reason} (further ones there are counted, not logged)`,
      );
    }
    this.events.emit('dropped', { channel, reason });
  }

  private transition(to: NotificationState, reason?: string): void {
    const from = this.current;
    if (from === to) return;
    this.current = to;
    this.logger.debug(`${from} -> ${to}${reason === undefined ? '' : ` (${reason})`}`);
    this.events.emit('state', { from, to, ...(reason === undefined ? {} : { reason }) });
  }

  private assertOpen(): void {
    if (this.current === 'closed') throw new ClosedError('NotificationManager');
  }
}

function assertChannel(argument: string, value: unknown): void {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_CHANNEL_LENGTH) return;
  throw new InvalidArgumentError(
    argument,
    show(value),
    `a string of 1 to ${MAX_CHANNEL_LENGTH} characters`,
  );
}
