import { decodeJson, isRecord } from '../../protocol/json.js';
import type { Keys } from '../../protocol/keys.js';
import { isGeneration, type WorkflowEventType } from '../../protocol/workflow-event.js';
import type {
  RestartLease,
  RestartLegacy,
  RestartOrder,
  StoredGeneration,
  WorkflowStore,
  WorkflowTold,
} from '../workflow-store.js';
import { namingBrokenKey } from './key-types.js';
import type { RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { ScriptRunner } from './script-runner.js';
import { scripts } from './scripts.js';
import type { UntoldNews } from './untold-news.js';

/** Workflows in Redis: the last save as a hash, the lead of a restart as a key with a time to live. */
export class RedisWorkflowStore implements WorkflowStore {
  private readonly scripts: ScriptRunner;
  private readonly leaseParts: readonly [string, string];

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
    private readonly untold: UntoldNews,
  ) {
    this.scripts = new ScriptRunner(commands);
    this.leaseParts = around(keys.lease('\0'));
  }

  async current(workflowId: string): Promise<StoredGeneration> {
    const key = this.keys.generation(workflowId);
    try {
      const [generation, details] = await this.commands.command('generation', (client) =>
        client.hmget(key, 'generation', 'details'),
      );
      const known = Number(generation ?? 0);
      // What somebody else has written in its place is no save.
      return { generation: isGeneration(known) ? known : 0, details: details ?? 'null' };
    } catch (error) {
      throw await namingBrokenKey(this.commands, [key], error);
    }
  }

  save(workflowId: string, details: string): Promise<WorkflowTold> {
    return this.tellAs(workflowId, 'saved', details);
  }

  tell(
    workflowId: string,
    type: Exclude<WorkflowEventType, 'saved'>,
    details: string,
  ): Promise<WorkflowTold> {
    return this.tellAs(workflowId, type, details);
  }

  async beginRestart(
    workflowId: string,
    lease: RestartLease,
    leaseMs: number,
  ): Promise<RestartLease | undefined> {
    const keys = [this.keys.restart(workflowId)];
    const args = [JSON.stringify(lease), leaseMs, ...this.leaseParts];
    const held = await this.scripts.run('restart', scripts.restartBegin, keys, args);
    return typeof held === 'string' ? parseLease(held) : undefined;
  }

  async keepRestart(workflowId: string, restartId: string, leaseMs: number): Promise<boolean> {
    return (await this.keepOrEnd(workflowId, restartId, leaseMs)) === 1;
  }

  async leaveRestart(
    workflowId: string,
    { restartId, rest, sessions }: RestartLegacy,
    forMs: number,
  ): Promise<boolean> {
    const keys = [this.keys.restart(workflowId)];
    const channels = sessions.map((session) => this.keys.control(session));
    const args = [restartId, rest, forMs, workflowId, ...channels];
    return (await this.scripts.run('restart', scripts.restartLeave, keys, args)) === 1;
  }

  async takeRestart(
    workflowId: string,
    { holder, session }: Omit<RestartLease, 'restartId'>,
    leaseMs: number,
  ): Promise<Omit<RestartLegacy, 'sessions'> | undefined> {
    // Nearly always there is none, and a worker may have no right to more than the look.
    if (!(await this.readLease(workflowId, isLeft))) return undefined;
    const keys = [this.keys.restart(workflowId)];
    const args = [holder, session, leaseMs];
    const taken = await this.scripts.run('restart', scripts.restartTake, keys, args);
    if (taken === null) return undefined;
    const [restartId, rest] = taken as [string, string];
    return { restartId, rest };
  }

  leadsRestart(workflowId: string, restartId: string): Promise<boolean> {
    return this.readLease(
      workflowId,
      (held) => parseLease(held).restartId === restartId && !isLeft(held),
    );
  }

  async endRestart(workflowId: string, restartId: string): Promise<void> {
    await this.keepOrEnd(workflowId, restartId, 0);
  }

  async orderRestart(
    workflowId: string,
    { restartId, sessionId, replyTo }: RestartOrder,
  ): Promise<boolean> {
    const keys = [this.keys.restart(workflowId)];
    const args = [restartId, this.keys.control(sessionId), workflowId, replyTo];
    return (await this.scripts.run('restart', scripts.restartOrder, keys, args)) === 1;
  }

  /** Whether it is so with the lease, where there is one. */
  private async readLease(workflowId: string, isSo: (held: string) => boolean): Promise<boolean> {
    const key = this.keys.restart(workflowId);
    try {
      const held = await this.commands.command('restart', (client) => client.get(key));
      return held !== null && isSo(held);
    } catch (error) {
      throw await namingBrokenKey(this.commands, [key], error);
    }
  }

  private keepOrEnd(workflowId: string, restartId: string, leaseMs: number): Promise<unknown> {
    const keys = [this.keys.restart(workflowId)];
    return this.scripts.run('restart', scripts.restartKeep, keys, [restartId, leaseMs]);
  }

  private async tellAs(
    workflowId: string,
    type: WorkflowEventType,
    details: string,
  ): Promise<WorkflowTold> {
    const channel = this.keys.workflowChannel(type, workflowId);
    const [generation, timestamp, untold] = (await this.scripts.run(
      `notify ${type}`,
      scripts.workflowTell,
      [this.keys.generation(workflowId)],
      [workflowId, type, channel, details],
    )) as [string, string, string];
    this.untold.note(untold);
    return { generation: Number(generation), timestamp: Number(timestamp) };
  }
}

/** A lease that cannot be read is somebody's all the same. */
function parseLease(text: string): RestartLease {
  const lease = decodeLease(text);
  if (lease === undefined) return { restartId: '', holder: 'unknown', session: '' };
  const { restartId, holder, session = '' } = lease;
  return { restartId: String(restartId), holder: String(holder), session: String(session) };
}

/** Whether the lead was left to whoever takes it. */
function isLeft(text: string): boolean {
  return typeof decodeLease(text)?.['rest'] === 'string';
}

function decodeLease(text: string): Record<string, unknown> | undefined {
  try {
    const lease = decodeJson(text);
    return isRecord(lease) ? lease : undefined;
  } catch {
    // Written by somebody else.
    return undefined;
  }
}
