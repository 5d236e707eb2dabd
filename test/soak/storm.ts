import { Redis } from 'ioredis';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { Aftermath } from './aftermath.js';
import type { RestartOrder } from './caller-flow.js';
import { HistoryLog, monotonicMs } from './history.js';
import { Onlooker } from './onlooker.js';
import { STORM, type Fault } from './plan.js';
import { Scraper } from './scraper.js';
import { Slots } from './slots.js';

export const PREFIX = 'soak:';
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
/** How long a fault waits for a probe, or for a restart to have begun. */
const PROBER_LIMIT_MS = 8_000;

/** The fleet, its private Redis, and what is done to them. */
export class Storm {
  readonly faults = new Map<string, number>();
  private readonly under = new Set<Promise<void>>();
  private readonly scraper: Scraper;
  private readonly aftermath: Aftermath;
  private redisBusy = false;
  private version = 0;

  private constructor(
    private readonly redis: StartedRedis,
    private readonly admin: Redis,
    private readonly proxies: readonly TcpProxy[],
    private readonly slots: Slots,
    private readonly onlooker: Onlooker,
    private readonly history: HistoryLog,
    readonly violations: string[],
    private readonly say: (text: string) => void,
  ) {
    this.scraper = new Scraper(history, () => {
      const slot = slots.all.find(({ port }) => port !== undefined);
      return slot?.port === undefined ? undefined : { who: slots.who(slot), port: slot.port };
    });
    this.aftermath = new Aftermath(slots, admin, proxies, onlooker, history, PREFIX, (what) =>
      violations.push(what),
    );
  }

  /** @param totalMs how long faults are to go on */
  static async start(
    dir: string,
    seed: number,
    totalMs: number,
    say: (text: string) => void,
  ): Promise<Storm> {
    const redis = await startRedis();
    const admin = new Redis(redis.url, {
      retryStrategy: () => 20,
      maxRetriesPerRequest: null,
      connectionName: 'storm',
    });
    admin.on('error', () => undefined);
    const proxies = [await TcpProxy.start(redis.url), await TcpProxy.start(redis.url)];
    const history = new HistoryLog(dir, 'storm');
    const { fusePeriodMs: periodMs, fuseBrokenMs: brokenMs } = STORM;
    const from = monotonicMs();
    const fuse = { from, periodMs, brokenMs, to: from + totalMs };
    history.note({ e: 'fuse', ...fuse });
    const violations: string[] = [];
    const violate = (what: string): void => void violations.push(what);
    const slots = new Slots({ prefix: PREFIX, dir, seed, fuse, history, violate });
    const onlooker = new Onlooker(redis.url, PREFIX, history);
    await onlooker.start();
    const storm = new Storm(redis, admin, proxies, slots, onlooker, history, violations, say);
    await storm.populate();
    return storm;
  }

  /** Carries the plan out; resolves when its time is over and every fault has ended. */
  async run(plan: readonly Fault[], totalMs: number): Promise<void> {
    const start = monotonicMs();
    const until = (at: number): Promise<void> => pause(start + at - monotonicMs());
    for (const fault of plan) {
      await until(fault.at);
      const done = this.carryOut(fault).finally(() => this.under.delete(done));
      this.under.add(done);
    }
    await until(totalMs);
    await Promise.all(this.under);
  }

  /** Lets the fleet come to rest, closes it, and looks for what is left over. */
  async finish(): Promise<void> {
    await this.scraper.stop();
    await this.aftermath.run();
  }

  async close(): Promise<void> {
    await this.scraper.stop();
    await this.slots.destroy();
    await Promise.all(this.proxies.map((proxy) => proxy.close()));
    this.onlooker.close();
    this.admin.disconnect();
    this.history.close();
    await this.redis.stop();
  }

  /** What the processes printed, for whoever looks into a failure. */
  outputs(): string {
    return this.slots.outputs();
  }

  private async populate(): Promise<void> {
    const { slots } = this;
    const direct = (): string => this.redis.url;
    const through = (n: number) => () => (this.proxies[n] as TcpProxy).url;
    for (let n = 0; n < STORM.workers; n += 1)
      // The first reads its streams itself, the others wait for the bell.
      slots.add('worker', n, n === 0 ? through(0) : direct, n === 0 ? 0 : STORM.bells, n === 1);
    for (let n = 0; n < STORM.callers; n += 1)
      slots.add('caller', n, n === 0 ? through(1) : direct, STORM.bells);
    slots.add('listener', 0, direct, 0);
    await Promise.all(slots.of('worker').map((slot) => slots.boot(slot)));
    await Promise.all(
      [...slots.of('caller'), ...slots.of('listener')].map((slot) => slots.boot(slot)),
    );
    this.scraper.start();
  }

  private async carryOut(fault: Fault): Promise<void> {
    const from = monotonicMs();
    const target = await this.act(fault).catch((error: unknown) => {
      this.violations.push(`the storm itself: ${fault.kind}: ${String(error)}`);
      return undefined;
    });
    if (target === undefined) return;
    this.faults.set(fault.kind, (this.faults.get(fault.kind) ?? 0) + 1);
    this.history.note({ e: 'fault', kind: fault.kind, target, from, to: monotonicMs() });
    this.say(`${fault.kind} ${target} ${Math.round(monotonicMs() - from)} ms`);
  }

  /** What it did it to; `undefined` when there was nobody to do it to. */
  private async act(fault: Fault): Promise<string | undefined> {
    const { kind, target, durationMs } = fault;
    const { slots } = this;
    const proxy = this.proxies[target % this.proxies.length] as TcpProxy;
    const proxied = `proxy-${target % this.proxies.length}`;
    switch (kind) {
      case 'kill-worker':
      case 'kill-caller':
      case 'kill-listener':
        return slots.with(slots.of(roleOf(kind)), target, (slot) =>
          slots.replace(slot, durationMs),
        );
      case 'kill-supervisor':
        return this.killSession(
          await this.ask(() => this.admin.get(`${PREFIX}nf:supervisor`)),
          durationMs,
        );
      case 'kill-prober':
        return this.killSession(await this.onlooker.prober(PROBER_LIMIT_MS), durationMs);
      case 'restart-worker':
        return slots.with(slots.of('worker'), target, (slot) =>
          slots.restart(slot, target % 2 === 0),
        );
      case 'restart-caller':
        return slots.with(slots.of('caller'), target, (slot) => slots.restart(slot, true));
      case 'freeze-worker-short':
      case 'freeze-worker-long':
      case 'freeze-caller':
        return slots.with(slots.of(roleOf(kind)), target, (slot) => slots.freeze(slot, durationMs));
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
      case 'proxy-cut':
        proxy.cut();
        return proxied;
      case 'proxy-drop':
        proxy.drop();
        return proxied;
      case 'proxy-hold-short':
      case 'proxy-hold-long':
        proxy.hold();
        await pause(durationMs);
        proxy.release();
        return proxied;
      case 'proxy-refuse':
        proxy.refuse();
        await pause(durationMs);
        proxy.accept();
        return proxied;
      case 'flushall':
        return (await this.ask(() => this.admin.flushall())) && 'redis';
      case 'group-destroy':
        return this.destroyGroup(FUNCTIONS[target % FUNCTIONS.length] as string);
      case 'health':
        return slots.with(slots.of('worker'), target, async (slot) => {
          slot.process?.send({ type: 'health', healthy: false });
          await pause(durationMs);
          slot.process?.send({ type: 'health', healthy: true });
        });
      case 'save-and-restart':
        return this.orderRestart(target, true);
      case 'restart-workflow':
        return this.orderRestart(target, false);
      case 'kill-leader': {
        const leader = this.orderRestart(target, target % 3 > 0);
        await pause(durationMs);
        const leading = slots.of('caller').filter(({ name }) => name === leader);
        return slots.with(leading, 0, (slot) => slots.replace(slot, 100));
      }
      case 'kill-restarting': {
        this.orderRestart(target, target % 3 > 0);
        await pause(durationMs);
        return slots.with(slots.of('worker'), target, (slot) => slots.replace(slot, 100));
      }
      case 'silence':
        return slots.with(slots.of('listener'), 0, (slot) => this.aftermath.silence(slot));
    }
  }

  /** Tells a caller to restart the workflow, after a save or not; says which. */
  private orderRestart(target: number, withSave: boolean): string | undefined {
    const callers = this.slots.of('caller').filter(({ process, busy }) => process && !busy);
    const caller = callers[target % Math.max(1, callers.length)];
    if (caller === undefined) return undefined;
    this.version += 1;
    const order: RestartOrder = {
      type: 'restart-workflow',
      id: `${this.version}`,
      only: !withSave && target % 2 === 0 ? 'outdated' : 'all',
      maxUnavailable: 1,
      isLast: false,
      ...(withSave ? { version: this.version } : {}),
    };
    caller.process?.send(order);
    return caller.name;
  }

  /** Kills the process of a session, and starts another one in its place. */
  private killSession(
    session: string | null | undefined,
    pauseMs: number,
  ): Promise<string | undefined> {
    const slot = this.slots.hosting(session ?? '');
    return this.slots.with(slot === undefined ? [] : [slot], 0, (found) =>
      this.slots.replace(found, pauseMs),
    );
  }

  private async destroyGroup(fn: string): Promise<string | undefined> {
    const key = `${PREFIX}nf:{${fn}}:calls`;
    // Redis may have been emptied: then there is no such stream.
    const done = await this.ask(() => this.admin.xgroup('DESTROY', key, 'workers').catch(() => 0));
    return done === undefined ? undefined : fn;
  }

  private async withRedis(task: () => Promise<void>): Promise<string | undefined> {
    if (this.redisBusy) return undefined;
    this.redisBusy = true;
    try {
      await task();
    } finally {
      this.redisBusy = false;
    }
    return 'redis';
  }

  private async killClients(role: string, target: number): Promise<string | undefined> {
    const list = await this.ask(async () => String(await this.admin.client('LIST')));
    const ids = (list ?? '')
      .split('\n')
      .filter((line) => line.includes(`name=nestjs-functions:${role} `))
      .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '');
    const victims = target % 3 === 0 ? ids : ids.slice(target % ids.length).slice(0, 1);
    for (const id of victims) await this.ask(() => this.admin.client('KILL', 'ID', id));
    return victims.length === 0 ? undefined : `${role} x${victims.length}`;
  }

  /** Asks Redis, which may be away or stand still: then the fault is passed over. */
  private async ask<T>(question: () => Promise<T>): Promise<T | undefined> {
    if (this.redisBusy) return undefined;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), ADMIN_LIMIT_MS);
    });
    const answer = question();
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, limit]);
    } catch {
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}

function roleOf(kind: `${'kill' | 'freeze'}-${string}`): 'worker' | 'caller' | 'listener' {
  if (kind.includes('worker')) return 'worker';
  return kind.includes('caller') ? 'caller' : 'listener';
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
