import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import {
  ApplicationConfig,
  type ContextId,
  DiscoveryService,
  ExternalContextCreator,
  MetadataScanner,
  ModuleRef,
} from '@nestjs/core';
import { isObservable, lastValueFrom } from 'rxjs';
import type { FunctionContext } from '../execution/worker/function-context.js';
import type { HostedFunction } from '../execution/worker/hosted-function.js';
import {
  ARGUMENTS_METADATA,
  argumentsFactory,
  HANDLER_METADATA,
  type HandlerMetadata,
} from './function-handler.decorator.js';
import {
  hostFor,
  isShared,
  methodsOf,
  sourceOf,
  wrappersOf,
  type Wrapper,
} from './provider-methods.js';

/** A decorated method and how to run it. */
export interface FoundHandler {
  readonly metadata: HandlerMetadata;
  readonly source: string;
  readonly invoke: HostedFunction['invoke'];
}

interface DecoratedMethod {
  readonly prototype: object;
  readonly name: string;
  readonly metadata: HandlerMetadata;
}

type Method = (input: unknown, context: FunctionContext) => unknown;
type ExternalCallback = (input: unknown, context: FunctionContext) => Promise<unknown>;

const FILTERS_METADATA = '__exceptionFilters__';
const ENHANCERS_METADATA = ['__guards__', '__interceptors__', '__pipes__', FILTERS_METADATA];
/** By which Nest 11 tells controllers of one name apart, in its cache of handlers' arguments. */
const CONTROLLER_ID = 'CONTROLLER_ID';

/** Reads `@FunctionHandler` off all providers and controllers, and wraps each method as Nest wraps handlers. */
@Injectable()
export class HandlerExplorer {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly contexts: ExternalContextCreator,
    private readonly moduleRef: ModuleRef,
    private readonly config: ApplicationConfig,
  ) {}

  explore(): FoundHandler[] {
    return wrappersOf(this.discovery).flatMap((wrapper) =>
      this.methodsOf(wrapper).map(({ prototype, name, metadata }) => ({
        metadata,
        source: sourceOf({ wrapper, name }),
        invoke: this.isPlain(wrapper, prototype, name, metadata)
          ? plainInvoker(wrapper.instance as object, name)
          : this.invoker(wrapper, prototype, name),
      })),
    );
  }

  /** What is decorated, without anything made of it. */
  metadata(): HandlerMetadata[] {
    return wrappersOf(this.discovery).flatMap((wrapper) =>
      this.methodsOf(wrapper).map(({ metadata }) => metadata),
    );
  }

  private methodsOf(wrapper: Wrapper): DecoratedMethod[] {
    return methodsOf(this.scanner, wrapper).flatMap(({ prototype, name, method }) => {
      const metadata = Reflect.getMetadata(HANDLER_METADATA, method) as HandlerMetadata | undefined;
      if (metadata === undefined) return [];
      identify(wrapper, prototype);
      return [{ prototype, name, metadata }];
    });
  }

  /**
   * Whether Nest would put nothing around the method: then it is invoked as it is. Four promises and their
   * continuations less for each call: a tenth of what a worker spends on a short one.
   */
  private isPlain(
    wrapper: Wrapper,
    prototype: object,
    name: string,
    { input }: HandlerMetadata,
  ): boolean {
    const method = (prototype as Record<string, Method>)[name] as Method;
    return (
      input === undefined &&
      isShared(wrapper) &&
      !hasGlobalEnhancers(this.config) &&
      !ENHANCERS_METADATA.some(
        (key) =>
          Reflect.hasMetadata(key, method) || Reflect.hasMetadata(key, prototype.constructor),
      )
    );
  }

  private invoker(wrapper: Wrapper, prototype: object, name: string): HostedFunction['invoke'] {
    if (isShared(wrapper)) {
      const callback = this.wrap(wrapper.instance as object, prototype, name, wrapper.id);
      return async (parameters, context) => unwrap(await callback(parameters, context));
    }
    return async (parameters, context) => {
      const request = { data: parameters, context };
      const { host, contextId } = await hostFor(this.moduleRef, wrapper, request);
      const callback = this.wrap(host, prototype, name, wrapper.id, contextId);
      return unwrap(await callback(parameters, context));
    };
  }

  private wrap(
    instance: object,
    prototype: object,
    name: string,
    inquirerId: string,
    contextId?: ContextId,
  ): ExternalCallback {
    const method = (instance as Record<string, Method>)[name] as Method;
    return this.contexts.create(
      instance,
      method as (...args: unknown[]) => unknown,
      name,
      ARGUMENTS_METADATA,
      argumentsFactory,
      contextId,
      inquirerId,
      { guards: true, interceptors: true, filters: this.hasFilters(prototype, method) },
      'rpc',
    ) as ExternalCallback;
  }

  /** Without a filter of the application nothing would change but an error line for every failed call. */
  private hasFilters(prototype: object, method: Method): boolean {
    return (
      Reflect.hasMetadata(FILTERS_METADATA, method) ||
      Reflect.hasMetadata(FILTERS_METADATA, prototype.constructor) ||
      this.config.getGlobalFilters().length > 0 ||
      this.config.getGlobalRequestFilters().length > 0
    );
  }
}

/** Guards, interceptors, pipes or filters that apply to every handler. */
function hasGlobalEnhancers(config: ApplicationConfig): boolean {
  return [
    config.getGlobalGuards(),
    config.getGlobalRequestGuards(),
    config.getGlobalInterceptors(),
    config.getGlobalRequestInterceptors(),
    config.getGlobalPipes(),
    config.getGlobalRequestPipes(),
    config.getGlobalFilters(),
    config.getGlobalRequestFilters(),
  ].some((enhancers) => enhancers.length > 0);
}

function plainInvoker(instance: object, name: string): HostedFunction['invoke'] {
  const method = (instance as Record<string, Method>)[name] as Method;
  // A handler that throws at once does so to a caller that expects it.
  return (parameters, context) =>
    Promise.resolve(method.call(instance, parameters, context)).then(lastValue);
}

/**
 * Gives a class of handlers an id of its own, as Nest gives one to each controller: Nest 11 caches what a
 * method's arguments are (our input pipe among it) under the class's name otherwise, so two classes of one name
 * with a method of one name would share the first one's input class. Nest 12 caches by the class itself.
 */
function identify({ metatype }: Wrapper, prototype: object): void {
  const made = metatype as { prototype?: unknown } | null;
  for (const type of [prototype.constructor, made?.prototype === prototype ? made : undefined]) {
    if (typeof type !== 'function' || Object.hasOwn(type, CONTROLLER_ID)) continue;
    // A frozen class keeps its name.
    Reflect.defineProperty(type, CONTROLLER_ID, { value: randomUUID(), configurable: true });
  }
}

/** As Nest does it: an Observable that ends without a value is a failure. */
function lastValue(result: unknown): unknown {
  return isObservable(result) ? lastValueFrom(result) : result;
}

/** An exception filter may answer with an Observable, as for any microservice handler. */
function unwrap(result: unknown): unknown {
  return isObservable(result) ? lastValueFrom(result, { defaultValue: undefined }) : result;
}
