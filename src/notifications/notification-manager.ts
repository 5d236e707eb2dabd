import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Backend } from '../backend/backend.js';
import { BACKEND, CLOCK, KEYS, SETTINGS } from '../backend/tokens.js';
import type { Clock, Timer } from '../common/clock.js';
import { ClosedError, InvalidArgumentError, isFunctionsError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import { messageOf, quote, show } from '../common/text.js';
import { callIsolated, TypedEvents, type Dispose } from '../common/typed-events.js';
import { encodeJson } from '../protocol/json.js';
import type { Keys } from '../protocol/keys.js';
import { isMalformed, parseNotification, parsePacket } from '../protocol/notification.js';

/** A message as a listener gets it. */
export interface ChannelMessage<T = unknown> {
  /** The concrete channel, without the `keyPrefix`. */
  readonly channel: string;
  /** The pattern that matched, for pattern subscriptions. */
  readonly pattern: string | undefined;
  /** `data` of the Nest packet; on the four channels of a function a checked {@link Notification}. */
  readonly data: T;
}

/** Listens to a channel or pattern. What it throws is logged and reaches nobody else. */
export type ChannelListener<T = unknown> = (message: ChannelMessage<T>) => unknown;

/** One listener's subscription. */
export interface Subscription {
  /** Removes the listener; the last one of a channel ends the Redis subscription. Safe to call twice. */
  unsubscribe(): Promise<void>;
}

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

type Kind = 'channel' | 'pattern';

interface Topic {
  readonly listeners: Set<ChannelListener<never>>;
  /** The acknowledgement on the current connection; absent when there is none asked for. */
  acknowledged: Promise<void> | undefined;
}

const NAMES_PER_COMMAND = 500;
const REMEMBERED_PROBLEMS = 1_000;
/** Longest channel or pattern: that of the longest names, every character encoded, has about 4,600. */
const MAX_CHANNEL_LENGTH = 8_192;
/** Between two attempts to subscribe anew on a connection that holds. */
const RETRY_MS = 500;

/**
 * All pub/sub of a process: publishes, and keeps one Redis subscription per channel however many listen.
 *
 * Invariants:
 * - A topic exists exactly while it has listeners; what is subscribed in Redis follows the topics.
 * - `subscribe` resolves after the server's acknowledgement, never before.
 * - After a lost connection every topic is subscribed anew before `connected` is told, so that a listener of
 *   that event may read the truth and knows that nothing after it is missed.
 *
 * Interleavings of a topic's commands: all are written on one connection in the order of the calls, so
 * UNSUBSCRIBE by the last listener followed by SUBSCRIBE by a new one ends subscribed, and SUBSCRIBE
 * followed by UNSUBSCRIBE before its acknowledgement ends unsubscribed. A connection lost in between makes
 * both void, and the topics decide what the next one holds.
 * - subscribe without a connection, then unsubscribe, then the connection: the SUBSCRIBE that waited is
 *   written although nobody listens any more; its acknowledgement finds no topic and takes it back.
 * - SUBSCRIBE that times out, and is executed later by a slow server: the listener's removal writes an
 *   UNSUBSCRIBE behind it, answered or not.
 * - resubscribing fails and the connection holds (a permission taken away, a server too busy to answer):
 *   it is tried again on the same connection; there may never be another one.
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
  private readonly topics: Readonly<Record<Kind, Map<string, Topic>>> = {
    channel: new Map(),
    pattern: new Map(),
  };
  private readonly events = new TypedEvents<NotificationEvents>((event, error) =>
    this.logger.error(`A listener of ${String(event)} failed: ${messageOf(error)}`),
  );
  private readonly problemsLogged = new Set<string>();
  private readonly refused = new Set<string>();
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
  ) {}

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
    let listeners = 0;
    for (const topics of Object.values(this.topics)) {
      for (const topic of topics.values()) listeners += topic.listeners.size;
    }
    return {
      state: this.current,
      channels: this.topics.channel.size,
      patterns: this.topics.pattern.size,
      listeners,
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

  /** As {@link subscribe}, for a glob pattern: `function:ready:*`. */
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
    await this.drop('channel', [this.keys.prefix + channel]);
  }

  /** Removes all listeners of a pattern. */
  async unsubscribePattern(pattern: string): Promise<void> {
    assertChannel('pattern', pattern);
    await this.drop('pattern', [this.keys.prefixedPattern(pattern)]);
  }

  /** Ends it for good; the connection itself is the backend's. */
  close(): void {
    if (this.current === 'closed') return;
    this.detach();
    this.retry?.cancel();
    this.transition('closed');
    this.topics.channel.clear();
    this.topics.pattern.clear();
    this.events.clear();
  }

  private async add<T>(
    kind: Kind,
    names: readonly string[],
    listener: ChannelListener<T>,
  ): Promise<Subscription> {
    this.assertOpen();
    if (typeof listener !== 'function')
      throw new InvalidArgumentError('listener', show(listener), 'a function');
    const topics = this.topics[kind];
    // A wrapper per subscription: the same function may listen twice and leave once.
    const entry: ChannelListener<never> = (message) => listener(message);
    const missing: string[] = [];
    for (const name of names) {
      let topic = topics.get(name);
      if (topic === undefined)
        topics.set(name, (topic = { listeners: new Set(), acknowledged: undefined }));
      topic.listeners.add(entry);
      if (topic.acknowledged === undefined) missing.push(name);
    }
    try {
      if (missing.length > 0) this.acknowledge(kind, missing);
      await Promise.all(names.map((name) => topics.get(name)?.acknowledged ?? Promise.resolve()));
    } catch (error) {
      void this.remove(kind, names, entry);
      throw error;
    }
    return { unsubscribe: () => this.remove(kind, names, entry) };
  }

  /** Asks Redis for topics and notes the promise on each; a failure lets the next subscriber ask again. */
  private acknowledge(kind: Kind, names: readonly string[]): void {
    const { bus } = this.backend;
    const inOrder = bus.isConnected();
    const acknowledged = kind === 'channel' ? bus.subscribe(names) : bus.psubscribe(names);
    acknowledged.then(
      () => {
        this.refused.delete(kind);
        this.refused.delete(this.problemOf(kind, names));
        this.logger.debug(`subscribed to ${summary(kind, names)}`);
        const unwanted = names.filter((name) => !this.topics[kind].has(name));
        if (!inOrder) void this.takeBack(kind, unwanted);
      },
      (error: unknown) => {
        this.reportRefused(kind, names, error);
        for (const name of names) {
          const topic = this.topics[kind].get(name);
          if (topic?.acknowledged === acknowledged) topic.acknowledged = undefined;
        }
      },
    );
    for (const name of names) {
      const topic = this.topics[kind].get(name);
      if (topic !== undefined) topic.acknowledged = acknowledged;
    }
  }

  /** Asks for the topics that nobody has asked for on this connection. */
  private acknowledgeAll(kind: Kind, names: readonly string[]): void {
    const missing = names.filter((name) => this.topics[kind].get(name)?.acknowledged === undefined);
    for (let i = 0; i < missing.length; i += NAMES_PER_COMMAND) {
      this.acknowledge(kind, missing.slice(i, i + NAMES_PER_COMMAND));
    }
  }

  private async remove(
    kind: Kind,
    names: readonly string[],
    listener: ChannelListener<never>,
  ): Promise<void> {
    const idle = names.filter((name) => {
      const topic = this.topics[kind].get(name);
      return topic?.listeners.delete(listener) === true && topic.listeners.size === 0;
    });
    await this.drop(kind, idle);
  }

  private async drop(kind: Kind, names: readonly string[]): Promise<void> {
    await this.takeBack(
      kind,
      names.filter((name) => this.topics[kind].delete(name)),
    );
  }

  private async takeBack(kind: Kind, names: readonly string[]): Promise<void> {
    const { bus } = this.backend;
    // Without a connection there is nothing to take back: the next one starts from the topics.
    if (names.length === 0 || this.current === 'closed' || !bus.isConnected()) return;
    await (kind === 'channel' ? bus.unsubscribe(names) : bus.punsubscribe(names)).catch(
      (error: unknown) =>
        this.logger.debug(`unsubscribing from ${summary(kind, names)} failed: ${messageOf(error)}`),
    );
  }

  private async resubscribe(): Promise<void> {
    const connection = (this.connection += 1);
    const channels = [...this.topics.channel.keys()];
    const patterns = [...this.topics.pattern.keys()];
    this.acknowledgeAll('channel', channels);
    this.acknowledgeAll('pattern', patterns);
    try {
      await Promise.all([
        ...channels.map((name) => this.topics.channel.get(name)?.acknowledged),
        ...patterns.map((name) => this.topics.pattern.get(name)?.acknowledged),
      ]);
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
    this.events.emit('connected', { channels: channels.length, patterns: patterns.length });
  }

  private handleLoss(reason: string): void {
    this.connection += 1;
    this.lastLoss = reason;
    for (const topics of Object.values(this.topics)) {
      for (const topic of topics.values()) topic.acknowledged = undefined;
    }
    if (this.current === 'connected') {
      this.transition('reconnecting', reason);
      this.events.emit('disconnected', { reason });
    }
  }

  private receive(name: string, payload: string, pattern: string | undefined): void {
    const topic =
      pattern === undefined ? this.topics.channel.get(name) : this.topics.pattern.get(pattern);
    if (topic === undefined) return;
    this.received += 1;
    const address = this.keys.parseChannel(name);
    const parsed =
      address === undefined ? parsePacket(payload) : parseNotification(address, payload);
    const channel = this.keys.unprefixed(name);
    if (isMalformed(parsed)) {
      this.reportDropped(channel, parsed.malformed);
      return;
    }
    const data: unknown = address === undefined ? (parsed as { data: unknown }).data : parsed;
    const message = {
      channel,
      pattern: pattern === undefined ? undefined : this.keys.unprefixedPattern(pattern),
      data,
    };
    for (const listener of [...topic.listeners]) {
      callIsolated(
        () => listener(message as never),
        (error) => this.logger.error(`A listener of ${quote(channel)} failed: ${messageOf(error)}`),
      );
    }
  }

  private reportDropped(channel: string, reason: string): void {
    this.dropped += 1;
    if (!this.problemsLogged.has(channel) && this.problemsLogged.size < REMEMBERED_PROBLEMS) {
      this.problemsLogged.add(channel);
      this.logger.warn(
        `dropped a message on ${quote(channel)}: ${reason} (further ones there are counted, not logged)`,
      );
    }
    this.events.emit('dropped', { channel, reason });
  }

  /**
   * Tried again and again, and said once until it works: while Redis is away once for all topics of a kind,
   * whose names change with every attempt to join; what Redis refuses once for all topics that begin alike.
   */
  private reportRefused(kind: Kind, names: readonly string[], error: unknown): void {
    const away = isFunctionsError(error, 'BACKEND_UNAVAILABLE');
    const problem = away ? kind : this.problemOf(kind, names);
    const text = `could not subscribe to ${summary(kind, names)}: ${messageOf(error)}`;
    const known = this.refused.has(problem) || this.refused.size >= REMEMBERED_PROBLEMS;
    if (known) this.logger.debug(text);
    else this.logger.warn(text);
    if (!known) this.refused.add(problem);
  }

  private problemOf(kind: Kind, [first = '']: readonly string[]): string {
    return `${kind} ${this.keys.unprefixed(first).split(':', 2).join(':')}`;
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

function summary(kind: Kind, names: readonly string[]): string {
  const first = names[0] ?? '';
  return names.length === 1
    ? `${kind} ${quote(first)}`
    : `${names.length} ${kind}s (${quote(first)}, ...)`;
}
