import { Inject, Injectable } from '@nestjs/common';
import { Server, type CustomTransportStrategy, type MessageHandler } from '@nestjs/microservices';
import { isObservable, lastValueFrom, type Observable } from 'rxjs';
import { SETTINGS } from '../backend/tokens.js';
import { WorkerDisabledError } from '../common/errors.js';
import type { Settings } from '../common/settings.js';
import type { FunctionContext } from '../execution/worker/function-context.js';
import { CallConsumer } from '../execution/worker/call-consumer.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import type { ChannelMessage, Subscription } from '../notifications/channel-message.js';
import { NotificationManager } from '../notifications/notification-manager.js';
import { encodeDefinition } from '../protocol/definition.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import { FunctionsRpcContext } from './functions-rpc-context.js';
import { isGlob, targetOf } from './pattern-target.js';

/**
 * Nest microservice strategy for both layers: `@MessagePattern` handlers are functions, called over Streams;
 * `@EventPattern` handlers listen on pub/sub, glob patterns included.
 *
 * @example
 * ```ts
 * const app = await NestFactory.create(AppModule);
 * app.connectMicroservice({ strategy: app.get(FunctionsTransport) });
 * await app.startAllMicroservices();
 * ```
 */
@Injectable()
export class FunctionsTransport extends Server implements CustomTransportStrategy {
  private subscriptions: Subscription[] = [];

  constructor(
    @Inject(NotificationManager) private readonly notifications: NotificationManager,
    @Inject(WorkerCoordinator) private readonly coordinator: WorkerCoordinator,
    @Inject(CallConsumer) private readonly consumer: CallConsumer,
    @Inject(SETTINGS) private readonly settings: Settings,
  ) {
    super();
  }

  /** Called by Nest. Functions are registered with the process's others, or at once if it has joined. */
  listen(callback: (error?: unknown) => void): void {
    this.start().then(
      () => callback(),
      (error: unknown) => callback(error),
    );
  }

  /** Ends the listeners; the functions drain with the process. */
  async close(): Promise<void> {
    const subscriptions = this.subscriptions;
    this.subscriptions = [];
    await Promise.all(subscriptions.map((subscription) => subscription.unsubscribe()));
  }

  /** The strategy has no events of its own: listen to NotificationManager and WorkerCoordinator. */
  override on(): never {
    throw new Error(
      'FunctionsTransport has no events: use NotificationManager.on() or WorkerCoordinator.on()',
    );
  }

  /** The NotificationManager. */
  override unwrap<T>(): T {
    return this.notifications as T;
  }

  private async start(): Promise<void> {
    const functions: { ref: FunctionRef; definition: string }[] = [];
    const listeners: Promise<Subscription>[] = [];
    for (const [route, handler] of this.messageHandlers) {
      if (handler.isEventHandler === true) listeners.push(this.subscribe(route, handler));
      else functions.push(this.host(route, handler));
    }
    if (this.coordinator.state === 'idle') this.coordinator.host(functions);
    else {
      await Promise.all(
        functions.map(({ ref, definition }) =>
          this.coordinator.registerWorker(ref, this.coordinator.workerId, definition),
        ),
      );
    }
    this.subscriptions = await Promise.all(listeners);
  }

  private host(route: string, handler: MessageHandler): { ref: FunctionRef; definition: string } {
    if (!this.settings.worker) throw new WorkerDisabledError(`@MessagePattern(${route})`);
    const { functionName, workflowId = this.settings.workflowId } = targetOf(route, route);
    const ref = functionRef(functionName, workflowId);
    const definition = { name: functionName, workflowId };
    this.consumer.add({
      ref,
      definition,
      concurrency: this.settings.concurrency,
      invoke: (parameters, context) => respond(handler, route, parameters, context),
      source: `@MessagePattern(${route})`,
    });
    return { ref, definition: encodeDefinition(definition) };
  }

  private subscribe(route: string, handler: MessageHandler): Promise<Subscription> {
    const listener = async ({ channel, data }: ChannelMessage): Promise<void> => {
      const result: unknown = await handler(data, new FunctionsRpcContext([channel, undefined]));
      if (isObservable(result)) await lastValueFrom(result, { defaultValue: undefined });
    };
    return isGlob(route)
      ? this.notifications.subscribePattern(route, listener)
      : this.notifications.subscribe(route, listener);
  }
}

/** The last value is the result; those before it are progress. */
async function respond(
  handler: MessageHandler,
  route: string,
  data: unknown,
  context: FunctionContext,
): Promise<unknown> {
  const result: unknown = await handler(data, new FunctionsRpcContext([route, context]));
  return isObservable(result) ? drainObservable(result, context) : result;
}

/**
 * Ends with its source, or with its call: a source that never completes must not hold its place for ever, nor
 * keep its entry pending until a drain hands a call back that nobody waits for.
 */
function drainObservable(source: Observable<unknown>, context: FunctionContext): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let last: { readonly value: unknown } | undefined;
    const subscription = source.subscribe({
      next: (value) => {
        if (last !== undefined) context.progress(last.value);
        last = { value };
      },
      error: reject,
      complete: () => resolve(last?.value),
    });
    if (subscription.closed) return;
    const { signal } = context;
    const end = (): void => {
      subscription.unsubscribe();
      reject(signal.reason as Error);
    };
    // Given up while the handler made the source: an abort that was told is not told again.
    if (signal.aborted) return end();
    signal.addEventListener('abort', end, { once: true });
    subscription.add(() => signal.removeEventListener('abort', end));
  });
}
