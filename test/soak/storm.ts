import { Redis } from 'ioredis';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { HistoryLog, monotonicMs } from './history.js';
import { STORM, type Fault } from './plan.js';

export const PREFIX = 'soak:';
const ROLES = ['commands', 'subscriber', 'calls', 'replies'] as const;
const FUNCTIONS = ['work', 'work', 'flaky', 'chatty', 'stubborn', 'bell-0', 'bell-7'];
/** Drain limit of a worker, and time for a machine that does other things too. */
const EXIT_LIMIT_MS = 30_000;
const ADMIN_LIMIT_MS = 1_000;

/** A place in the fleet, whose process is replaced when it ends. */
interface Slot {
  readonly role: 'worker' | 'caller';
  readonly name: string;
  readonly url: () => string;
  readonly bells: number;
  generation: number;
  process: TestProcess | undefined;
  /** A fault has it in its hands. */
  busy: boolean;
}

/** The fleet, its private Redis, and what is done to them. */
export class Storm {
  readonly violations: string[] = [];
  readonly faults = new Map<string, number>();
  private readonly slots: Slot[] = [];
  private readonly under = new Set<Promise<void>>();
  private readonly frozen = new Set<TestProcess>();
  private redisBusy = false;

  private constructor(
    private readonly redis: StartedRedis,
    private readonly admin: Redis,
    private readonly proxies: readonly TcpProxy[],
    private readonly dir: string,
    private readonly seed: number,
    private readonly history: HistoryLog,
    private readonly say: (text: string) => void,
  ) {}

  static async start(dir: string, seed: number, say: (text: string) => void): Promise<Storm> {
    const redis = await startRedis();
    const admin = new Redis(redis.url, {
      retryStrategy: () => 20,
      maxRetriesPerRequest: null,
      connectionName: 'storm',
    });
    admin.on('error', () => undefined);
    const proxies = [await TcpProxy.start(redis.url), await TcpProxy.start(redis.url)];
    const history = new HistoryLog(dir, 'storm');
    const storm = new Storm(redis, admin, proxies, dir, seed, history, say);
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
    for (const process of this.frozen) process.kill('SIGCONT');
    for (const slot of this.of('caller')) slot.process?.send({ type: 'stop' });
    await this.expectSoon('every call to settle', 90_000, async () => {
      for (const { process } of this.of('caller')) await process?.message('idle', 90_000);
    });
    await this.expectSoon('the streams of calls to be empty', 30_000, () => this.expectNoCalls());
    await this.expectSoon('the dead to be buried', 15_000, async () => {
      const states = await this.admin.hvals(`${PREFIX}nf:processes`);
      // One that is condemned may stand in for one that is about to join anew.
      if (states.length !== this.slots.length || states.includes('condemned'))
        throw new Error(`these sessions are listed: ${states.join(', ')}`);
    });
    await Promise.all(this.slots.map((slot) => this.end(slot)));
    await this.expectSoon('nothing to be left in Redis', 5_000, () => this.expectNothingLeft());
  }

  async close(): Promise<void> {
    for (const { process } of this.slots) await process?.destroy();
    await Promise.all(this.proxies.map((proxy) => proxy.close()));
    this.admin.disconnect();
    this.history.close();
    await this.redis.stop();
  }

  /** What the processes printed, for whoever looks into a failure. */
  outputs(): string {
    return this.slots
      .map(({ name, process }) => `--- ${name}\n${process?.output ?? ''}`)
      .join('\n');
  }

  private async populate(): Promise<void> {
    const direct = (): string => this.redis.url;
    for (let n = 0; n < STORM.workers; n += 1) {
      const url = n === 0 ? () => (this.proxies[0] as TcpProxy).url : direct;
      // The first reads its streams itself, the others wait for the bell.
      this.slots.push(slotOf('worker', n, url, n === 0 ? 0 : STORM.bells));
    }
    for (let n = 0; n < STORM.callers; n += 1) {
      const url = n === 0 ? () => (this.proxies[1] as TcpProxy).url : direct;
      this.slots.push(slotOf('caller', n, url, STORM.bells));
    }
    await Promise.all(this.of('worker').map((slot) => this.boot(slot)));
    await Promise.all(this.of('caller').map((slot) => this.boot(slot)));
  }

  private of(role: Slot['role']): Slot[] {
    return this.slots.filter((slot) => slot.role === role);
  }

  private spawn(slot: Slot): TestProcess {
    slot.generation += 1;
    const index = this.slots.indexOf(slot);
    const who = `${slot.name}.${slot.generation}`;
    const process = TestProcess.start(`../soak/${slot.role}.ts`, {
      REDIS_URL: slot.url(),
      KEY_PREFIX: PREFIX,
      HISTORY: this.dir,
      WHO: who,
      LEASE_MS: String(STORM.leaseMs),
      BELLS: String(slot.bells),
      LOOPS: String(STORM.loops),
      SEED: String(this.seed + 1_000 * index + slot.generation),
    });
    process.child.once('exit', () => this.history.note({ e: 'exited', process: who }));
    return process;
  }

  private async boot(slot: Slot): Promise<void> {
    slot.process = this.spawn(slot);
    await slot.process.message('ready', 60_000);
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
    const proxy = this.proxies[target % this.proxies.length] as TcpProxy;
    const proxied = `proxy-${target % this.proxies.length}`;
    switch (kind) {
      case 'kill-worker':
        return this.withSlot('worker', target, (slot) => this.replace(slot, durationMs));
      case 'kill-caller':
        return this.withSlot('caller', target, (slot) => this.replace(slot, durationMs));
      case 'kill-supervisor':
        return this.killSupervisor(durationMs);
      case 'restart-worker':
        return this.withSlot('worker', target, (slot) => this.restart(slot, target % 2 === 0));
      case 'restart-caller':
        return this.withSlot('caller', target, (slot) => this.restart(slot, true));
      case 'freeze-worker-short':
      case 'freeze-worker-long':
        return this.withSlot('worker', target, (slot) => this.freeze(slot, durationMs));
      case 'freeze-caller':
        return this.withSlot('caller', target, (slot) => this.freeze(slot, durationMs));
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
      case 'group-destroy': {
        const fn = FUNCTIONS[target % FUNCTIONS.length] as string;
        const key = `${PREFIX}nf:{${fn}:default}:calls`;
        // Redis may have been emptied: then there is no such stream.
        return (await this.ask(() =>
          this.admin.xgroup('DESTROY', key, 'workers').catch(() => 0),
        )) === undefined
          ? undefined
          : fn;
      }
      case 'health':
        return this.withSlot('worker', target, async (slot) => {
          slot.process?.send({ type: 'health', healthy: false });
          await pause(durationMs);
          slot.process?.send({ type: 'health', healthy: true });
        });
    }
  }

  private async withSlot(
    role: Slot['role'],
    target: number,
    task: (slot: Slot) => Promise<void>,
  ): Promise<string | undefined> {
    const free = this.of(role).filter(({ busy }) => !busy);
    const slot = free[target % Math.max(1, free.length)];
    if (slot === undefined) return undefined;
    slot.busy = true;
    const { name } = slot;
    try {
      await task(slot);
    } finally {
      slot.busy = false;
    }
    return name;
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

  private async replace(slot: Slot, pauseMs: number): Promise<void> {
    slot.process?.kill('SIGKILL');
    await slot.process?.exit();
    await pause(pauseMs);
    await this.boot(slot);
  }

  private async killSupervisor(pauseMs: number): Promise<string | undefined> {
    const session = await this.ask(() => this.admin.get(`${PREFIX}nf:supervisor`));
    const pid = Number(/-(\d+)-[0-9a-f]{8}\.\d+$/.exec(session ?? '')?.[1]);
    const slot = this.slots.find(({ process, busy }) => process?.pid === pid && !busy);
    if (slot === undefined) return undefined;
    slot.busy = true;
    await this.replace(slot, pauseMs);
    slot.busy = false;
    return slot.name;
  }

  private async restart(slot: Slot, replacementFirst: boolean): Promise<void> {
    const old = slot.process;
    if (replacementFirst) await this.boot(slot);
    if (old !== undefined) await this.expectExit(slot, old);
    if (!replacementFirst) await this.boot(slot);
  }

  private async freeze(slot: Slot, durationMs: number): Promise<void> {
    const { process } = slot;
    if (process === undefined) return;
    this.frozen.add(process);
    process.kill('SIGSTOP');
    await pause(durationMs);
    process.kill('SIGCONT');
    this.frozen.delete(process);
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

  private async expectExit(slot: Slot, process: TestProcess): Promise<void> {
    const who = `${slot.name} (process ${process.pid})`;
    process.kill('SIGTERM');
    try {
      const { code, signal } = await process.exit(EXIT_LIMIT_MS);
      if (code !== 0)
        this.violations.push(
          `${who} ended with ${code ?? signal} on SIGTERM:\n${process.output.slice(-2_000)}`,
        );
    } catch {
      this.violations.push(
        `${who} did not end within ${EXIT_LIMIT_MS} ms of SIGTERM:\n${process.output.slice(-2_000)}`,
      );
      await process.destroy();
    }
  }

  private async end(slot: Slot): Promise<void> {
    if (slot.process !== undefined) await this.expectExit(slot, slot.process);
  }

  private async expectSoon(
    what: string,
    limitMs: number,
    check: () => Promise<void>,
  ): Promise<void> {
    await eventually(what, check, limitMs).catch((error: unknown) => {
      const cause =
        error instanceof Error && error.cause instanceof Error
          ? error.cause.message
          : String(error);
      this.violations.push(`waited ${limitMs} ms for ${what}: ${cause}`);
    });
  }

  private async expectNoCalls(): Promise<void> {
    for (const key of await this.admin.keys(`${PREFIX}nf:{*}:*`)) {
      const size = await sizeOf(this.admin, key);
      if (/:(calls|aside|delayed)$/.test(key) && size > 0) throw new Error(`${key} has ${size}`);
    }
  }

  /** Kept by design: results by idempotency key, epochs and graves, which expire; definitions; dead letters. */
  private async expectNothingLeft(): Promise<void> {
    const left: string[] = [];
    // Redis still holds what a router has forgotten: those sockets end with the proxy.
    for (const proxy of this.proxies) proxy.cut();
    for (const key of await this.admin.keys(`${PREFIX}*`)) {
      if (/:(definition|dead|functions)$/.test(key)) continue;
      const expires = (await this.admin.pttl(key)) > 0;
      if (expires && /:(grave|epoch|replies|once:[^:]*)$/.test(key)) continue;
      if (key.endsWith(':calls')) {
        if ((await this.admin.xlen(key)) > 0) left.push(`${key}: calls`);
        const consumers = (await this.admin
          .xinfo('CONSUMERS', key, 'workers')
          .catch(() => [])) as unknown[];
        if (consumers.length > 0) left.push(`${key}: consumers ${JSON.stringify(consumers)}`);
        continue;
      }
      left.push(`${key} (${await this.admin.type(key)}${expires ? ', expires' : ''})`);
    }
    const channels = (await this.admin.pubsub('CHANNELS', `${PREFIX}*`)) as string[];
    left.push(...channels.map((channel) => `subscription ${channel}`));
    const clients =
      String(await this.admin.client('LIST')).match(/name=nestjs-functions:\w+/g) ?? [];
    left.push(...clients);
    if (left.length > 0) throw new Error(left.join(', '));
  }
}

function slotOf(role: Slot['role'], n: number, url: () => string, bells: number): Slot {
  return {
    role,
    name: `${role}-${n + 1}`,
    url,
    bells,
    generation: 0,
    process: undefined,
    busy: false,
  };
}

async function sizeOf(redis: Redis, key: string): Promise<number> {
  switch (await redis.type(key)) {
    case 'stream':
      return redis.xlen(key);
    case 'hash':
      return redis.hlen(key);
    case 'zset':
      return redis.zcard(key);
    default:
      return 0;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
