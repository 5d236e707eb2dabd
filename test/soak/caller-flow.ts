import {
  isFunctionsError,
  type EnhancedFunctionRegistry,
  type WorkflowNotifier,
} from '../../src/index.js';
import type { Random } from '../harness/random.js';
import type { RecordedCalls } from './caller-calls.js';
import { PATIENT_MS } from './caller-kinds.js';
import type { HistoryLog } from './history.js';
import { STORM } from './plan.js';

const GROUP_SIZE = 4;

/** What the storm tells a caller to do with the workflow. */
export interface RestartOrder {
  readonly type: 'restart-workflow';
  readonly id: string;
  /** Saves it first, as this version. */
  readonly version?: number;
  readonly only: 'all' | 'outdated';
  readonly maxUnavailable: number;
  readonly isLast: boolean;
}

/** A caller's part in the workflow: it calls it in groups, saves it, and leads its restarts. */
export class FlowCaller {
  private readonly restarts = new Set<Promise<void>>();

  constructor(
    private readonly registry: EnhancedFunctionRegistry,
    private readonly workflows: WorkflowNotifier,
    private readonly calls: RecordedCalls,
    private readonly history: HistoryLog,
    private readonly random: Random,
  ) {}

  /** Calls that are bound to the save that holds now, one after the other. */
  async callGroup(): Promise<void> {
    const movesOn = this.random.below(3) === 0;
    const options = { generation: movesOn ? 'latest' : 'pinned' } as const;
    const group = await this.registry.atGeneration('flow', options).catch(() => undefined);
    // Redis is away.
    if (group === undefined) return;
    const { generation } = group;
    const answers: { bound: number; generation: number; version: number | null }[] = [];
    for (let n = 0; n < GROUP_SIZE; n += 1) {
      const fn = n % 2 === 0 ? 'plan' : 'render';
      const plan = { kind: 'bound', fn, ms: this.random.below(60), impatient: true };
      const before = group.generation;
      // A group names the workflow itself.
      const answer = await this.calls.make(
        { ...plan, options: { readinessTimeoutMs: PATIENT_MS } },
        (name, parameters, callOptions) => group.call(name, parameters, callOptions),
        () => Number(group.generation !== before),
      );
      if (answer === undefined) break;
      const { generation: ran = -1, version = null } = answer;
      answers.push({ bound: group.generation, generation: ran, version });
    }
    this.history.note({ e: 'group', generation, movesOn, answers });
  }

  /** Carries an order out; says so to the storm when it is over. */
  lead(order: RestartOrder): void {
    const restart = this.saveAndRestart(order).finally(() => this.restarts.delete(restart));
    this.restarts.add(restart);
  }

  /** Resolves when this process leads nothing. */
  async settled(): Promise<void> {
    await Promise.all(this.restarts);
  }

  private async saveAndRestart(order: RestartOrder): Promise<void> {
    const { id, version, only, maxUnavailable, isLast } = order;
    let code: string | undefined;
    try {
      if (version !== undefined) {
        const { generation } = await this.workflows.notifySaved('flow', { version });
        this.history.note({ e: 'saved', generation, version, isLast });
      }
      code = await this.restart(id, only, maxUnavailable);
    } catch (error) {
      code = codeOf(error);
    }
    if (process.connected) process.send?.({ type: `restarted-${id}`, code });
  }

  private async restart(
    id: string,
    only: RestartOrder['only'],
    maxUnavailable: number,
  ): Promise<string | undefined> {
    this.history.note({ e: 'restart', id });
    const { restartTimeoutMs: timeoutMs } = STORM;
    const code = await this.registry
      .coordinateRestart('flow', { only, maxUnavailable, timeoutMs })
      .then(() => undefined, codeOf);
    this.history.note({ e: 'restarted', id, code });
    return code;
  }
}

function codeOf(error: unknown): string {
  return isFunctionsError(error) ? error.code : String(error);
}
