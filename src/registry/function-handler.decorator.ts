import 'reflect-metadata';
import { InvalidArgumentError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import type { FunctionContext } from '../execution/worker/function-context.js';
import {
  resolveRetry,
  type ResolvedRetryPolicy,
  type RetryPolicy,
} from '../execution/worker/retry-policy.js';
import { assertKnownDefinition, type ParameterDefinition } from '../protocol/definition.js';
import { isRecord } from '../protocol/json.js';
import type { FunctionContract } from './function-contract.js';
import { assertInputClass, type InputClass } from './input-class.js';
import { InputPipe } from './input-pipe.js';

/** Metadata on a method: what function it handles. */
export const HANDLER_METADATA = 'nestjs-functions:handler';
/** Metadata by which Nest finds the arguments that pipes apply to. */
export const ARGUMENTS_METADATA = 'nestjs-functions:arguments';

/**
 * Nest's mark of a provider that calls enter through, as of a controller (GraphQL's resolvers carry it too).
 * Without it a request-scoped or transient global guard would not apply to the handlers of a provider.
 */
const ENTRY_PROVIDER_METADATA = '__entryProvider__';

/** What is written beside a handler. */
export interface HandlerSettings {
  /** For people, in `getAvailableFunctions`. */
  readonly description?: string;
  /** What it takes; default: derived from `input`, else unchecked. */
  readonly parameters?: readonly ParameterDefinition[];
  /** Calls of it that one process runs at once; default and upper bound: the module's `concurrency`. */
  readonly concurrency?: number;
  /** When a call whose handler failed runs again; default: never, its caller gets the error. */
  readonly retry?: RetryPolicy;
}

/** The options of {@link FunctionHandler}. */
export interface FunctionHandlerOptions<Input extends object = object> extends HandlerSettings {
  readonly name: string;
  /** Default: the module's `workflowId`. */
  readonly workflowId?: string;
  /** A class-validator DTO; parameters become an instance of it, and are refused when it does not fit. */
  readonly input?: InputClass<Input>;
}

/** What a handler is known by, as the explorer reads it. */
export interface HandlerMetadata extends HandlerSettings {
  readonly name: string;
  readonly workflowId: string | undefined;
  readonly input: InputClass | undefined;
  readonly resolvedRetry: ResolvedRetryPolicy | undefined;
}

type Handler<Input, Output> = (input: Input, context: FunctionContext) => Output;
type HandlerDecorator<Input, Output> = <T extends Handler<Input, Output>>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<T>,
) => void;

/**
 * Makes a method of any provider or controller the handler of a function. Pipes, guards, interceptors and
 * exception filters apply to it as to any Nest handler; their context type is `rpc`.
 *
 * @throws InvalidNameError, InvalidArgumentError when the class is defined
 * @example
 * ```ts
 * @FunctionHandler({ name: 'resize', workflowId: 'media', input: ResizeInput, concurrency: 8 })
 * resize(input: ResizeInput, context: FunctionContext): Promise<ResizeResult> { ... }
 * ```
 */
export function FunctionHandler<Input extends object, Output>(
  contract: FunctionContract<Input, Output>,
  settings?: HandlerSettings & { readonly input?: InputClass<Input> },
): HandlerDecorator<Input, Output | Promise<Output>>;
export function FunctionHandler<Input extends object>(
  options: FunctionHandlerOptions<Input> & { readonly input: InputClass<Input> },
): HandlerDecorator<Input, unknown>;
export function FunctionHandler(options: FunctionHandlerOptions): HandlerDecorator<never, unknown>;
export function FunctionHandler(
  options: FunctionHandlerOptions | FunctionContract<object, unknown>,
  settings: HandlerSettings & { readonly input?: InputClass } = {},
): MethodDecorator {
  const metadata = checkedHandler(merged(options, settings));
  return (target, key, descriptor: PropertyDescriptor | undefined) => {
    if (descriptor === undefined) {
      throw new InvalidArgumentError(
        '@FunctionHandler',
        'compiled as a standard decorator',
        '"experimentalDecorators": true in tsconfig.json, with "emitDecoratorMetadata", as all of NestJS needs',
      );
    }
    const method: unknown = descriptor.value;
    if (typeof method !== 'function') {
      throw new InvalidArgumentError(
        '@FunctionHandler',
        `on ${String(key)}, which is no method`,
        'a method',
      );
    }
    Reflect.defineMetadata(HANDLER_METADATA, metadata, method);
    Reflect.defineMetadata(ENTRY_PROVIDER_METADATA, true, target.constructor);
    Reflect.defineMetadata(
      ARGUMENTS_METADATA,
      argumentsMetadata(metadata),
      target.constructor,
      key,
    );
  };
}

const OPTIONS: ReadonlySet<string> = new Set<keyof FunctionHandlerOptions>([
  'name',
  'workflowId',
  'input',
  'description',
  'parameters',
  'concurrency',
  'retry',
]);
const SETTINGS: ReadonlySet<string> = new Set(
  [...OPTIONS].filter((name) => name !== 'name' && name !== 'workflowId'),
);
const CONTRACT: ReadonlySet<string> = new Set(['kind', 'circuit', ...OPTIONS]);

function merged(options: unknown, settings: unknown): FunctionHandlerOptions {
  if (!isRecord(options)) {
    const name = typeof options === 'string' && options !== '' ? options : 'resize';
    throw new InvalidArgumentError(
      'The argument of @FunctionHandler',
      show(options),
      `{ name: '${name}' }, or a contract of defineFunction()`,
    );
  }
  if (!isRecord(settings)) {
    throw new InvalidArgumentError(
      'The second argument of @FunctionHandler',
      show(settings),
      'an object such as { input: ResizeInput, concurrency: 8 }',
    );
  }
  const isContract = options['kind'] === 'function-contract';
  const where = typeof options['name'] === 'string' ? options['name'] : '@FunctionHandler';
  assertKnownKeys(options, isContract ? CONTRACT : OPTIONS, (key) => `${key} of ${where}`);
  assertKnownKeys(settings, SETTINGS, (key) => `${key} of ${where}`);
  return { ...options, ...settings } as unknown as FunctionHandlerOptions;
}

/**
 * The options of a handler, if they can be used.
 *
 * @throws InvalidNameError, InvalidArgumentError
 */
export function checkedHandler(options: FunctionHandlerOptions): HandlerMetadata {
  const { name, workflowId, input, concurrency, parameters, description } = options;
  assertKnownDefinition({
    name,
    workflowId: workflowId ?? 'default',
    ...(description === undefined ? {} : { description }),
    ...(parameters === undefined ? {} : { parameters }),
  });
  if (concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 1)) {
    throw new InvalidArgumentError(
      `concurrency of ${name}`,
      show(concurrency),
      'a whole number, 1 or more',
    );
  }
  if (input !== undefined) assertInputClass(name, input);
  return { ...options, workflowId, input, resolvedRetry: resolveRetry(name, options.retry) };
}

/** Nest's number for a request body: the pipes see the input as one, and the context as something of its own. */
const BODY = 3;
const OTHER = 99;

function argumentsMetadata({ input, name }: HandlerMetadata): Record<string, unknown> {
  return {
    [`${BODY}:0`]: {
      index: 0,
      data: undefined,
      pipes: input === undefined ? [] : [new InputPipe(input, name)],
    },
    [`${OTHER}:1`]: { index: 1, data: undefined, pipes: [] },
  };
}

/** Tells Nest which argument stands where. */
export const argumentsFactory = {
  exchangeKeyForValue(type: number, _data: unknown, args: unknown[]): unknown {
    return type === BODY ? args[0] : args[1];
  },
};
