import type {
  BacklogBottleneck,
  SlowWorkerBottleneck,
  StarvedCallerBottleneck,
} from '../protocol/bottleneck.js';
import type { FunctionRef } from '../protocol/function-ref.js';

type Found<B> = { readonly ref: FunctionRef } & Omit<
  B,
  'type' | 'version' | 'functionName' | 'workflowId' | 'since' | 'timestamp' | 'detectedBy'
>;

/** What the detector found; who publishes it adds when, and who it is. */
export type BottleneckFinding =
  Found<BacklogBottleneck> | Found<SlowWorkerBottleneck> | Found<StarvedCallerBottleneck>;

type Unplaced<F> = F extends BottleneckFinding ? Omit<F, 'state' | 'ref'> : never;

/** What was found, before it is said of which function, and how it changed. */
export type Finding = Unplaced<BottleneckFinding>;

/** Names one bottleneck among all. */
export function findingKey(finding: BottleneckFinding): string {
  const place = finding.kind === 'backlog' ? '' : finding.processId;
  return `${finding.kind} ${finding.ref.id} ${place}`;
}
