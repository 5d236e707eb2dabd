import { InvalidArgumentError } from '../common/errors.js';
import { assertKnownKeys } from '../common/known-keys.js';
import type { Settings } from '../common/settings.js';
import { show } from '../common/text.js';
import { functionRef, type FunctionRef } from '../protocol/function-ref.js';
import { isRecord } from '../protocol/json.js';

/** What to listen to. */
export interface MetricsFilter {
  /** One function; default all functions. */
  readonly functionName?: string | undefined;
  /** Its workflow; default the module's `workflowId`. */
  readonly workflowId?: string | undefined;
}

/** How long {@link FunctionsMetrics.snapshot} looks. */
export interface SnapshotOptions extends MetricsFilter {
  /** Milliseconds from 0 to 60 000; default 2 200: everybody has reported twice then, and there are rates. */
  readonly measureMs?: number | undefined;
}

const DEFAULT_MEASURE_MS = 2_200;
const MAX_MEASURE_MS = 60_000;
const FILTER_FIELDS: ReadonlySet<string> = new Set<keyof MetricsFilter>([
  'functionName',
  'workflowId',
]);
export const SNAPSHOT_FIELDS: ReadonlySet<string> = new Set([...FILTER_FIELDS, 'measureMs']);

/**
 * The function that is meant; none: all of them.
 *
 * @throws InvalidArgumentError, InvalidNameError
 */
export function resolveFilter(
  name: string,
  filter: MetricsFilter,
  settings: Pick<Settings, 'workflowId'>,
  fields = FILTER_FIELDS,
): FunctionRef | undefined {
  if (!isRecord(filter)) throw new InvalidArgumentError(name, show(filter), 'an object, or none');
  assertKnownKeys(filter, fields, (key) => `${name}.${key}`);
  const { functionName, workflowId } = filter as MetricsFilter;
  if (functionName !== undefined)
    return functionRef(functionName, workflowId ?? settings.workflowId);
  if (workflowId === undefined) return undefined;
  throw new InvalidArgumentError(
    'functionName',
    `missing beside workflowId ${show(workflowId)}`,
    "the function's name; without both, all functions",
  );
}

/** @throws InvalidArgumentError */
export function resolveMeasureMs({ measureMs = DEFAULT_MEASURE_MS }: SnapshotOptions): number {
  if (Number.isInteger(measureMs) && measureMs >= 0 && measureMs <= MAX_MEASURE_MS)
    return measureMs;
  throw new InvalidArgumentError(
    'measureMs',
    show(measureMs),
    `whole milliseconds from 0 to ${MAX_MEASURE_MS}`,
  );
}
