import { isDeepStrictEqual } from 'node:util';
import type { FunctionContract } from '../registry/function-contract.js';
import { isRecord } from '../protocol/json.js';

/** Some of a value's fields, at any depth. */
export type Subset<T> = T extends readonly unknown[] ? T : { readonly [K in keyof T]?: unknown };

/**
 * Which events are meant: of a function (its name, or its contract), with these fields (at any depth; what is not
 * named may be anything), or those of which a function says `true`. Default: all.
 */
export type Selector<Event> =
  string | FunctionContract<object, unknown> | Subset<Event> | ((event: Event) => boolean);

/** Whether an event is meant. */
export function matches<Event extends object>(
  event: Event,
  selector: Selector<Event> | undefined,
): boolean {
  if (selector === undefined) return true;
  if (typeof selector === 'function') return (selector as (event: Event) => boolean)(event);
  const { functionName, workflowId } = event as { functionName?: string; workflowId?: string };
  if (typeof selector === 'string') return functionName === selector;
  if (!isContract(selector)) return contains(event, selector);
  return (
    functionName === selector.name &&
    (selector.workflowId === undefined || selector.workflowId === workflowId)
  );
}

/** A selector for an error's text. */
export function describeSelector(selector: unknown): string {
  if (selector === undefined) return '';
  if (typeof selector === 'function') return ' of those that the function selects';
  if (typeof selector === 'string') return ` of ${selector}`;
  if (isRecord(selector) && isContract(selector)) return ` of ${selector.name}`;
  return ` with ${JSON.stringify(selector)}`;
}

function isContract(value: object): value is FunctionContract<object, unknown> {
  return (value as { kind?: unknown }).kind === 'function-contract';
}

/** Whether all of `part` is in `whole`; arrays are compared as a whole. */
function contains(whole: unknown, part: unknown): boolean {
  if (!isRecord(part)) return isDeepStrictEqual(whole, part);
  if (typeof whole !== 'object' || whole === null) return false;
  return Object.entries(part).every(([name, value]) =>
    contains((whole as Record<string, unknown>)[name], value),
  );
}
