import type { Keys } from '../../protocol/keys.js';
import type { WorkflowEventType } from '../../protocol/workflow-event.js';
import type {
  RestartLease,
  RestartLegacy,
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
    return this.connection.run(({ saved: { restarts }, sessions: { leases } }) => {
      const held = restarts.get(workflowId);
      if (held !== undefined) {
        const { restartId, holder, session, rest } = held;
        const lives = rest !== undefined || session === '' || leases.has(session);
        if (lives) return { restartId, holder, session };
      }
      restarts.set(workflowId, lease, leaseMs);
      return undefined;
    });
  }

  keepRestart(workflowId: string, restartId: string, leaseMs: number): Promise<boolean> {
    return this.connection.run(
      ({ saved }) =>
        saved.leads(workflowId, restartId) && saved.restarts.touch(workflowId, leaseMs),
    );
  }

  leaveRestart(
    workflowId: string,
    { restartId, rest, sessions }: RestartLegacy,
    forMs: number,
  ): Promise<boolean> {
    return this.connection.run(({ saved }) => {
      const held = saved.restarts.get(workflowId);
      if (held === undefined || !saved.leads(workflowId, restartId)) return false;
      saved.restarts.set(workflowId, { ...held, session: '', rest }, forMs);
      for (const session of sessions)
        this.tellSession(session, { type: 'restart-left', workflowId });
      return true;
    });
  }

  takeRestart(
    workflowId: string,
    taker: Omit<RestartLease, 'restartId'>,
    leaseMs: number,
  ): Promise<Omit<RestartLegacy, 'sessions'> | undefined> {
    return this.connection.run(({ saved: { restarts } }) => {
      const held = restarts.get(workflowId);
      if (held?.rest === undefined) return undefined;
      const { restartId, rest } = held;
      restarts.set(workflowId, { restartId, ...taker }, leaseMs);
      return { restartId, rest };
    });
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
      this.tellSession(sessionId, { type: 'restart', restartId, workflowId, replyTo });
      return true;
    });
  }

  private tellSession(sessionId: string, data: Record<string, unknown>): void {
    const packet = JSON.stringify({ pattern: 'control', data });
    this.connection.server.pubsub.publish(this.keys.control(sessionId), packet);
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
