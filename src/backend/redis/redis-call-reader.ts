import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { systemClock } from '../../common/clock.js';
import { Complaint } from '../../common/complaint.js';
import { isRefused } from '../../common/errors.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import { parseFunctionId } from '../../protocol/keys.js';
import type { Bell, CallReader, PoolRead, RawCall, Taken } from '../call-streams.js';
import { CALL_FIELDS } from '../../protocol/call.js';
import type { RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { runScript, scripts } from './scripts.js';

/** The one consumer group of every function. */
export const GROUP = 'workers';

/** Calls that are given to one process at once, at the most. */
const MAX_GIVEN = 64;
/** How many calls an offer is for is the fraction of its score, in these parts; see give.lua. */
const PLACES_UNIT = 1_024;
/** So long Redis's clock is counted on here. */
const REDIS_TIME_LASTS_MS = 60_000;
const NOTHING: Bell = { rang: false, calls: [] };
const RANG: Bell = { rang: true, calls: [] };

type Entries = [id: string, fields: string[] | null][];
type StreamAnswer = [key: string, entries: Entries][] | null;

/** `XREADGROUP` on a connection of its own; see {@link CallReader}. */
export class RedisCallReader implements CallReader {
  private reading = false;
  /** The connection's id, which CLIENT UNBLOCK wants; asked for before anything blocks. */
  private clientId: number | undefined;
  /** It may not be woken on this connection: its user lacks the right. */
  private unwakeable = false;
  private readonly logger = new Logger('REDIS');
  private readonly trouble = new Complaint((text) => this.logger.warn(text));
  private readonly callsParts: readonly [string, string];
  /** The pool whose bell it waits for, or waited for, with an offer to take calls. */
  private offered: string | undefined;
  /** Whether this user may offer, on this connection. */
  private offering: 'untried' | 'works' | 'refused' = 'untried';
  /** Redis's clock minus this process's, and when it was measured. */
  private redisTime = { offsetMs: 0, at: -Infinity };
  /** Of the functions that were taken so far. */
  private readonly refs = new Map<string, FunctionRef>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
    private readonly consumer: string,
  ) {
    this.callsParts = callsParts(keys);
    connection.onReady(() => {
      this.clientId = undefined;
      this.unwakeable = false;
      this.offering = 'untried';
      this.redisTime = { offsetMs: 0, at: -Infinity };
      return connection.client.client('ID').then(
        (id) => (this.clientId = id),
        (error: unknown) => this.tellUnwakeable(connection.translate('CLIENT ID', error)),
      );
    });
  }

  whenConnected(): Promise<void> {
    return this.connection.whenReady();
  }

  connections(): number {
    return this.connection.connections();
  }

  async read(refs: readonly FunctionRef[], count: number, blockMs: number): Promise<RawCall[]> {
    const streams = refs.map((ref) => this.keys.calls(ref));
    const ids = refs.map(() => '>');
    this.reading = true;
    try {
      const { client } = this.connection;
      const answer =
        blockMs > 0
          ? client.xreadgroup(
              'GROUP',
              GROUP,
              this.consumer,
              'COUNT',
              count,
              'BLOCK',
              blockMs,
              'STREAMS',
              ...streams,
              ...ids,
            )
          : client.xreadgroup(
              'GROUP',
              GROUP,
              this.consumer,
              'COUNT',
              count,
              'STREAMS',
              ...streams,
              ...ids,
            );
      return flatten(refs, streams, await answer);
    } catch (error) {
      throw this.connection.translate('XREADGROUP', error);
    } finally {
      this.reading = false;
    }
  }

  async take({ pools, limit, functions, perFunction, rooms }: PoolRead): Promise<Taken> {
    const places = rooms.flatMap(({ ref, room }) => [ref.id, room]);
    const calls: RawCall[] = [];
    let more = false;
    for (const poolId of pools) {
      if (calls.length >= limit) return { calls, more: true };
      const takesBack = this.offered === poolId;
      const answer = (await this.script(
        [
          this.keys.poolDue(poolId),
          this.keys.poolWake(poolId),
          this.keys.poolOffers(poolId),
          this.keys.given(this.consumer),
        ],
        [
          GROUP,
          this.consumer,
          ...this.callsParts,
          limit - calls.length,
          functions,
          perFunction,
          takesBack ? 1 : 0,
          ...places,
        ],
      )) as [number, string[], ...(string | Entries)[]];
      if (takesBack) this.offered = undefined;
      for (const given of answer[1]) calls.push(...(await this.given(given)));
      if (answer[0] === 1) more = true;
      for (let i = 2; i + 1 < answer.length; i += 2) {
        const ref = this.refOf(answer[i] as string);
        if (ref === undefined) continue;
        for (const [entryId, fields] of answer[i + 1] as Entries)
          if (fields !== null) calls.push({ ref, entryId, fields });
      }
    }
    return { calls, more };
  }

  private refOf(id: string): FunctionRef | undefined {
    const known = this.refs.get(id);
    if (known !== undefined) return known;
    const ref = parseFunctionId(id);
    if (ref !== undefined) this.refs.set(id, ref);
    return ref;
  }

  async isDue(pools: readonly string[]): Promise<boolean> {
    try {
      return (await this.connection.client.exists(...pools.map((id) => this.keys.poolDue(id)))) > 0;
    } catch (error) {
      throw this.connection.translate('EXISTS', error);
    }
  }

  async waitForBell(pools: readonly string[], blockMs: number, places: number): Promise<Bell> {
    const [pool] = pools;
    // A process that has several pools would take from each what it has room for in all.
    if (pool !== undefined && pools.length === 1 && places > 0)
      await this.offer(pool, blockMs, Math.min(places, MAX_GIVEN));
    this.reading = true;
    try {
      const given = this.keys.given(this.consumer);
      const keys = pools.map((poolId) => this.keys.poolWake(poolId));
      const popped = await this.connection.client.blpop(given, ...keys, blockMs / 1_000);
      if (popped === null) return NOTHING;
      return popped[0] === given ? { rang: false, calls: await this.given(popped[1]) } : RANG;
    } catch (error) {
      throw this.connection.translate('BLPOP', error);
    } finally {
      this.reading = false;
    }
  }

  /**
   * Travels with the wait that follows, once it is known that it may. A bare ZADD, for an idle process does it all the
   * time; Redis's clock is asked for now and then only. A clock that was set meanwhile makes an offer last too short,
   * and the bell rings, or too long: then the end of its worker takes it away.
   */
  private async offer(pool: string, blockMs: number, places: number): Promise<void> {
    if (this.offering === 'refused') return;
    this.offered = pool;
    const now = systemClock.elapsed();
    if (now - this.redisTime.at > REDIS_TIME_LASTS_MS) {
      const asked = this.askRedisTime(now);
      if (this.offering === 'untried') await asked;
    }
    if (this.redisTime.at === -Infinity) return;
    const ends = Math.floor(now) + this.redisTime.offsetMs + blockMs;
    const score = (ends + places / PLACES_UNIT).toFixed(4);
    const sent = this.connection.client.zadd(this.keys.poolOffers(pool), score, this.consumer).then(
      () => (this.offering = 'works'),
      () => this.refuseOffers(),
    );
    if (this.offering === 'untried') await sent;
  }

  private async askRedisTime(at: number): Promise<void> {
    try {
      const [seconds, micros] = await this.connection.client.time();
      const offsetMs = Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000) - at;
      this.redisTime = { offsetMs: Math.floor(offsetMs), at };
    } catch {
      this.refuseOffers();
    }
  }

  /** The bell rings for all calls then. */
  private refuseOffers(): void {
    this.offering = 'refused';
    this.offered = undefined;
  }

  async withdraw(): Promise<readonly RawCall[]> {
    const pool = this.offered;
    if (pool === undefined) return [];
    const given = this.keys.given(this.consumer);
    const [, texts] = await this.connection.command('withdraw', (client) =>
      Promise.all([
        client.zrem(this.keys.poolOffers(pool), this.consumer),
        client.lrange(given, 0, -1),
        client.del(given),
      ]),
    );
    this.offered = undefined;
    return (await Promise.all(texts.map((text) => this.given(text)))).flat();
  }

  /** What was given stays pending for this consumer. */
  private async forgetOffer(): Promise<void> {
    const pool = this.offered;
    this.offered = undefined;
    if (pool === undefined || !this.commands.isReady()) return;
    await this.commands
      .command('withdraw', (client) =>
        Promise.all([
          client.zrem(this.keys.poolOffers(pool), this.consumer),
          client.del(this.keys.given(this.consumer)),
        ]),
      )
      .catch(() => undefined);
  }

  /** Calls out of what was given: lines of function id, entry id and call. */
  private async given(text: string): Promise<RawCall[]> {
    const calls: RawCall[] = [];
    for (const line of text.split('\n')) {
      const idEnd = line.indexOf('\t');
      const entryEnd = line.indexOf('\t', idEnd + 1);
      const ref = this.refOf(line.slice(0, idEnd));
      if (ref === undefined) continue;
      if (entryEnd < 0) calls.push(...(await this.pendingOf([ref])));
      else {
        const fields = [CALL_FIELDS.call, line.slice(entryEnd + 1)];
        calls.push({ ref, entryId: line.slice(idEnd + 1, entryEnd), fields });
      }
    }
    return calls;
  }

  private async script(
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<unknown> {
    try {
      return await runScript(this.connection.client, scripts.take, keys, args);
    } catch (error) {
      throw this.connection.translate('take', error);
    }
  }

  async pending(refs: readonly FunctionRef[]): Promise<RawCall[]> {
    await this.withdraw();
    return this.pendingOf(refs);
  }

  private async pendingOf(refs: readonly FunctionRef[]): Promise<RawCall[]> {
    const streams = refs.map((ref) => this.keys.calls(ref));
    const answer = await this.connection.command('XREADGROUP', (client) =>
      client.xreadgroup(
        'GROUP',
        GROUP,
        this.consumer,
        'STREAMS',
        ...streams,
        ...refs.map(() => '0'),
      ),
    );
    return flatten(refs, streams, answer);
  }

  async wake(): Promise<boolean> {
    if (this.unwakeable) return true;
    const id = this.clientId;
    if (!this.reading || id === undefined || !this.connection.isReady()) return false;
    try {
      const unblock = (client: Redis): Promise<unknown> => client.client('UNBLOCK', id);
      return (await this.commands.command('CLIENT UNBLOCK', unblock)) === 1;
    } catch (error) {
      if (this.tellUnwakeable(error)) return true;
      throw error;
    }
  }

  private tellUnwakeable(error: unknown): boolean {
    if (!isRefused(error)) return false;
    // To ask again would be refused again: the read ends by itself.
    this.unwakeable = true;
    this.trouble.tell(
      `a read that waits cannot be woken, and what changes takes up to 2 s: ${error.message}`,
    );
    return true;
  }

  reset(): void {
    this.connection.reset();
  }

  async close(): Promise<void> {
    const id = this.clientId;
    // The server may not have noticed a broken connection yet, and would go on delivering into it. Once this
    // is acknowledged nothing more reaches this consumer through it.
    if (this.reading && id !== undefined && this.commands.isReady()) {
      await this.commands
        .command('CLIENT KILL', (client) => client.client('KILL', 'ID', id))
        .catch(() => undefined);
    }
    await this.forgetOffer();
    this.connection.close();
  }
}

/** What stands before and after a function's id in the key of its calls. */
function callsParts(keys: Keys): readonly [string, string] {
  return around(keys.calls({ id: '\0', functionName: '', workflowId: '' }));
}

function flatten(
  refs: readonly FunctionRef[],
  streams: readonly string[],
  answer: StreamAnswer,
): RawCall[] {
  if (answer === null) return [];
  const calls: RawCall[] = [];
  for (const [key, entries] of answer) {
    const ref = refs[streams.indexOf(key)];
    if (ref === undefined) continue;
    // An entry without fields was removed while it was pending: there is nothing left to run.
    for (const [entryId, fields] of entries)
      if (fields !== null) calls.push({ ref, entryId, fields });
  }
  return calls;
}
