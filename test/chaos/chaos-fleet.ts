import { randomUUID } from 'node:crypto';
import { expect } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  NotificationManager,
  WorkerCoordinator,
  type CallOptions,
} from '../../src/index.js';
import type { StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

/** Short, so that a test of a lease takes no longer than it has to. */
export const LEASE_MS = 1_000;
/** Promise 10. */
export const RECOVERY_MS = 2_000;
/** A connection that a router forgot is missed after 3 s without an answer; heartbeats ask, four per lease. */
export const NOTICE_MS = 6_000;
const LOOPS = 4;

/** The connections that a process may have. */
export type Role = 'commands' | 'subscriber' | 'calls' | 'replies';

/** A run that a worker process told of. */
interface Run {
  readonly type: 'run';
  readonly id: string;
  readonly attempt: number;
}

interface Made {
  readonly id: string;
  readonly madeAt: number;
  answer?: { readonly workerId: string; readonly attempt: number };
  error?: unknown;
}

/** Who reaches Redis through the proxy. */
export type Proxied = 'nobody' | 'one worker' | 'the caller' | 'everybody';

/**
 * Two worker processes and a caller under a steady stream of calls, for a test to do something to, and the
 * question whether all of it is whole again.
 */
export class ChaosFleet {
  readonly admin: Redis;
  readonly workers: TestProcess[] = [];
  readonly made: Made[] = [];
  readonly heard: string[] = [];
  private readonly forgotten = new Set<string>();
  private readonly fleet: Fleet;
  private caller!: INestApplicationContext;
  private registry!: EnhancedFunctionRegistry;
  private going = false;
  private loops: Promise<void>[] = [];

  private constructor(
    private readonly server: StartedRedis,
    readonly proxy: TcpProxy,
    private readonly proxied: Proxied,
  ) {
    this.fleet = new Fleet(server.url);
    this.admin = new Redis(server.url, { retryStrategy: () => 10, maxRetriesPerRequest: null });
    this.admin.on('error', () => undefined);
  }

  static async start(server: StartedRedis, proxied: Proxied = 'nobody'): Promise<ChaosFleet> {
    const fleet = new ChaosFleet(server, await TcpProxy.start(server.url), proxied);
    await fleet.populate();
    return fleet;
  }

  get prefix(): string {
    return this.fleet.prefix;
  }

  calls(): string {
    return `${this.prefix}nf:{work:default}:calls`;
  }

  /** Calls once; see the worker for what it gets. */
  call(
    ms = 0,
    options: CallOptions = {},
    id: string = randomUUID(),
  ): Promise<{ workerId: string; attempt: number }> {
    return this.registry.call('work', { id, ms }, options);
  }

  /** Runs that were told of, of one call or of all. */
  runs(id?: string): Run[] {
    const all = this.workers.flatMap((worker) => worker.all<Run>('run'));
    return id === undefined ? all : all.filter((run) => run.id === id);
  }

  /**
   * Waits until everything is as it was, for as long as is left of `limitMs` after `endedAt`: both workers are
   * registered and have run calls made since, the caller hears news, and every process has its connections, one
   * of each kind.
   */
  async expectRecovery(endedAt: number, limitMs = RECOVERY_MS): Promise<void> {
    const left = (): number => Math.max(1, endedAt + limitMs - Date.now());
    const token = randomUUID();
    await Promise.all([
      eventually('both workers run what is called now', () => this.expectCalls(endedAt), left()),
      eventually('all are registered', () => this.expectRegistrations(), left()),
      eventually(
        'the caller hears news',
        async () => {
          await this.admin.publish(
            `${this.prefix}news`,
            JSON.stringify({ pattern: 'news', data: token }),
          );
          return this.heard.includes(token);
        },
        left(),
      ),
      eventually('all have their connections', () => this.expectConnections(), left()),
    ]);
  }

  /** Ends the stream of calls, and checks how they ended: all succeeded, and none ran twice unless it may have. */
  async expectAllAnswered({ twice = false } = {}): Promise<void> {
    this.going = false;
    await Promise.all(this.loops);
    expect(this.made.filter(({ error }) => error !== undefined)).toEqual([]);
    expect(this.made.filter(({ answer }) => answer === undefined)).toEqual([]);
    const counts = new Map<string, number>();
    for (const { id } of this.runs()) counts.set(id, (counts.get(id) ?? 0) + 1);
    if (!twice) expect([...counts].filter(([, count]) => count > 1)).toEqual([]);
    const sessions = Object.keys(await this.admin.hgetall(`${this.prefix}nf:processes`));
    await eventually('no consumer is left of an earlier session', async () => {
      const consumers = (await this.admin.xinfo(
        'CONSUMERS',
        this.calls(),
        'workers',
      )) as string[][];
      for (const [, name] of consumers) expect(sessions).toContain(name);
    });
    await eventually(
      'all calls are removed',
      async () => (await this.admin.xlen(this.calls())) === 0,
    );
    await this.expectConnections();
  }

  /** Lets the proxy forget its connections; when that was. */
  async forgetConnections(): Promise<number> {
    const ports = new Set(this.proxy.drop());
    const endedAt = Date.now();
    for (const { id, port } of await this.clients()) if (ports.has(port)) this.forgotten.add(id);
    return endedAt;
  }

  /** Ends all connections of a kind, as an operator does; how many there were. */
  async killConnections(role: Role): Promise<number> {
    const ids = (await this.clients()).filter((client) => client.role === role);
    await Promise.all(ids.map(({ id }) => this.admin.client('KILL', 'ID', id)));
    return ids.length;
  }

  async close(): Promise<void> {
    this.going = false;
    this.proxy.release();
    for (const worker of this.workers) worker.kill('SIGCONT');
    await this.fleet.close();
    await Promise.all(this.loops);
    await Promise.all(this.workers.map((worker) => worker.destroy()));
    this.admin.disconnect();
    await this.proxy.close();
  }

  private async populate(): Promise<void> {
    const through = (proxied: Proxied): string =>
      this.proxied === proxied || this.proxied === 'everybody' ? this.proxy.url : this.server.url;
    const urls = [through('one worker'), through('everybody')];
    for (const [index, url] of urls.entries()) {
      this.workers.push(
        TestProcess.start('chaos-worker.ts', {
          REDIS_URL: url,
          KEY_PREFIX: this.prefix,
          WORKER_ID: `w-${index + 1}`,
          LEASE_MS: String(LEASE_MS),
        }),
      );
    }
    this.caller = await this.fleet.start({
      options: { connection: through('the caller'), worker: false, leaseMs: LEASE_MS },
    });
    this.registry = this.caller.get(EnhancedFunctionRegistry);
    await this.caller
      .get(NotificationManager)
      .subscribe('news', ({ data }) => void this.heard.push(String(data)));
    await Promise.all(this.workers.map((worker) => worker.message('ready', 30_000)));
    await this.registry.waitForFunction('work', 'default');
    await eventually('somebody supervises', async () => (await this.supervisor()) !== '');
    this.going = true;
    this.loops = Array.from({ length: LOOPS }, () => this.loop());
    await eventually('the stream of calls flows', () => this.expectCalls(Date.now() - 1_000));
    await eventually('all have their connections', () => this.expectConnections());
  }

  /** The session that supervises, or `''`. */
  async supervisor(): Promise<string> {
    return (await this.admin.get(`${this.prefix}nf:supervisor`)) ?? '';
  }

  /** Whether the caller of this test supervises. */
  get callerSupervises(): boolean {
    return this.caller.get(WorkerCoordinator).isSupervisor;
  }

  private async loop(): Promise<void> {
    while (this.going) {
      const made: Made = { id: randomUUID(), madeAt: Date.now() };
      this.made.push(made);
      await this.call(10, { timeoutMs: 30_000 }, made.id).then(
        (answer) => (made.answer = answer),
        (error: unknown) => (made.error = error),
      );
      if (made.error !== undefined) return;
    }
  }

  private expectCalls(since: number): void {
    const answered = this.made.filter(({ madeAt }) => madeAt >= since);
    const by = new Set(answered.map(({ answer }) => answer?.workerId));
    expect([...by].filter((one) => one !== undefined).sort()).toEqual(['w-1', 'w-2']);
  }

  private async expectRegistrations(): Promise<void> {
    const workers = await this.admin.hkeys(`${this.prefix}nf:{work:default}:workers`);
    expect(workers.sort()).toEqual(['w-1', 'w-2']);
    const status = await this.registry.getInstantWorkerStatus('work', 'default');
    expect(status).toMatchObject({ workers: 2, healthyWorkers: 2 });
    const listed = await this.admin.hgetall(`${this.prefix}nf:processes`);
    // A lost session is listed for a while, until nothing of it can be served any more.
    const sessions = Object.fromEntries(
      Object.entries(listed).filter(([, presence]) => presence !== 'condemned'),
    );
    expect(Object.values(sessions)).toEqual(['present', 'present', 'present']);
    const channels = Object.keys(sessions).map((session) => `${this.prefix}nf:process:${session}`);
    const counts = (await this.admin.pubsub('NUMSUB', ...channels)) as (string | number)[];
    const subscribers = counts.filter((_, index) => index % 2 === 1).map(Number);
    if (this.forgotten.size === 0) expect(subscribers).toEqual([1, 1, 1]);
    else expect(Math.min(...subscribers)).toBeGreaterThan(0);
  }

  private async expectConnections(): Promise<void> {
    // Redis does not hear of what a router forgets: it still has those connections.
    const clients = (await this.clients()).filter(({ id }) => !this.forgotten.has(id));
    const roles = clients.map(({ role }) => role).sort();
    expect(roles).toEqual([
      ...['calls', 'calls', 'commands', 'commands', 'commands'],
      ...['replies', 'subscriber', 'subscriber', 'subscriber'],
    ]);
  }

  private async clients(): Promise<{ id: string; port: number; role: string }[]> {
    return String(await this.admin.client('LIST'))
      .split('\n')
      .flatMap((line) => {
        const fields = /^id=(\d+) addr=\S*:(\d+) .* name=nestjs-functions:(\w+)/.exec(line);
        const [, id = '', port = '', role = ''] = fields ?? [];
        return role === '' ? [] : [{ id, port: Number(port), role }];
      });
  }
}
