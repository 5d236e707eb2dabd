import type { EnhancedFunctionRegistry } from '../../src/index.js';

/** What the calls of one group came to. */
export interface SeenGroup {
  readonly generation: number;
  /** What those that were answered say of the version that answered. */
  readonly versions: readonly unknown[];
  /** Codes of those that failed. */
  readonly failures: readonly string[];
}

/** Calls `a` and `b` of the workflow `flow` in groups, one after the other, until it is ended. */
export function callInGroups(registry: EnhancedFunctionRegistry): {
  readonly seen: readonly SeenGroup[];
  end(): Promise<void>;
} {
  const seen: SeenGroup[] = [];
  let ended = false;
  const calling = (async () => {
    while (!ended) {
      const group = await registry.atGeneration('flow');
      const { generation } = group;
      const results = await Promise.allSettled(
        ['a', 'b', 'a', 'b'].map((name) =>
          group.call<{ version: unknown }>(name, {}, { readinessTimeoutMs: 60_000 }),
        ),
      );
      const versions = results.flatMap((one) =>
        one.status === 'fulfilled' ? [one.value.version] : [],
      );
      const failures = results.flatMap((one) =>
        one.status === 'rejected' ? [String((one.reason as { code?: string }).code)] : [],
      );
      seen.push({ generation, versions, failures });
    }
  })();
  return {
    seen,
    end: async () => {
      ended = true;
      await calling;
    },
  };
}
