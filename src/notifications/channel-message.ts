/** A message as a listener gets it. */
export interface ChannelMessage<T = unknown> {
  /** The concrete channel, without the `keyPrefix`. */
  readonly channel: string;
  /** The pattern that matched, for pattern subscriptions. */
  readonly pattern: string | undefined;
  /**
   * `data` of the Nest packet; on the four channels of a function a checked {@link Notification}, on those of a
   * workflow a checked {@link WorkflowNotification}.
   */
  readonly data: T;
}

/** Listens to a channel or pattern. What it throws is logged and reaches nobody else. */
export type ChannelListener<T = unknown> = (message: ChannelMessage<T>) => unknown;

/** One listener's subscription. */
export interface Subscription {
  /** Removes the listener; the last one of a channel ends the Redis subscription. Safe to call twice. */
  unsubscribe(): Promise<void>;
}
