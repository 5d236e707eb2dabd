/**
 * A process of the tests that traces: it hosts the function FUNCTION, which waits a little, calls NEXT if there is one,
 * and answers what it sees of its context. Sends each span that ends.
 */
import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { BasicTracerProvider, type ReadableSpan } from '@opentelemetry/sdk-trace-base';
import { EnhancedFunctionRegistry, FunctionHandler, FunctionsModule } from '../../src/index.js';

const { REDIS_URL: connection = '', KEY_PREFIX: keyPrefix = '' } = process.env;
const { FUNCTION: name = '', NEXT: next } = process.env;

const tell = (span: ReadableSpan): void => {
  const { traceId, spanId } = span.spanContext();
  const parent = span.parentSpanContext?.spanId;
  process.send?.({ type: 'span', name: span.name, traceId, spanId, parent });
};
const nothing = (): Promise<void> => Promise.resolve();
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());
trace.setGlobalTracerProvider(
  new BasicTracerProvider({
    spanProcessors: [
      { onStart: () => undefined, onEnd: tell, forceFlush: nothing, shutdown: nothing },
    ],
  }),
);

@Injectable()
class Handlers {
  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  @FunctionHandler({ name })
  async work(): Promise<unknown> {
    await pause(5);
    const traceId = trace.getActiveSpan()?.spanContext().traceId;
    return { traceId, next: next === undefined ? undefined : await this.functions.call(next) };
  }
}

@Module({
  imports: [FunctionsModule.forRoot({ connection, keyPrefix, tracing: true })],
  providers: [Handlers],
})
class ProcessModule {}

const app = await NestFactory.createApplicationContext(ProcessModule, { logger: ['error'] });
process.once('disconnect', () => void app.close().then(() => process.exit(0)));
process.send?.({ type: 'ready' });
