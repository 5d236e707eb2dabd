import { functionName, WORKFLOW } from '../processes/function-name.js';

/** The key of the first function's stream of calls, as docs/architecture.md spells it. */
export function callsKey(keyPrefix: string): string {
  return `${keyPrefix}nf:{${functionName(0)}:${WORKFLOW}}:calls`;
}
