import { Inject, Injectable } from '@nestjs/common';
import { ClientProxy, type ReadPacket, type WritePacket } from '@nestjs/microservices';
import { createCallId } from '../common/call-id.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { EnhancedFunctionRegistry } from '../registry/enhanced-function-registry.js';
import { targetOf } from './pattern-target.js';

/**
 * A Nest client: `send()` is a durable call that waits for its worker, `emit()` publishes. Unsubscribing
 * from what `send()` returned cancels the call.
 *
 * @example
 * ```ts
 * constructor(private readonly client: FunctionsClientProxy) {}
 * sum$ = this.client.send<number>('sum', [1, 2, 3]);
 * this.client.emit('order:created', { id: 7 });
 * ```
 */
@Injectable()
export class FunctionsClientProxy extends ClientProxy {
  constructor(
    @Inject(EnhancedFunctionRegistry) private readonly registry: EnhancedFunctionRegistry,
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
  ) {
    super();
  }

  /** The module connects; nothing to do. */
  connect(): Promise<void> {
    return Promise.resolve();
  }

  /** The module closes; nothing to do. */
  close(): void {}

  /** The client has no events of its own: listen to NotificationManager. */
  override on(): never {
    throw new Error('FunctionsClientProxy has no events: use NotificationManager.on()');
  }

  /** The EnhancedFunctionRegistry. */
  override unwrap<T>(): T {
    return this.registry as T;
  }

  protected publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const controller = new AbortController();
    void this.perform(packet, controller.signal, callback);
    return () => controller.abort();
  }

  protected async dispatchEvent<T>(packet: ReadPacket): Promise<T> {
    const receivers = await this.notifications.publish(
      this.normalizePattern(packet.pattern as string),
      packet.data,
    );
    return receivers as T;
  }

  private async perform(
    packet: ReadPacket,
    signal: AbortSignal,
    callback: (packet: WritePacket) => void,
  ): Promise<void> {
    try {
      const { functionName, workflowId } = targetOf(
        packet.pattern,
        this.normalizePattern(packet.pattern as string),
      );
      const { data } = await this.registry.perform(createCallId(), functionName, packet.data, {
        signal,
        onProgress: (value) => callback({ response: value }),
        ...(workflowId === undefined ? {} : { workflowId }),
      });
      callback({ response: data, isDisposed: true });
    } catch (error) {
      callback({ err: error, isDisposed: true });
    }
  }
}
