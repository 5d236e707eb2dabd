import type * as otel from '@opentelemetry/api';
import { isFunctionsError } from '../common/errors.js';
import { explainMissing } from '../common/optional-package.js';
import type { Settings } from '../common/settings.js';
import { messageOf } from '../common/text.js';
import type { CallerProbe, CallProbes, FollowedCall, Invoke } from '../execution/call-probes.js';
import { withTrace } from '../protocol/call.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';

type Api = typeof otel;

const TRACER = 'nestjs-functions';
/** The one consumer group of every function. */
const GROUP = 'workers';
/** Further members of a foreign carrier are not looked at. */
const MAX_CARRIER_FIELDS = 32;

/**
 * One trace from a caller through the stream to the handler, and on to the functions that it calls.
 *
 * By the semantic conventions for messaging: a call is a `send` span (PRODUCER), a run a `process` span (CONSUMER),
 * its child, which links to it too. The `send` span lasts until the call is settled, for its caller waits for it, and
 * has the error that the caller got. Context and baggage travel in the payload, beside the headers, as the registered
 * propagator writes them: `traceparent`, `tracestate`, `baggage`.
 */
export class FunctionTracing implements CallerProbe {
  private readonly tracer: otel.Tracer;
  private readonly common: otel.Attributes;

  private constructor(
    private readonly api: Api,
    private readonly settings: Settings,
    address: string,
  ) {
    this.tracer = api.trace.getTracer(TRACER);
    this.common = { 'messaging.system': 'nestjs_functions', ...serverOf(address) };
  }

  /** @throws InvalidOptionsError when there is no OpenTelemetry API */
  static async create(
    settings: Settings,
    address: string,
    probes: CallProbes,
  ): Promise<FunctionTracing> {
    const api = await import('@opentelemetry/api').catch(
      explainMissing('@opentelemetry/api', {
        path: 'tracing',
        value: 'true, without the package @opentelemetry/api',
        allowed: 'true when @opentelemetry/api is installed (npm i @opentelemetry/api)',
      }),
    );
    const tracing = new FunctionTracing(api, settings, address);
    probes.addCaller(tracing);
    probes.wrap = (ref, invoke) => tracing.wrap(ref, invoke);
    return tracing;
  }

  async follow<T>(
    { callId, ref }: FollowedCall,
    payload: string,
    perform: (payload: string) => Promise<T>,
  ): Promise<T> {
    const { context, trace, SpanKind } = this.api;
    const attributes = this.attributesOf('send', ref, callId);
    const span = this.tracer.startSpan(`send ${ref.id}`, { kind: SpanKind.PRODUCER, attributes });
    const inside = trace.setSpan(context.active(), span);
    try {
      return await context.with(inside, () => perform(this.inject(inside, payload)));
    } catch (error) {
      this.fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  }

  sent(): void {
    // Where it is on its way is what its run tells.
  }

  /** Runs a handler in a span of its own, in the context that its caller sent along. */
  private wrap(ref: FunctionRef, invoke: Invoke): Invoke {
    const { context, propagation, trace, ROOT_CONTEXT, SpanKind } = this.api;
    return async (parameters, call) => {
      const parent = propagation.extract(ROOT_CONTEXT, carrierOf(call.trace));
      const creation = trace.getSpanContext(parent);
      const options: otel.SpanOptions = {
        kind: SpanKind.CONSUMER,
        attributes: {
          ...this.attributesOf('process', ref, call.callId),
          'messaging.consumer.group.name': GROUP,
          'nestjs_functions.attempt': call.attempt,
        },
        ...(creation === undefined ? {} : { links: [{ context: creation }] }),
      };
      const span = this.tracer.startSpan(`process ${ref.id}`, options, parent);
      try {
        return await context.with(trace.setSpan(parent, span), () => invoke(parameters, call));
      } catch (error) {
        this.fail(span, error);
        throw error;
      } finally {
        span.end();
      }
    };
  }

  /** A trace must not make a call too large: it goes without, then. */
  private inject(inside: otel.Context, payload: string): string {
    const carrier: Record<string, string> = {};
    this.api.propagation.inject(inside, carrier);
    if (Object.keys(carrier).length === 0) return payload;
    const traced = withTrace(payload, JSON.stringify(carrier));
    const { maxPayloadBytes } = this.settings;
    const fits =
      traced.length * 3 <= maxPayloadBytes || Buffer.byteLength(traced) <= maxPayloadBytes;
    return fits ? traced : payload;
  }

  private attributesOf(
    operation: 'send' | 'process',
    { id, functionName, workflowId }: FunctionRef,
    callId: string,
  ): otel.Attributes {
    return {
      ...this.common,
      'messaging.operation.name': operation,
      'messaging.operation.type': operation,
      'messaging.destination.name': id,
      'messaging.message.id': callId,
      'messaging.client.id': this.settings.workerId,
      'nestjs_functions.function': functionName,
      'nestjs_functions.workflow': workflowId,
    };
  }

  private fail(span: otel.Span, error: unknown): void {
    const message = messageOf(error);
    if (error instanceof Error) span.recordException(error);
    else span.recordException({ name: 'Error', message });
    span.setAttribute('error.type', typeOf(error));
    span.setStatus({ code: this.api.SpanStatusCode.ERROR, message });
  }
}

function typeOf(error: unknown): string {
  if (isFunctionsError(error)) return error.code;
  return error instanceof Error ? error.name : '_OTHER';
}

/** What a caller's tracing sent along; what is no such thing is none: the run begins a trace of its own. */
function carrierOf(trace: unknown): Record<string, string> {
  if (!isRecord(trace)) return {};
  const fields = Object.entries(trace).slice(0, MAX_CARRIER_FIELDS);
  return Object.fromEntries(
    fields.filter((field): field is [string, string] => typeof field[1] === 'string'),
  );
}

function serverOf(address: string): otel.Attributes {
  if (!/^rediss?:/.test(address) || !URL.canParse(address)) return {};
  const { hostname, port } = new URL(address);
  return { 'server.address': hostname, 'server.port': port === '' ? 6_379 : Number(port) };
}
