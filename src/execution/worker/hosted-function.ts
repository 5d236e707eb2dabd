import type { FunctionDefinition } from '../../protocol/definition.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { FunctionContext } from './function-context.js';
import type { ResolvedRetryPolicy } from './retry-policy.js';

/** A function that this process can run. */
export interface HostedFunction {
  readonly ref: FunctionRef;
  readonly definition: FunctionDefinition;
  /** Calls of it at once; at most the process's `concurrency` counts. */
  readonly concurrency: number;
  /** When a failed call runs again; never, without one. */
  readonly retry?: ResolvedRetryPolicy | undefined;
  /** Runs the handler with everything Nest puts around it. */
  readonly invoke: (parameters: unknown, context: FunctionContext) => Promise<unknown>;
  /** Where it is written, for errors: `ResizeService.resize`. */
  readonly source: string;
}
