import type { WorkerStore } from '../backend/worker-store.js';
import type { FunctionRef } from '../protocol/function-ref.js';
import type { WorkerRecord } from '../protocol/worker-record.js';

/** A process that hosts functions of a workflow, and its workers of it. */
export interface HostProcess {
  readonly processId: string;
  readonly workers: readonly { readonly ref: FunctionRef; readonly record: HostedLife }[];
}

/** One life of a worker, and which save it has loaded. */
export type HostedLife = Pick<WorkerRecord, 'workerId' | 'epoch' | 'generation'>;

/** Who works for a workflow, by the registry, at one moment per function. */
export class WorkflowSurvey {
  private constructor(
    private readonly found: readonly {
      readonly ref: FunctionRef;
      readonly records: readonly WorkerRecord[];
    }[],
  ) {}

  static async take(store: WorkerStore, workflowId: string): Promise<WorkflowSurvey> {
    const refs = await store.functions(workflowId);
    const found = await Promise.all(
      refs.map(async (ref) => ({ ref, records: (await store.snapshot(ref)).workers })),
    );
    return new WorkflowSurvey(found);
  }

  /** Workers of a function whose process lives. */
  recordsOf(ref: FunctionRef): readonly WorkerRecord[] {
    return this.found.find((one) => one.ref.id === ref.id)?.records ?? [];
  }

  /** Those of them that take calls. */
  healthyOf(ref: FunctionRef): number {
    return this.recordsOf(ref).filter(({ status }) => status === 'ready').length;
  }

  /** The processes, in the order of their ids. */
  processes(): HostProcess[] {
    const byId = new Map<string, { ref: FunctionRef; record: WorkerRecord }[]>();
    for (const { ref, records } of this.found)
      for (const record of records)
        byId.set(record.processId, [...(byId.get(record.processId) ?? []), { ref, record }]);
    return [...byId]
      .map(([processId, workers]) => ({ processId, workers }))
      .sort((one, other) => (one.processId < other.processId ? -1 : 1));
  }

  /** Functions that these processes host, and nobody else. */
  hostedOnlyBy(process: HostProcess): FunctionRef[] {
    return functionsOf(process).filter((ref) =>
      this.recordsOf(ref).every(({ processId }) => processId === process.processId),
    );
  }
}

/** The functions of a process, each once. */
export function functionsOf({ workers }: HostProcess): FunctionRef[] {
  return [...new Map(workers.map(({ ref }) => [ref.id, ref])).values()];
}
