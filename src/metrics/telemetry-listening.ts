import { processHold } from '../common/process-hold.js';
import type { ChannelMessage, Subscription } from '../notifications/channel-message.js';
import type { NotificationManager } from '../notifications/notification-manager.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { Keys, TelemetryType } from '../protocol/keys.js';
import { isProbe } from '../protocol/metrics.js';
import { ALL, BOTTLENECKS } from './listeners.js';
import type { MetricsEngine } from './metrics-engine.js';

/** Takes what came on a channel of a function. */
export type Hear = (ref: FunctionRef, data: unknown) => void;

/** Subscribes to what processes publish of functions, and tells all of them that somebody listens. */
export class TelemetryListening {
  constructor(
    private readonly engine: MetricsEngine,
    private readonly notifications: NotificationManager,
    private readonly keys: Keys,
  ) {}

  /**
   * Listens to one function, or to all; resolves once Redis has acknowledged it, to what ends it.
   *
   * @throws BackendUnavailableError, BackendRefusedError
   */
  async begin(
    type: TelemetryType,
    ref: FunctionRef | undefined,
    hear: Hear,
  ): Promise<() => Promise<void>> {
    const read = ({ channel, data }: ChannelMessage): void => {
      const heard = this.keys.parseTelemetry(type, this.keys.prefix + channel);
      if (heard !== undefined && !isProbe(data)) hear(heard, data);
    };
    // Who listens wants the process to go on.
    processHold.take();
    try {
      // The subscription first: what is published the moment that somebody listens should be heard.
      const subscription = await this.subscribe(type, ref, read);
      const stop = this.engine.listen(type === 'bottleneck' ? BOTTLENECKS : (ref?.id ?? ALL));
      return async () => {
        processHold.release();
        stop();
        await subscription.unsubscribe();
      };
    } catch (error) {
      processHold.release();
      throw error;
    }
  }

  private subscribe(
    type: TelemetryType,
    ref: FunctionRef | undefined,
    hear: (message: ChannelMessage) => void,
  ): Promise<Subscription> {
    return ref === undefined
      ? this.notifications.subscribePattern(
          this.keys.unprefixedPattern(this.keys.allTelemetry(type)),
          hear,
        )
      : this.notifications.subscribe(this.keys.unprefixed(this.keys.telemetry(type, ref)), hear);
  }
}
