import { isRefused } from '../../common/errors.js';
import { parseFunctionId, type Keys } from '../../protocol/keys.js';
import type {
  DeathEvidence,
  FleetStore,
  FleetView,
  HostedWorker,
  Office,
  OfficeLeases,
} from '../fleet-store.js';
import { GRAVE_MS } from '../limits.js';
import { brokenKey, namingBrokenKey } from './key-types.js';
import { connectionName, type RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { ScriptRunner } from './script-runner.js';
import { scripts } from './scripts.js';

/** The fleet in Redis: presence is a subscription, the supervisor's office a lease. */
export class RedisFleetStore implements FleetStore {
  private readonly scripts: ScriptRunner;

  constructor(
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
  ) {
    this.scripts = new ScriptRunner(commands);
  }

  async elect(sessionId: string, { supervisorMs, deputyMs }: OfficeLeases): Promise<Office> {
    const keys = [this.keys.supervisor(), this.keys.deputy(), this.keys.processes()];
    const args = [sessionId, supervisorMs, this.keys.control(''), deputyMs];
    const answer = await this.scripts.run('elect', scripts.elect, keys, args);
    return answer === 2 ? 'supervisor' : answer === 1 ? 'deputy' : 'none';
  }

  async areHeld(): Promise<boolean> {
    const held = await this.commands.command('EXISTS', (client) =>
      client.exists(this.keys.supervisor(), this.keys.deputy()),
    );
    return held === 2;
  }

  async keepDeputy(sessionId: string, leaseMs: number): Promise<boolean> {
    // Whoever holds it: an office that is not this session's gets some more time, and ends all the same.
    const key = this.keys.deputy();
    try {
      const holder = await this.commands.command('GETEX', (client) =>
        client.getex(key, 'PX', leaseMs),
      );
      return holder === sessionId;
    } catch (error) {
      throw await namingBrokenKey(this.commands, [key], error);
    }
  }

  async resign(sessionId: string): Promise<void> {
    const keys = [this.keys.supervisor(), this.keys.deputy()];
    await this.scripts.run('resign', scripts.resign, keys, [sessionId]);
  }

  async isReading(sessionId: string): Promise<boolean | undefined> {
    try {
      const list = await this.commands.command('CLIENT LIST', (client) =>
        client.client('LIST', 'TYPE', 'NORMAL'),
      );
      return String(list).includes(` name=${connectionName('calls', sessionId)} `);
    } catch (error) {
      if (isRefused(error, 'NOPERM')) return undefined;
      throw error;
    }
  }

  async look(
    sessionId: string,
    leaseMs: number,
    withLeases: boolean,
    settled: boolean,
  ): Promise<FleetView | undefined> {
    const answer = await this.scripts.run(
      'look',
      scripts.look,
      [
        this.keys.supervisor(),
        this.keys.processes(),
        this.keys.delayedFunctions(),
        this.keys.deputy(),
        this.keys.unclaimed(),
      ],
      [
        sessionId,
        leaseMs,
        withLeases ? 1 : 0,
        this.keys.control(''),
        ...around(this.keys.lease('\0')),
        settled ? 1 : 0,
      ],
    );
    if (!Array.isArray(answer)) return undefined;
    const [timestamp, sessions, absent, lapsed, due, unclaimed, broken] = answer as [
      string,
      number,
      string[],
      string[],
      string[],
      string[],
      string[],
    ];
    return {
      timestamp: Number(timestamp),
      sessions,
      absent,
      lapsed,
      due: due.flatMap((id) => parseFunctionId(id) ?? []),
      unclaimed: unclaimed.flatMap((id) => parseFunctionId(id) ?? []),
      broken: broken.map(brokenKey),
    };
  }

  async condemn(sessionId: string, evidence: DeathEvidence): Promise<HostedWorker[] | undefined> {
    const answer = await this.scripts.run(
      'condemn',
      scripts.condemn,
      [
        this.keys.lease(sessionId),
        this.keys.hosted(sessionId),
        this.keys.processes(),
        this.keys.inbox(sessionId),
      ],
      [evidence, this.keys.control(sessionId), sessionId],
    );
    if (!Array.isArray(answer)) return undefined;
    return (answer as string[]).flatMap((text) => {
      const worker = parseHosted(text);
      return worker === undefined ? [] : [worker];
    });
  }

  async bury(sessionId: string): Promise<void> {
    await this.commands.command('bury', (client) =>
      client
        .multi()
        .hdel(this.keys.processes(), sessionId)
        .del(this.keys.hosted(sessionId), this.keys.lease(sessionId), this.keys.given(sessionId))
        .set(this.keys.grave(sessionId), '', 'PX', GRAVE_MS)
        .exec(),
    );
  }
}

function parseHosted(text: string): HostedWorker | undefined {
  try {
    const [id, workerId] = JSON.parse(text) as [string, string];
    const ref = parseFunctionId(id);
    return ref === undefined ? undefined : { ref, workerId };
  } catch {
    return undefined;
  }
}
