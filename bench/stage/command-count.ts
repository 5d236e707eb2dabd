import type { Redis } from '../peers/ioredis.js';

/** The benchmark's own questions, which are nobody's cost. */
const OWN = new Set(['info', 'xlen', 'pubsub|numsub', 'flushall']);

/** Redis commands between two looks. */
export interface CommandReport {
  /**
   * All of them. An EVALSHA counts as one, and every command that its script runs counts as well: Redis lists
   * both.
   */
  readonly total: number;
  /** Of these, scripts that were started (EVAL and EVALSHA). */
  readonly scripts: number;
  readonly byName: Readonly<Record<string, number>>;
}

/** Counts what Redis executed, by `INFO commandstats` before and after. */
export class CommandCount {
  private constructor(
    private readonly client: Redis,
    private readonly before: ReadonlyMap<string, number>,
  ) {}

  static async start(client: Redis): Promise<CommandCount> {
    return new CommandCount(client, parseCommandStats(await client.info('commandstats')));
  }

  async stop(): Promise<CommandReport> {
    const after = parseCommandStats(await this.client.info('commandstats'));
    return difference(this.before, after);
  }
}

/** Calls per command; subcommands by their full name, as `client|unblock`. */
export function parseCommandStats(text: string): Map<string, number> {
  const lines = text.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm);
  return new Map([...lines].map(([, name = '', calls = '0']) => [name, Number(calls)]));
}

/** What was executed between two readings, without the benchmark's own questions. */
export function difference(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): CommandReport {
  const byName: Record<string, number> = {};
  let total = 0;
  for (const [name, calls] of after) {
    const count = calls - (before.get(name) ?? 0);
    if (count === 0 || OWN.has(name)) continue;
    byName[name] = count;
    total += count;
  }
  return { total, scripts: (byName['evalsha'] ?? 0) + (byName['eval'] ?? 0), byName };
}
