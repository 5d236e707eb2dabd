import type { Redis } from 'ioredis';
import { eventually } from '../harness/eventually.js';
import type { TcpProxy } from '../harness/tcp-proxy.js';
import type { RestartOrder } from './caller-flow.js';
import type { HistoryLog } from './history.js';
import { monotonicMs } from './history.js';
import type { Onlooker } from './onlooker.js';
import type { Slot, Slots } from './slots.js';

/** What ends within a lease and its aftermath in the end takes no longer on a machine that does other things too. */
const REST_LIMIT_MS = 15_000;
const IDLE_LIMIT_MS = 90_000;
const LAST_RESTART_LIMIT_MS = 90_000;
/** Publishing ends within five seconds after the last listener left. */
const SILENT_AFTER_MS = 5_000;
const SILENT_FOR_MS = 2_500;

/** Lets a fleet come to rest when the faults are over, closes it, and looks for what is left over. */
export class Aftermath {
  constructor(
    private readonly slots: Slots,
    private readonly admin: Redis,
    private readonly proxies: readonly TcpProxy[],
    private readonly onlooker: Onlooker,
    private readonly history: HistoryLog,
    private readonly prefix: string,
    private readonly violate: (what: string) => void,
  ) {}

  async run(): Promise<void> {
    const { slots } = this;
    slots.thaw();
    await this.expectSoon('the circuit to be closed', REST_LIMIT_MS, () => this.expectClosed());
    await this.restartOnce();
    await this.silence(slots.of('listener')[0]);
    for (const slot of slots.of('caller')) slot.process?.send({ type: 'stop' });
    await this.expectSoon('every call to settle', IDLE_LIMIT_MS, async () => {
      for (const { process } of slots.of('caller')) await process?.message('idle', IDLE_LIMIT_MS);
    });
    await this.expectSoon('the streams of calls to be empty', 30_000, () => this.expectNoCalls());
    await this.expectSoon('the dead to be buried', REST_LIMIT_MS, async () => {
      const states = await this.admin.hvals(`${this.prefix}nf:processes`);
      // One that is condemned may stand in for one that is about to join anew.
      if (states.length !== slots.all.length || states.includes('condemned'))
        throw new Error(`these sessions are listed: ${states.join(', ')}`);
    });
    await Promise.all(slots.all.map((slot) => slots.end(slot)));
    this.onlooker.close();
    await this.expectSoon('nothing to be left in Redis', 5_000, () => this.expectNothingLeft());
  }

  /** Kills the listener, and looks whether anybody publishes for nobody once the time to stop is over. */
  async silence(slot: Slot | undefined): Promise<void> {
    if (slot?.process === undefined) return;
    slot.process.kill('SIGKILL');
    await slot.process.exit();
    const from = monotonicMs();
    await new Promise((resolve) => setTimeout(resolve, SILENT_AFTER_MS));
    const published = await this.onlooker.metricsPublished(SILENT_FOR_MS);
    this.history.note({ e: 'silence', from, published });
    await this.slots.boot(slot);
  }

  /** The function works again: so says the record, and so does every caller. */
  private async expectClosed(): Promise<void> {
    const text = (await this.admin.get(`${this.prefix}nf:{fused:default}:circuit`)) ?? '';
    const { state = 'closed' } = text === '' ? {} : (JSON.parse(text) as { state?: string });
    if (state !== 'closed') throw new Error(`the record says ${text}`);
    for (const { name, process } of this.slots.of('caller')) {
      const before = process?.all('circuit').length ?? 0;
      process?.send({ type: 'circuit' });
      const seen = await eventually(
        `${name} to say how its circuit is`,
        () => {
          const all = process?.all<{ type: string; state: string }>('circuit') ?? [];
          if (all.length === before) throw new Error('it says nothing');
          return all.at(-1)?.state;
        },
        REST_LIMIT_MS,
      );
      if (seen !== 'closed') throw new Error(`${name} takes it for ${seen}`);
    }
  }

  /** A last save, and a restart that nothing disturbs: it has to succeed, and everybody to hear of the save. */
  private async restartOnce(): Promise<void> {
    let attempt = 0;
    await this.expectSoon('a restart of the workflow', LAST_RESTART_LIMIT_MS, async () => {
      attempt += 1;
      const { process } = this.slots.of('caller')[0] as Slot;
      const order: RestartOrder = {
        ...{ type: 'restart-workflow', id: `last-${attempt}`, only: 'all', maxUnavailable: 1 },
        ...{ version: 1_000_000 + attempt, isLast: true },
      };
      process?.send(order);
      const { code } = (await process?.message<{ type: string; code?: string }>(
        `restarted-${order.id}`,
        LAST_RESTART_LIMIT_MS,
      )) as { code?: string };
      // One that began in the storm may still be on its way.
      if (code !== undefined) throw new Error(`it failed with ${code}`);
    });
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
      this.violate(`waited ${limitMs} ms for ${what}: ${cause}`);
    });
  }
  private async expectNoCalls(): Promise<void> {
    for (const key of await this.admin.keys(`${this.prefix}nf:{*}:*`)) {
      const size = await sizeOf(this.admin, key);
      if (/:(calls|aside|delayed)$/.test(key) && size > 0) throw new Error(`${key} has ${size}`);
    }
  }

  /**
   * Kept by design: results by idempotency key, epochs, graves and circuits, which expire; definitions; dead letters; the
   * last save of a workflow.
   */
  private async expectNothingLeft(): Promise<void> {
    const left: string[] = [];
    // Redis still holds what a router has forgotten: those sockets end with the proxy.
    for (const proxy of this.proxies) proxy.cut();
    for (const key of await this.admin.keys(`${this.prefix}*`)) {
      if (/:(definition|dead|functions|generation)$/.test(key)) continue;
      const expires = (await this.admin.pttl(key)) > 0;
      if (expires && /:(grave|epoch|replies|circuit|circuit-counts|once:[^:]*)$/.test(key))
        continue;
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
    const channels = (await this.admin.pubsub('CHANNELS', `${this.prefix}*`)) as string[];
    left.push(...channels.map((channel) => `subscription ${channel}`));
    const clients =
      String(await this.admin.client('LIST')).match(/name=nestjs-functions:\w+/g) ?? [];
    left.push(...clients);
    if (left.length > 0) throw new Error(left.join(', '));
  }
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
