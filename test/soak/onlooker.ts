import { Redis } from 'ioredis';
import { CommandLog } from '../harness/command-log.js';
import type { HistoryLog } from './history.js';

interface RecordNews {
  readonly state: 'closed' | 'open' | 'half-open';
  readonly generation: number;
  readonly retryAt?: number;
  readonly prober?: string;
}

/** Hears every change of the record of the circuit of `fused`, on a connection to Redis that no fault is meant for. */
export class Onlooker {
  /** What was heard last. */
  last: RecordNews | undefined;
  private readonly redis: Redis;
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly url: string,
    private readonly prefix: string,
    private readonly history: HistoryLog,
  ) {
    this.redis = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
    this.redis.on('error', () => undefined);
    this.redis.on('message', (_channel: string, text: string) => this.hear(text));
  }

  /** A subscription to a pattern would make every process ask who listens. */
  async start(): Promise<void> {
    await this.redis.subscribe(`${this.prefix}circuit:state:fused:default`);
  }

  close(): void {
    this.redis.disconnect();
  }

  /** The process whose call is the probe, as soon as there is one; `undefined` when there is none for so long. */
  prober(limitMs: number): Promise<string | undefined> {
    return new Promise((resolve) => {
      const end = (prober: string | undefined): void => {
        clearTimeout(timer);
        this.listeners.delete(look);
        resolve(prober);
      };
      const look = (): void => {
        if (this.last?.prober !== undefined) end(this.last.prober);
      };
      const timer = setTimeout(() => end(undefined), limitMs);
      this.listeners.add(look);
    });
  }

  /** Reports of metrics that are published within so long, whoever sends them. */
  async metricsPublished(ms: number): Promise<string[]> {
    const log = await CommandLog.start(this.url);
    try {
      await new Promise((resolve) => setTimeout(resolve, ms));
      const told = await log.mentioning(`${this.prefix}function:metrics:`);
      return told
        .filter(({ name, args }) => name === 'publish' && args[1]?.includes('"probe"') === false)
        .map(({ args }) => args[0] ?? '');
    } finally {
      log.close();
    }
  }

  private hear(text: string): void {
    const { data } = JSON.parse(text) as { data: RecordNews };
    const { state, generation, retryAt, prober } = data;
    this.last = data;
    this.history.note({ e: 'record', state, generation, retryAt, prober });
    for (const listener of [...this.listeners]) listener();
  }
}
