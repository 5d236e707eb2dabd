import type { Clock } from '../common/clock.js';
import { assertKnownKeys } from '../common/known-keys.js';
import type { HostedFunction } from '../execution/worker/hosted-function.js';
import type { FunctionHandlerOptions } from '../registry/function-handler.decorator.js';
import { definitionOf } from '../registry/handler-registrar.js';
import { InputPipe } from '../registry/input-pipe.js';
import type { AnyStub } from './function-stub.js';

/**
 * What a stub's worker is, as far as it matters. With the `input` class (or `parameters`) of the real handler it
 * refuses what that one would refuse, and with its `retry` policy a failed run is repeated.
 */
export interface StubSettings extends Pick<
  FunctionHandlerOptions,
  'workflowId' | 'input' | 'parameters' | 'concurrency' | 'retry'
> {
  /** Default `stub`. A function that is stubbed again under another one has two workers. */
  readonly workerId?: string;
  /** Whether its worker is not there until `appear()` is called; default `false`. */
  readonly absent?: boolean;
}

const KNOWN: ReadonlySet<string> = new Set<keyof StubSettings>([
  'workflowId',
  'input',
  'parameters',
  'concurrency',
  'retry',
  'workerId',
  'absent',
]);
const DEFAULT_CONCURRENCY = 100;

/**
 * Refuses settings that cannot be used.
 *
 * @throws InvalidArgumentError
 */
export function assertStubSettings(settings: StubSettings): void {
  assertKnownKeys(settings, KNOWN, (key) => `${key} of a stub`);
}

/** The stub as a process hosts it. */
export function hostedStub(stub: AnyStub, clock: Clock): HostedFunction {
  const { ref, handler } = stub;
  const { input, concurrency = DEFAULT_CONCURRENCY, resolvedRetry: retry } = handler;
  const pipe = input === undefined ? undefined : new InputPipe(input, ref.functionName);
  return {
    ref,
    definition: definitionOf(handler, ref.workflowId),
    concurrency,
    retry,
    source: `the stub of ${ref.functionName}`,
    invoke: async (parameters, context) =>
      stub.run(pipe === undefined ? parameters : await pipe.transform(parameters), context, clock),
  };
}
