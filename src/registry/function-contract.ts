import { assertCircuitPolicy, type CircuitPolicy } from '../circuit/circuit-options.js';
import { InvalidArgumentError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import { show } from '../common/text.js';
import { functionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';

const CONTRACT_FIELDS: ReadonlySet<string> = new Set(['name', 'workflowId', 'circuit']);

declare const types: unique symbol;

/** A function that caller and worker agree on; see {@link defineFunction}. */
export interface FunctionContract<Input, Output> {
  readonly kind: 'function-contract';
  readonly name: string;
  /** Absent: the module's `workflowId`. */
  readonly workflowId: string | undefined;
  /** Whether calls go through a circuit that all callers share, and when it opens; absent: as the module says. */
  readonly circuit?: boolean | CircuitPolicy | undefined;
  /** Carries the types; never there at run time. */
  readonly [types]?: { readonly input: Input; readonly output: Output };
}

/**
 * A contract that both sides share: a call, and a handler, of the wrong shape do not compile.
 *
 * @throws InvalidNameError, InvalidArgumentError
 * @example
 * ```ts
 * export const resize = defineFunction<{ url: string; width: number }, { url: string }>({ name: 'resize', workflowId: 'media' });
 *
 * @FunctionHandler(resize)
 * resize(input: { url: string; width: number }): { url: string } { ... }          // worker
 *
 * const { url } = await registry.call(resize, { url: 'https://...', width: 80 });  // caller
 * ```
 */
export function defineFunction<Input extends object, Output = unknown>(contract: {
  readonly name: string;
  readonly workflowId?: string;
  readonly circuit?: boolean | CircuitPolicy;
}): FunctionContract<Input, Output> {
  if (!isRecord(contract)) {
    throw new InvalidArgumentError(
      'The argument of defineFunction',
      show(contract),
      "{ name: 'resize', workflowId: 'media' }",
    );
  }
  assertKnownKeys(contract, CONTRACT_FIELDS, (key) => `${key} of defineFunction`);
  functionRef(contract.name, contract.workflowId ?? 'default');
  assertCircuitPolicy(contract.name, contract.circuit);
  return Object.freeze({
    kind: 'function-contract',
    name: contract.name,
    workflowId: contract.workflowId,
    ...(contract.circuit === undefined ? {} : { circuit: contract.circuit }),
  });
}
