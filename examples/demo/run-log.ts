import { Redis } from 'ioredis';

/** A run of a handler, noted by the worker when it starts. */
export interface Run {
  readonly call: number;
  readonly callId: string;
  readonly workerId: string;
  readonly attempt: number;
  readonly at: number;
}

/**
 * Every run of every handler, in a Redis list: what survives a worker that is killed. Whether a call ran
 * twice is counted here, and not by what the library says of itself.
 */
export class RunLog {
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

  /** All runs by the number of their call, in order. */
  async byCall(): Promise<Map<number, Run[]>> {
    const byCall = new Map<number, Run[]>();
    for (const text of await this.client.lrange(this.key, 0, -1)) {
      const run = JSON.parse(text) as Run;
      byCall.set(run.call, [...(byCall.get(run.call) ?? []), run]);
    }
    return byCall;
  }

  /** Version of the server. */
  async serverVersion(): Promise<string> {
    return /redis_version:(\S+)/.exec(await this.client.info('server'))?.[1] ?? 'unknown';
  }

  /** Removes everything below a prefix: the Redis may be the user's own. */
  async removeKeys(prefix: string): Promise<void> {
    for await (const keys of this.client.scanStream({ match: `${prefix}*`, count: 500 })) {
      const found = keys as string[];
      if (found.length > 0) await this.client.del(...found);
    }
  }

  close(): void {
    this.client.disconnect();
  }
}
