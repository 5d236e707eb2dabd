import type { AnswerQueue } from './answer-queue.js';
import { globToRegExp } from './glob.js';

/** One connection's subscriptions. */
export interface Subscriber {
  receive(channel: string, payload: string, pattern: string | undefined): void;
}

/** News: to whoever is subscribed at that moment, in their order, and never again. */
export class MemoryPubSub {
  private readonly channels = new Map<string, Set<Subscriber>>();
  private readonly patterns = new Map<
    string,
    { readonly matches: RegExp; readonly subscribers: Set<Subscriber> }
  >();

  constructor(
    private readonly answers: AnswerQueue,
    private readonly published: (channel: string, payload: string) => void,
  ) {}

  /** How many receive it: one that has a channel and a pattern that fits gets it twice. */
  publish(channel: string, payload: string): number {
    let receivers = 0;
    const deliver = (subscriber: Subscriber, pattern?: string): void => {
      receivers += 1;
      this.answers.add(() => subscriber.receive(channel, payload, pattern));
    };
    for (const subscriber of this.channels.get(channel) ?? []) deliver(subscriber);
    for (const [pattern, { matches, subscribers }] of this.patterns) {
      if (!matches.test(channel)) continue;
      for (const subscriber of subscribers) deliver(subscriber, pattern);
    }
    this.published(channel, payload);
    return receivers;
  }

  subscribe(subscriber: Subscriber, names: readonly string[]): void {
    for (const name of names) {
      const subscribers = this.channels.get(name);
      if (subscribers === undefined) this.channels.set(name, new Set([subscriber]));
      else subscribers.add(subscriber);
    }
  }

  unsubscribe(subscriber: Subscriber, names: readonly string[]): void {
    for (const name of names) {
      const subscribers = this.channels.get(name);
      subscribers?.delete(subscriber);
      if (subscribers?.size === 0) this.channels.delete(name);
    }
  }

  subscribePatterns(subscriber: Subscriber, names: readonly string[]): void {
    for (const name of names) {
      const known = this.patterns.get(name);
      if (known !== undefined) known.subscribers.add(subscriber);
      else {
        const subscribers = new Set([subscriber]);
        this.patterns.set(name, { matches: globToRegExp(name), subscribers });
      }
    }
  }

  unsubscribePatterns(subscriber: Subscriber, names: readonly string[]): void {
    for (const name of names) {
      const known = this.patterns.get(name);
      known?.subscribers.delete(subscriber);
      if (known?.subscribers.size === 0) this.patterns.delete(name);
    }
  }

  /** Ends all subscriptions of one connection. */
  leave(subscriber: Subscriber): void {
    this.unsubscribe(subscriber, [...this.channels.keys()]);
    this.unsubscribePatterns(subscriber, [...this.patterns.keys()]);
  }

  /** Whether somebody is subscribed to exactly this channel. */
  hasSubscriber(channel: string): boolean {
    return this.channels.has(channel);
  }

  get hasPatterns(): boolean {
    return this.patterns.size > 0;
  }
}
