import type { Clock } from '../../common/clock.js';
import type { RestartLease, StoredGeneration } from '../workflow-store.js';
import { ExpiringMap } from './expiring-map.js';

/** A lead of a restart, or one that was left, with what is still to be done. */
export interface HeldRestart extends RestartLease {
  readonly rest?: string | undefined;
}

/** What is kept of workflows as a whole. */
export class SavedWorkflows {
  readonly generations = new Map<string, StoredGeneration>();
  /** Who leads a restart, or has left it. */
  readonly restarts: ExpiringMap<HeldRestart>;

  constructor(clock: Clock) {
    this.restarts = new ExpiringMap(clock);
  }

  generationOf(workflowId: string): number {
    return this.generations.get(workflowId)?.generation ?? 0;
  }

  /** A generation that was forgotten comes back with who has loaded it. */
  bringBack(workflowId: string, generation: number): void {
    if (generation > this.generationOf(workflowId))
      this.generations.set(workflowId, { generation, details: 'null' });
  }

  leads(workflowId: string, restartId: string): boolean {
    const held = this.restarts.get(workflowId);
    return held?.restartId === restartId && held.rest === undefined;
  }
}
