import { oneLine } from '../common/text.js';
import type { FunctionDefinition } from '../protocol/definition.js';

/** Why a function has no worker although this very process has its handler. */
export const REGISTERS_LATER =
  'this process hosts it, and registers its functions only when the application is up: a call in onModuleInit or ' +
  'onApplicationBootstrap cannot wait for it';

const NAMED_WORKERS = 5;

/** Why nobody can take a call of a function, for errors. */
export function situationOf(
  workers: readonly {
    readonly workerId: string;
    readonly status: string;
    readonly reason?: string | undefined;
  }[],
  definition: FunctionDefinition | undefined,
): string {
  if (workers.length > 0) {
    const states = workers
      .slice(0, NAMED_WORKERS)
      .map(({ workerId, status, reason }) =>
        oneLine(`${workerId} is ${status}${reason === undefined ? '' : ` (${reason})`}`),
      );
    const more = workers.length - states.length;
    return `${states.join(', ')}${more > 0 ? `, and ${more} more` : ''}`;
  }
  return definition === undefined
    ? 'no worker ever registered a function of this name in this workflow'
    : 'it is registered, and no worker is there now';
}
