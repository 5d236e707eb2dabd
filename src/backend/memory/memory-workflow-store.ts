import type { Keys } from '../../protocol/keys.js';
import type { WorkflowEventType } from '../../protocol/workflow-event.js';
import type {
  RestartLease,
  RestartOrder,
  StoredGeneration,
  WorkflowStore,
  WorkflowTold,
} from '../workflow-store.js';
import type { MemoryConnection } from './memory-connection.js';
import type { MemorySpace } from './memory-space.js';

/** Workflows in the memory of this process. */
export class MemoryWorkflowStore implements WorkflowStore {
  constructor(
    private readonly connection: MemoryConnection,
    private readonly keys: Keys,
  ) {}

  current(workflowId: string): Promise<StoredGeneration> {
    return this.connection.run(
      ({ saved }) => saved.generations.get(workflowId) ?? { generation: 0, details: 'null' },
    );
  }

  save(workflowId: string, details: string): Promise<WorkflowTold> {
    return this.connection.run((space) => {
      const { saved } = space;
      const generation = Math.max(space.now(), saved.generationOf(workflowId) + 1);
      saved.generations.set(workflowId, { generation, details });
      return this.publish(space, workflowId, 'saved', details);
    });
  }

  tell(
    workflowId: string,
    type: Exclude<WorkflowEventType, 'saved'>,
    details: string,
  ): Promise<WorkflowTold> {
    return this.connection.run((space) => this.publish(space, workflowId, type, details));
  }

  beginRestart(
    workflowId: string,
    lease: RestartLease,
    leaseMs: number,
  ): Promise<RestartLease | undefined> {
    return this.connection.run(({ saved: { restarts } }) => {
      const held = restarts.get(workflowId);
      if (held === undefined) restarts.set(workflowId, lease, leaseMs);
      return held;
    });
  }

  keepRestart(workflowId: string, restartId: string, leaseMs: number): Promise<boolean> {
    return this.connection.run(
      ({ saved }) =>
        saved.leads(workflowId, restartId) && saved.restarts.touch(workflowId, leaseMs),
    );
  }

  leadsRestart(workflowId: string, restartId: string): Promise<boolean> {
    return this.connection.run(({ saved }) => saved.leads(workflowId, restartId));
  }

  endRestart(workflowId: string, restartId: string): Promise<void> {
    return this.connection.run(({ saved }) => {
      if (saved.leads(workflowId, restartId)) saved.restarts.delete(workflowId);
    });
  }

  orderRestart(
    workflowId: string,
    { restartId, sessionId, replyTo }: RestartOrder,
  ): Promise<boolean> {
    return this.connection.run(({ saved }) => {
      if (!saved.leads(workflowId, restartId)) return false;
      const data = { type: 'restart', restartId, workflowId, replyTo };
      const packet = JSON.stringify({ pattern: 'control', data });
      this.connection.server.pubsub.publish(this.keys.control(sessionId), packet);
      return true;
    });
  }

  private publish(
    space: MemorySpace,
    workflowId: string,
    type: WorkflowEventType,
    details: string,
  ): WorkflowTold {
    const told = {
      generation: space.saved.generationOf(workflowId),
      timestamp: space.now(),
    };
    const channel = this.keys.workflowChannel(type, workflowId);
    const data = { type, workflowId, ...told, details: JSON.parse(details) as unknown };
    this.connection.server.pubsub.publish(channel, JSON.stringify({ pattern: channel, data }));
    return told;
  }
}
