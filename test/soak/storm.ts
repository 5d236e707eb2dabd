import { Redis } from 'ioredis';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { Aftermath } from './aftermath.js';
import { HistoryLog, monotonicMs } from './history.js';
import { Onlooker } from './onlooker.js';
import { STORM, type Fault } from './plan.js';
import { RedisFaults } from './redis-faults.js';
import { RestartOrders } from './restart-orders.js';
import { Scraper } from './scraper.js';
import { Slots } from './slots.js';

export const PREFIX = 'soak:';
/** How long a fault waits for a probe. */
const PROBER_LIMIT_MS = 8_000;

/** The fleet, its private Redis, and what is done to them. */
export class Storm {
  readonly faults = new Map<string, number>();
  private readonly under = new Set<Promise<void>>();
  private readonly scraper: Scraper;
  private readonly aftermath: Aftermath;
  private readonly redisFaults: RedisFaults;
  private readonly restarts: RestartOrders;

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
    this.restarts = new RestartOrders(slots);
    this.redisFaults = new RedisFaults(redis, admin, proxies, PREFIX);
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
    const begunAt = monotonicMs();
    let start = begunAt;
    for (const fault of plan) {
      await pause(start + fault.at - monotonicMs());
      if (monotonicMs() > begunAt + totalMs) break;
      if (fault.kind === 'settle') {
        // On a slow machine a process takes long to boot; the calm is as long all the same.
        const dueAt = monotonicMs();
        await Promise.all(this.under);
        start += monotonicMs() - dueAt;
        continue;
      }
      const done = this.carryOut(fault).finally(() => this.under.delete(done));
      this.under.add(done);
    }
    await pause(begunAt + totalMs - monotonicMs());
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
    switch (kind) {
      case 'kill-worker':
      case 'kill-caller':
      case 'kill-listener':
        return slots.with(slots.of(roleOf(kind)), target, (slot) =>
          slots.replace(slot, durationMs),
        );
      case 'kill-supervisor':
        return this.killSession(
          await this.redisFaults.ask((admin) => admin.get(`${PREFIX}nf:supervisor`)),
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
      case 'redis-freeze-short':
      case 'redis-freeze-long':
      case 'client-kill':
      case 'proxy-cut':
      case 'proxy-drop':
      case 'proxy-hold-short':
      case 'proxy-hold-long':
      case 'proxy-refuse':
      case 'flushall':
      case 'group-destroy':
        return this.redisFaults.act(kind, target, durationMs);
      case 'health':
        return slots.with(slots.of('worker'), target, async (slot) => {
          slot.process?.send({ type: 'health', healthy: false });
          await pause(durationMs);
          slot.process?.send({ type: 'health', healthy: true });
        });
      case 'save-and-restart':
        return this.restarts.order(target, true);
      case 'restart-workflow':
        return this.restarts.order(target, false);
      case 'kill-leader': {
        const leading = this.restarts.leading(target);
        await pause(durationMs);
        return slots.with(leading, 0, (slot) => slots.replace(slot, 100));
      }
      case 'freeze-leader': {
        const leading = this.restarts.leading(target);
        await pause(target % 1_000);
        return slots.with(leading, 0, (slot) => slots.freeze(slot, durationMs));
      }
      case 'kill-restarting': {
        this.restarts.order(target, target % 3 > 0);
        await pause(durationMs);
        return slots.with(slots.of('worker'), target, (slot) => slots.replace(slot, 100));
      }
      case 'settle':
        return undefined;
      case 'silence':
        return slots.with(slots.of('listener'), 0, (slot) => this.aftermath.silence(slot));
    }
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
}

function roleOf(kind: `${'kill' | 'freeze'}-${string}`): 'worker' | 'caller' | 'listener' {
  if (kind.includes('worker')) return 'worker';
  return kind.includes('caller') ? 'caller' : 'listener';
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
