import { Logger } from '@nestjs/common';
import type { StoredGeneration, WorkflowStore } from '../backend/workflow-store.js';
import { Complaint } from '../common/complaint.js';
import { isRefused } from '../common/errors.js';
import type { FunctionRef } from '../protocol/function-ref.js';

const NEVER_SAVED: StoredGeneration = { generation: 0, details: 'null' };

/**
 * Which generation of each workflow this process has loaded: the one that the registry had when the process first asked,
 * or last began to load it anew. A save while it loads leaves it with the older one, on purpose: it is restarted once
 * more rather than taken for new.
 */
export class LoadedGenerations {
  private readonly known = new Map<string, StoredGeneration>();
  private readonly reads = new Map<string, Promise<StoredGeneration>>();
  private readonly trouble = new Complaint((text) => new Logger('COORDINATOR').warn(text));

  constructor(private readonly store: WorkflowStore) {}

  /** What is loaded; asks the registry the first time. */
  load(workflowId: string): Promise<StoredGeneration> {
    const known = this.known.get(workflowId);
    if (known !== undefined) return Promise.resolve(known);
    let read = this.reads.get(workflowId);
    if (read === undefined) {
      read = this.begin(workflowId).finally(() => this.reads.delete(workflowId));
      this.reads.set(workflowId, read);
    }
    return read;
  }

  async loadAll(functions: readonly FunctionRef[]): Promise<void> {
    const workflows = new Set(functions.map(({ workflowId }) => workflowId));
    await Promise.all([...workflows].map((workflowId) => this.load(workflowId)));
  }

  /** What is loaded; 0 when that was never asked for. */
  of(workflowId: string): number {
    return this.known.get(workflowId)?.generation ?? 0;
  }

  /** It is loaded. */
  note(workflowId: string, loaded: StoredGeneration): void {
    this.known.set(workflowId, loaded);
  }

  /**
   * The generation that is to be loaded now, if whoever loads it succeeds: see {@link note}. A user with older rules may
   * not read it: its workers work, and are of no generation.
   */
  async next(workflowId: string): Promise<StoredGeneration> {
    try {
      return await this.store.current(workflowId);
    } catch (error) {
      if (!isRefused(error, 'NOPERM')) throw error;
      this.trouble.tell(`the generation of workflows is not known here: ${error.message}`);
      return NEVER_SAVED;
    }
  }

  private async begin(workflowId: string): Promise<StoredGeneration> {
    const loaded = await this.next(workflowId);
    // A restart may have loaded another one meanwhile.
    const known = this.known.get(workflowId) ?? loaded;
    this.known.set(workflowId, known);
    return known;
  }
}
