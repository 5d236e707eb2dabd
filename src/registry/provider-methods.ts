import {
  ContextIdFactory,
  type ContextId,
  type DiscoveryService,
  type MetadataScanner,
  type ModuleRef,
} from '@nestjs/core';

/** A provider or controller, as Nest keeps it. */
export type Wrapper = ReturnType<DiscoveryService['getProviders']>[number];

/** A method of a provider or controller. */
export interface ProviderMethod {
  readonly wrapper: Wrapper;
  readonly prototype: object;
  readonly name: string;
  readonly method: (...args: never[]) => unknown;
}

/** All providers and controllers of the application, each once. */
export function wrappersOf(discovery: DiscoveryService): Wrapper[] {
  return [...discovery.getProviders(), ...discovery.getControllers()].filter(
    (wrapper) => !wrapper.isAlias,
  );
}

/** The methods of one of them. */
export function methodsOf(scanner: MetadataScanner, wrapper: Wrapper): ProviderMethod[] {
  const prototype = prototypeOf(wrapper);
  if (prototype === undefined) return [];
  return scanner.getAllMethodNames(prototype).flatMap((name) => {
    const method: unknown = (prototype as Record<string, unknown>)[name];
    if (typeof method !== 'function') return [];
    return [{ wrapper, prototype, name, method: method as ProviderMethod['method'] }];
  });
}

/** Where a method is written, for texts: `Class.method (Module)`. */
export function sourceOf({ wrapper, name }: Pick<ProviderMethod, 'wrapper' | 'name'>): string {
  return `${wrapper.name}.${name} (${wrapper.host?.name ?? 'no module'})`;
}

/** Whether one instance, which exists by now, serves all calls. */
export function isShared(wrapper: Wrapper): boolean {
  return wrapper.isDependencyTreeStatic() && !wrapper.isTransient;
}

/** A request-scoped or transient host is made for each use, which is its request. */
export async function hostFor(
  moduleRef: ModuleRef,
  { token }: Wrapper,
  request: object,
): Promise<{ host: object; contextId: ContextId }> {
  const contextId = ContextIdFactory.create();
  moduleRef.registerRequestByContextId(request, contextId);
  const host = await moduleRef.resolve<object>(token as never, contextId, { strict: false });
  return { host, contextId };
}

function prototypeOf(wrapper: Wrapper): object | undefined {
  const instance: unknown = wrapper.instance;
  const { metatype } = wrapper;
  if (!isShared(wrapper) && typeof metatype === 'function') {
    return (metatype as { prototype?: object }).prototype;
  }
  if (typeof instance !== 'object' || instance === null) return undefined;
  return (Object.getPrototypeOf(instance) as object | null) ?? undefined;
}
