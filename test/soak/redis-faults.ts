import type { Redis } from 'ioredis';
import type { StartedRedis } from '../../tools/redis.mjs';
import type { TcpProxy } from '../harness/tcp-proxy.js';
import type { FaultKind } from './plan.js';

const ROLES = ['commands', 'subscriber', 'calls', 'replies'] as const;
const FUNCTIONS = [
  'work:default',
  'work:default',
  'flaky:default',
  'chatty:default',
  'stubborn:default',
  'fused:default',
  'plan:flow',
  'bell-0:default',
  'bell-7:default',
];
const ADMIN_LIMIT_MS = 1_000;

type Of<Prefix extends string> = Extract<FaultKind, `${Prefix}${string}`>;

/** What happens to Redis, to what is in it, or to a connection to it. */
export type RedisFaultKind =
  Of<'redis-'> | Of<'proxy-'> | 'client-kill' | 'flushall' | 'group-destroy';

/** Carries them out. */
export class RedisFaults {
  private busy = false;

  constructor(
    private readonly redis: StartedRedis,
    private readonly admin: Redis,
    private readonly proxies: readonly TcpProxy[],
    private readonly prefix: string,
  ) {}

  /** What it did it to; `undefined` when there was nothing to do it to. */
  async act(kind: RedisFaultKind, target: number, durationMs: number): Promise<string | undefined> {
    switch (kind) {
      case 'redis-kill':
        return this.withRedis(async () => {
          await this.redis.kill('SIGKILL');
          await pause(durationMs);
          await this.redis.restart();
        });
      case 'redis-freeze-short':
      case 'redis-freeze-long':
        return this.withRedis(async () => {
          await this.redis.kill('SIGSTOP');
          await pause(durationMs);
          await this.redis.kill('SIGCONT');
        });
      case 'client-kill':
        return this.killClients(ROLES[target % ROLES.length] as string, target);
      case 'flushall':
        return (await this.ask((admin) => admin.flushall())) && 'redis';
      case 'group-destroy':
        return this.destroyGroup(FUNCTIONS[target % FUNCTIONS.length] as string);
      default:
        return this.disturb(kind, target, durationMs);
    }
  }

  /** Asks Redis, which may be away or stand still: then the fault is passed over. */
  async ask<T>(question: (admin: Redis) => Promise<T>): Promise<T | undefined> {
    if (this.busy) return undefined;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), ADMIN_LIMIT_MS);
    });
    const answer = question(this.admin);
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, limit]);
    } catch {
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  /** What lies between some processes and Redis. */
  private async disturb(kind: Of<'proxy-'>, target: number, durationMs: number): Promise<string> {
    const proxy = this.proxies[target % this.proxies.length] as TcpProxy;
    switch (kind) {
      case 'proxy-cut':
        proxy.cut();
        break;
      case 'proxy-drop':
        proxy.drop();
        break;
      case 'proxy-hold-short':
      case 'proxy-hold-long':
        proxy.hold();
        await pause(durationMs);
        proxy.release();
        break;
      case 'proxy-refuse':
        proxy.refuse();
        await pause(durationMs);
        proxy.accept();
        break;
    }
    return `proxy-${target % this.proxies.length}`;
  }

  private async destroyGroup(fn: string): Promise<string | undefined> {
    const key = `${this.prefix}nf:{${fn}}:calls`;
    // Redis may have been emptied: then there is no such stream.
    const done = await this.ask((admin) => admin.xgroup('DESTROY', key, 'workers').catch(() => 0));
    return done === undefined ? undefined : fn;
  }

  private async withRedis(task: () => Promise<void>): Promise<string | undefined> {
    if (this.busy) return undefined;
    this.busy = true;
    try {
      await task();
    } finally {
      this.busy = false;
    }
    return 'redis';
  }

  private async killClients(role: string, target: number): Promise<string | undefined> {
    const list = await this.ask(async (admin) => String(await admin.client('LIST')));
    const ids = (list ?? '')
      .split('\n')
      .filter((line) => line.includes(`name=nestjs-functions:${role} `))
      .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '');
    const victims = target % 3 === 0 ? ids : ids.slice(target % ids.length).slice(0, 1);
    for (const id of victims) await this.ask((admin) => admin.client('KILL', 'ID', id));
    return victims.length === 0 ? undefined : `${role} x${victims.length}`;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
