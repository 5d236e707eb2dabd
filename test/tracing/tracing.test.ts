import {
  context,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
} from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base';
import {
  CompositePropagator,
  W3CBaggagePropagator,
  W3CTraceContextPropagator,
} from '@opentelemetry/core';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionError,
  type FunctionContext,
  type FunctionsOptions,
} from '../../src/index.js';
import { pause, systemClock } from '../../src/common/clock.js';
import { encodeCall, joinPayload } from '../../src/protocol/call.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';

jest.setTimeout(60_000);

/** A span of another process. */
interface ToldSpan {
  readonly type: 'span';
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parent: string | undefined;
}

const exporter = new InMemorySpanExporter();
let fleet: Fleet;

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
  propagation.setGlobalPropagator(
    new CompositePropagator({
      propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()],
    }),
  );
});
afterEach(async () => {
  await fleet.close();
  exporter.reset();
});
afterAll(() => {
  trace.disable();
  context.disable();
  propagation.disable();
});

const spans = (): ReadableSpan[] => exporter.getFinishedSpans();
const named = (name: string): ReadableSpan[] => spans().filter((span) => span.name === name);
const one = (name: string): ReadableSpan => {
  const [found, ...others] = named(name);
  if (found === undefined || others.length > 0)
    throw new Error(`${others.length + (found === undefined ? 0 : 1)} spans ${name}`);
  return found;
};

let functions: EnhancedFunctionRegistry;

/** `outer` waits, and calls `inner`; both tell what they see of their context. */
async function start(options: FunctionsOptions): Promise<INestApplicationContext> {
  fleet = new Fleet();
  const seen = (call: FunctionContext): object => ({
    headers: call.headers,
    traceId: trace.getActiveSpan()?.spanContext().traceId,
    baggage: propagation.getActiveBaggage()?.getEntry('tenant')?.value,
  });
  const outer = hosting('outer', async (_, call) => {
    await pause(systemClock, 5);
    return { ...seen(call), inner: await functions.call('inner') };
  });
  const inner = hosting('inner', (_, call) => seen(call));
  const broken = hosting({ name: 'broken', retry: { maxAttempts: 2, backoffMs: 1 } }, () => {
    throw new FunctionError('BROKEN', 'it is broken', { retryable: true });
  });
  await fleet.start({ options, providers: [outer, inner, broken] });
  const caller = await fleet.start({ options: { ...options, worker: false } });
  functions = caller.get(EnhancedFunctionRegistry);
  return caller;
}

/** Runs inside a span of the application's, with baggage. */
function inside<T>(run: () => Promise<T>): Promise<{ result: T; traceId: string }> {
  const span = trace.getTracer('test').startSpan('application');
  const baggage = propagation.createBaggage({ tenant: { value: 'blue' } });
  const within: Context = propagation.setBaggage(trace.setSpan(ROOT_CONTEXT, span), baggage);
  return context.with(within, async () => {
    const result = await run();
    span.end();
    return { result, traceId: span.spanContext().traceId };
  });
}

describe.each(['redis', 'memory'])('with tracing on %s', (kind) => {
  const options = (): FunctionsOptions => ({
    tracing: true,
    ...(kind === 'redis' ? {} : { connection: 'memory://tracing' }),
  });

  it('a call, its run and the functions that it calls are one trace', async () => {
    await start(options());
    const { result, traceId } = await inside(() =>
      functions.call<Record<string, unknown>>('outer', {}, { headers: { a: 'b' } }),
    );
    await eventually('all spans have ended', () => spans().length === 5);
    const sent = one('send outer:default');
    const run = one('process outer:default');
    const innerSent = one('send inner:default');
    const innerRun = one('process inner:default');
    expect(spans().map((span) => span.spanContext().traceId)).toEqual(Array(5).fill(traceId));
    expect(sent.parentSpanContext?.spanId).toBe(one('application').spanContext().spanId);
    expect(run.parentSpanContext?.spanId).toBe(sent.spanContext().spanId);
    expect(innerSent.parentSpanContext?.spanId).toBe(run.spanContext().spanId);
    expect(innerRun.parentSpanContext?.spanId).toBe(innerSent.spanContext().spanId);
    expect([sent.kind, run.kind]).toEqual([SpanKind.PRODUCER, SpanKind.CONSUMER]);
    expect(run.links.map(({ context: { spanId } }) => spanId)).toEqual([sent.spanContext().spanId]);
    // Context and baggage live across the await in the handler, and headers are the caller's alone.
    expect(result).toMatchObject({ headers: { a: 'b' }, traceId, baggage: 'blue' });
    expect(result['inner']).toEqual({ headers: {}, traceId, baggage: 'blue' });
  });

  it('spans have the attributes of the messaging conventions', async () => {
    await start(options());
    await functions.call('inner');
    await eventually('both have ended', () => spans().length === 2);
    const sent = one('send inner:default').attributes;
    const run = one('process inner:default').attributes;
    const common = {
      'messaging.system': 'nestjs_functions',
      'messaging.destination.name': 'inner:default',
      'nestjs_functions.function': 'inner',
      'nestjs_functions.workflow': 'default',
      ...(kind === 'redis' ? { 'server.address': '127.0.0.1' } : {}),
    };
    expect(sent).toMatchObject({
      ...common,
      'messaging.operation.name': 'send',
      'messaging.operation.type': 'send',
    });
    expect(run).toMatchObject({
      ...common,
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.consumer.group.name': 'workers',
      'nestjs_functions.attempt': 1,
    });
    expect(sent['messaging.message.id']).toBe(run['messaging.message.id']);
    expect(named('send inner:default')[0]?.status.code).toBe(SpanStatusCode.UNSET);
  });

  it('errors are recorded where they happened, and a retried run is another child', async () => {
    await start(options());
    await functions.call('broken').catch(() => undefined);
    await eventually('all have ended', () => spans().length === 3);
    const sent = one('send broken:default');
    const runs = named('process broken:default');
    for (const span of [sent, ...runs]) {
      expect(span.status).toEqual({ code: SpanStatusCode.ERROR, message: 'it is broken' });
      expect(span.attributes['error.type']).toBe('BROKEN');
      expect(span.events.map(({ name }) => name)).toEqual(['exception']);
    }
    expect(runs.map((span) => span.attributes['nestjs_functions.attempt'])).toEqual([1, 2]);
    for (const run of runs) expect(run.parentSpanContext?.spanId).toBe(sent.spanContext().spanId);
  });
});

describe('tracing', () => {
  it('goes on in other processes, and to the functions that these call', async () => {
    fleet = new Fleet();
    const env = { REDIS_URL: redisUrl(), KEY_PREFIX: fleet.prefix };
    const processes = [
      TestProcess.start('traced-worker.ts', { ...env, FUNCTION: 'first', NEXT: 'second' }),
      TestProcess.start('traced-worker.ts', { ...env, FUNCTION: 'second' }),
    ];
    try {
      await Promise.all(processes.map((one) => one.message('ready')));
      const caller = await fleet.start({ options: { tracing: true, worker: false } });
      functions = caller.get(EnhancedFunctionRegistry);
      const { result, traceId } = await inside(() => functions.call('first'));
      expect(result).toEqual({ traceId, next: { traceId } });
      const told = (): ToldSpan[] => processes.flatMap((one) => one.all<ToldSpan>('span'));
      await eventually('their spans have ended', () => told().length === 3);
      const [run, sent, innerRun] = ['process first', 'send second', 'process second'].map((name) =>
        told().find((span) => span.name === `${name}:default`),
      );
      expect(told().map((span) => span.traceId)).toEqual([traceId, traceId, traceId]);
      expect([run?.parent, sent?.parent, innerRun?.parent]).toEqual([
        one('send first:default').spanContext().spanId,
        run?.spanId,
        sent?.spanId,
      ]);
    } finally {
      await Promise.all(processes.map((one) => one.destroy()));
    }
  });

  it('travels as a traceparent in the entry, beside the headers', async () => {
    fleet = new Fleet();
    const key = `${fleet.prefix}nf:{look:default}:calls`;
    const look = hosting('look', async () => (await fleet.redis.xrange(key, '-', '+'))[0]?.[1]);
    const app = await fleet.start({ options: { tracing: true }, providers: [look] });
    functions = app.get(EnhancedFunctionRegistry);
    const { result, traceId } = await inside(() =>
      functions.call<string[]>('look', {}, { headers: { a: 'b' } }),
    );
    const parent = one('send look:default').spanContext().spanId;
    expect(result.join(' ')).toContain(
      `"h":{"a":"b"},"t":{"traceparent":"00-${traceId}-${parent}-01"`,
    );
  });

  it('is off unless it is asked for', async () => {
    await start({});
    await inside(() => functions.call('outer'));
    expect(spans().map(({ name }) => name)).toEqual(['application']);
  });

  it('never makes a call too large: it goes untraced', async () => {
    await start({ tracing: true, maxPayloadBytes: 64 });
    await functions.call('inner', { a: 'x'.repeat(30) });
    await eventually('both have ended', () => spans().length === 2);
    const [sent, run] = [one('send inner:default'), one('process inner:default')];
    expect(run.parentSpanContext).toBeUndefined();
    expect(run.spanContext().traceId).not.toBe(sent.spanContext().traceId);
  });

  it.each(['7', '"x"', '[]', '{"traceparent":7}', '{"traceparent":"00-zz"}', 'null'])(
    'runs a call whose trace is foreign all the same: %s',
    async (foreign) => {
      const caller = await start({ tracing: true });
      await functions.call('inner');
      exporter.reset();
      const payload = joinPayload('{}', 'null', undefined).replace(/\}$/, `,"t":${foreign}}`);
      const head = { callId: 'c1', replyTo: '', ttlMs: 60_000, sentAt: undefined } as const;
      const call = encodeCall({ ...head, delivery: 'at-least-once', again: false, payload });
      await fleet.redis.xadd(`${fleet.prefix}nf:{inner:default}:calls`, '*', 'c', call);
      await eventually('it ran', () => named('process inner:default').length === 1);
      expect(one('process inner:default').parentSpanContext).toBeUndefined();
      expect(caller).toBeDefined();
    },
  );
});
