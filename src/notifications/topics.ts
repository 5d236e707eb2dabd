import type { Logger } from '@nestjs/common';
import type { NotificationBus } from '../backend/notification-bus.js';
import { isFunctionsError } from '../common/errors.js';
import { messageOf, quote } from '../common/text.js';
import type { Keys } from '../protocol/keys.js';
import type { ChannelListener, Subscription } from './channel-message.js';
import { packetReader, type PacketReader } from './packet-reader.js';

/** What is subscribed to: a channel, or a glob pattern. */
export type TopicKind = 'channel' | 'pattern';

interface Topic {
  readonly listeners: Set<ChannelListener<never>>;
  /** Made when it is subscribed to, so that a message need not wait for it; a pattern has many channels. */
  readonly read: PacketReader | undefined;
  /** The acknowledgement on the current connection; absent when there is none asked for. */
  acknowledged: Promise<void> | undefined;
}

/** Who gets a message, and how it is read; a pattern's are read by their channel. */
export interface Audience {
  readonly listeners: readonly ChannelListener<never>[];
  readonly read: PacketReader | undefined;
}

const NAMES_PER_COMMAND = 500;
const REMEMBERED_PROBLEMS = 1_000;

/**
 * Who listens to what, and one Redis subscription for each.
 *
 * Invariant: a topic exists exactly while it has listeners; what is subscribed in Redis follows the topics.
 *
 * Interleavings of a topic's commands: all are written on one connection in the order of the calls, so
 * UNSUBSCRIBE by the last listener followed by SUBSCRIBE by a new one ends subscribed, and SUBSCRIBE
 * followed by UNSUBSCRIBE before its acknowledgement ends unsubscribed. A connection lost in between makes
 * both void, and the topics decide what the next one holds.
 * - subscribe without a connection, then unsubscribe, then the connection: the SUBSCRIBE that waited is
 *   written although nobody listens any more; its acknowledgement finds no topic and takes it back.
 * - SUBSCRIBE that times out, and is executed later by a slow server: the listener's removal writes an
 *   UNSUBSCRIBE behind it, answered or not.
 */
export class Topics {
  private readonly topics: Readonly<Record<TopicKind, Map<string, Topic>>> = {
    channel: new Map(),
    pattern: new Map(),
  };
  private readonly refused = new Set<string>();
  private closed = false;

  constructor(
    private readonly bus: NotificationBus,
    private readonly keys: Keys,
    private readonly logger: Logger,
  ) {}

  /** How many there are of a kind. */
  count(kind: TopicKind): number {
    return this.topics[kind].size;
  }

  /** Listeners of all of them. */
  get listeners(): number {
    let count = 0;
    for (const topics of Object.values(this.topics))
      for (const topic of topics.values()) count += topic.listeners.size;
    return count;
  }

  /** Who listens to it, at this moment; `undefined` when there is no such topic. */
  audienceOf(kind: TopicKind, name: string): Audience | undefined {
    const topic = this.topics[kind].get(name);
    return topic && { listeners: [...topic.listeners], read: topic.read };
  }

  /** Adds a listener; resolves when the server has acknowledged, and keeps nothing when it does not. */
  async add<T>(
    kind: TopicKind,
    names: readonly string[],
    listener: ChannelListener<T>,
  ): Promise<Subscription> {
    const topics = this.topics[kind];
    // A wrapper per subscription: the same function may listen twice and leave once.
    const entry: ChannelListener<never> = (message) => listener(message);
    const missing: string[] = [];
    for (const name of names) {
      let topic = topics.get(name);
      if (topic === undefined) topics.set(name, (topic = this.open(kind, name)));
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

  private open(kind: TopicKind, name: string): Topic {
    const read = kind === 'channel' ? packetReader(this.keys, name) : undefined;
    return { listeners: new Set(), read, acknowledged: undefined };
  }

  /** Asks Redis for topics and notes the promise on each; a failure lets the next subscriber ask again. */
  private acknowledge(kind: TopicKind, names: readonly string[]): void {
    const { bus } = this;
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

  /** Asks for the topics of a kind that nobody has asked for on this connection. */
  private acknowledgeMissing(kind: TopicKind, names: readonly string[]): void {
    const missing = names.filter((name) => this.topics[kind].get(name)?.acknowledged === undefined);
    for (let i = 0; i < missing.length; i += NAMES_PER_COMMAND) {
      this.acknowledge(kind, missing.slice(i, i + NAMES_PER_COMMAND));
    }
  }

  private async remove(
    kind: TopicKind,
    names: readonly string[],
    listener: ChannelListener<never>,
  ): Promise<void> {
    const idle = names.filter((name) => {
      const topic = this.topics[kind].get(name);
      return topic?.listeners.delete(listener) === true && topic.listeners.size === 0;
    });
    await this.drop(kind, idle);
  }

  /** Removes all listeners of these. */
  async drop(kind: TopicKind, names: readonly string[]): Promise<void> {
    await this.takeBack(
      kind,
      names.filter((name) => this.topics[kind].delete(name)),
    );
  }

  private async takeBack(kind: TopicKind, names: readonly string[]): Promise<void> {
    const { bus } = this;
    // Without a connection there is nothing to take back: the next one starts from the topics.
    if (names.length === 0 || this.closed || !bus.isConnected()) return;
    await (kind === 'channel' ? bus.unsubscribe(names) : bus.punsubscribe(names)).catch(
      (error: unknown) =>
        this.logger.debug(`unsubscribing from ${summary(kind, names)} failed: ${messageOf(error)}`),
    );
  }

  /** Asks for all that nobody has asked for on this connection; resolves when everything there is is acknowledged. */
  async acknowledgeAll(): Promise<void> {
    const kinds = ['channel', 'pattern'] as const;
    const asked = kinds.map((kind) => [kind, [...this.topics[kind].keys()]] as const);
    for (const [kind, names] of asked) this.acknowledgeMissing(kind, names);
    await Promise.all(
      asked.flatMap(([kind, names]) =>
        names.map((name) => this.topics[kind].get(name)?.acknowledged ?? Promise.resolve()),
      ),
    );
  }

  /** The connection is lost, and its acknowledgements with it. */
  handleLoss(): void {
    for (const topics of Object.values(this.topics))
      for (const topic of topics.values()) topic.acknowledged = undefined;
  }

  /** Forgets all of them; the connection is ended by others. */
  close(): void {
    this.closed = true;
    for (const topics of Object.values(this.topics)) topics.clear();
  }

  /**
   * Tried again and again, and said once until it works: while Redis is away once for all topics of a kind,
   * whose names change with every attempt to join; what Redis refuses once for all topics that begin alike.
   */
  private reportRefused(kind: TopicKind, names: readonly string[], error: unknown): void {
    const away = isFunctionsError(error, 'BACKEND_UNAVAILABLE');
    const problem = away ? kind : this.problemOf(kind, names);
    const text = `could not subscribe to ${summary(kind, names)}: ${messageOf(error)}`;
    // What an application that ends had still asked for is no trouble of anybody's.
    const ends = isFunctionsError(error, 'CLOSED');
    const known = ends || this.refused.has(problem) || this.refused.size >= REMEMBERED_PROBLEMS;
    if (known) this.logger.debug(text);
    else this.logger.warn(text);
    if (!known) this.refused.add(problem);
  }

  private problemOf(kind: TopicKind, [first = '']: readonly string[]): string {
    return `${kind} ${this.keys.unprefixed(first).split(':', 2).join(':')}`;
  }
}

function summary(kind: TopicKind, names: readonly string[]): string {
  const first = names[0] ?? '';
  return names.length === 1
    ? `${kind} ${quote(first)}`
    : `${names.length} ${kind}s (${quote(first)}, ...)`;
}
