import type { Dispose } from '../common/typed-events.js';

/** What a bus tells its one user. */
export interface BusEvents {
  /** A message; `pattern` is set when it came through a pattern subscription. */
  message(channel: string, payload: string, pattern: string | undefined): void;
  /** The connection is up and holds no subscription: the user subscribes anew. */
  connected(): void;
  /** The connection is lost; messages from now on are missed. */
  disconnected(reason: string): void;
}

/**
 * Port: news, at most once, instant. It knows nothing of listeners: one user (NotificationManager) holds
 * them and asks for each channel once.
 */
export interface NotificationBus {
  /** Sends; resolves to the number of receivers that the server counted. */
  publish(channel: string, payload: string): Promise<number>;
  /** Resolves when the server has acknowledged all channels. */
  subscribe(channels: readonly string[]): Promise<void>;
  unsubscribe(channels: readonly string[]): Promise<void>;
  /** As {@link subscribe}, with glob patterns. */
  psubscribe(patterns: readonly string[]): Promise<void>;
  punsubscribe(patterns: readonly string[]): Promise<void>;
  /** Of these channels, the ones that somebody listens to (a pattern listener counts for all). */
  heard(channels: readonly string[]): Promise<string[]>;
  /** Asks the subscription connection for a sign of life; one that gives none is made anew. */
  probe(): Promise<void>;
  /** Whether the subscription connection is up. */
  isConnected(): boolean;
  /** Sets the user; the result removes it. */
  attach(events: BusEvents): Dispose;
}
