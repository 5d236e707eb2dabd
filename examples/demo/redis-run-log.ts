import { setTimeout as pause } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { noteRun, type Run, type RunLog } from './run-log.js';

/** A Redis that went away is not cleaned. */
const CLEAN_LIMIT_MS = 1_000;

/** The runs in a Redis list: what survives a worker that is killed. */
export class RedisRunLog implements RunLog {
  private readonly client: Redis;

  constructor(
    url: string,
    private readonly key: string,
  ) {
    this.client = new Redis(url);
    // A lost connection shows in the commands that fail.
    this.client.on('error', () => undefined);
  }

  async add(run: Run): Promise<void> {
    await this.client.rpush(this.key, JSON.stringify(run));
  }

  async byCall(): Promise<Map<number, Run[]>> {
    const byCall = new Map<number, Run[]>();
    for (const text of await this.client.lrange(this.key, 0, -1))
      noteRun(byCall, JSON.parse(text) as Run);
    return byCall;
  }

  /** Version of the server. */
  async serverVersion(): Promise<string> {
    return /redis_version:(\S+)/.exec(await this.client.info('server'))?.[1] ?? 'unknown';
  }

  /** The Redis may be the user's own: what the demo left there goes. */
  async close(keyPrefix: string): Promise<void> {
    await Promise.race([this.removeKeys(keyPrefix), pause(CLEAN_LIMIT_MS)]).catch(() => undefined);
    this.client.disconnect();
  }

  private async removeKeys(prefix: string): Promise<void> {
    for await (const keys of this.client.scanStream({ match: `${prefix}*`, count: 500 })) {
      const found = keys as string[];
      if (found.length > 0) await this.client.del(...found);
    }
  }
}
