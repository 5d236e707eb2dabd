import { resolveRedisServer, startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Redis } from '../peers/ioredis.js';
import type { PeerSettings } from '../peers/peer.js';
import { BenchProcess, type Commands } from './bench-process.js';
import { CommandCount } from './command-count.js';
import { NatsServer } from './nats-server.js';

/** A nats-server, or why there is none. */
type Nats = { readonly server: NatsServer } | { readonly missing: string };

/** Everything that runs: a Redis, a nats-server, the processes. What is started here is stopped here. */
export class Stage {
  private readonly processes = new Set<BenchProcess<Commands>>();
  private prefixes = 0;
  private closing: Promise<void> | undefined;

  private constructor(
    private readonly redis: StartedRedis,
    /** For the benchmark's own questions. */
    readonly admin: Redis,
    readonly redisVersion: string,
    private readonly nats: Nats,
  ) {}

  static async open(): Promise<Stage> {
    const [{ version }, redis, nats] = await Promise.all([
      resolveRedisServer(),
      startRedis(),
      startNats(),
    ]);
    return new Stage(redis, new Redis(redis.url), version, nats);
  }

  /** What NATS there is, for people. */
  get natsVersion(): string {
    return 'server' in this.nats ? this.nats.server.version : `none (${this.nats.missing})`;
  }

  /** Where the servers are, with a key prefix that nobody else has. */
  settings(): PeerSettings {
    const keyPrefix = `bench${(this.prefixes += 1)}:`;
    const natsUrl = 'server' in this.nats ? this.nats.server.url : undefined;
    return { redisUrl: this.redis.url, natsUrl, keyPrefix };
  }

  /** Starts a process of ../processes and resolves when it is up. */
  async start<C extends Commands>(
    file: string,
    settings: object,
    nodeArguments: readonly string[] = [],
  ): Promise<BenchProcess<C>> {
    if (this.closing !== undefined) throw new Error('the benchmark has ended');
    const started = await BenchProcess.start<C>(file, settings, nodeArguments);
    const kept = started as unknown as BenchProcess<Commands>;
    this.processes.add(kept);
    void started.exited.then(() => this.processes.delete(kept));
    return started;
  }

  /** Processor time that Redis and the nats-server have used so far, in milliseconds. */
  async serversCpuMs(): Promise<{ readonly redis: number; readonly nats: number }> {
    const text = await this.admin.info('cpu');
    const seconds = [...text.matchAll(/^used_cpu_(?:sys|user):([\d.]+)/gm)].map(([, s]) =>
      Number(s),
    );
    return {
      redis: seconds.reduce((sum, part) => sum + part, 0) * 1_000,
      nats: 'server' in this.nats ? await this.nats.server.cpuMs() : 0,
    };
  }

  /** What Redis keeps in memory: data, scripts and connections. */
  async redisBytes(): Promise<number> {
    return Number(/^used_memory:(\d+)/m.exec(await this.admin.info('memory'))?.[1]);
  }

  countCommands(): Promise<CommandCount> {
    return CommandCount.start(this.admin);
  }

  /** Ends all processes and empties Redis, so that a benchmark finds nothing of the one before. */
  async clear(): Promise<void> {
    await Promise.all([...this.processes].map((child) => child.stop()));
    await this.admin.flushall();
  }

  /** Ends everything; safe to call twice. */
  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    await Promise.all([...this.processes].map((child) => child.stop()));
    this.admin.disconnect();
    if ('server' in this.nats) await this.nats.server.stop();
    await this.redis.stop();
  }
}

async function startNats(): Promise<Nats> {
  try {
    return { server: await NatsServer.start() };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { missing: `no nats-server: ${text.split('\n', 1)[0] ?? ''}` };
  }
}
