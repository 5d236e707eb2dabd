import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { Complaint } from '../../common/complaint.js';
import { isRefused } from '../../common/errors.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Keys } from '../../protocol/keys.js';
import { parseFunctionId } from '../../protocol/keys.js';
import type { Bell, CallReader, Offer, PoolRead, RawCall, Taken } from '../call-streams.js';
import { CallOffer } from './call-offer.js';
import { givenCall, givenId, parseTold } from './given-calls.js';
import type { RedisConnection } from './redis-connection.js';
import { around } from './redis-worker-store.js';
import { runScript, scripts } from './scripts.js';

/** The one consumer group of every function. */
export const GROUP = 'workers';

/** What a look does with an offer, for take.lua. */
const OFFER = { none: 0, takenBack: 1, keptWithoutCalls: 2 } as const;
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
  private readonly offer: CallOffer;
  /** Of the functions that were taken so far. */
  private readonly refs = new Map<string, FunctionRef>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly commands: RedisConnection,
    private readonly keys: Keys,
    private readonly consumer: string,
  ) {
    this.callsParts = callsParts(keys);
    this.offer = new CallOffer(connection, keys, consumer);
    connection.onReady(() => {
      this.clientId = undefined;
      this.unwakeable = false;
      this.offer.reconnected();
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

  async take(read: PoolRead): Promise<Taken> {
    const { pools, limit } = read;
    const calls: RawCall[] = [];
    let more = false;
    for (const poolId of pools) {
      if (calls.length >= limit) return { calls, more: true };
      try {
        const taken = await this.takeFrom(poolId, read, limit - calls.length);
        calls.push(...taken.calls);
        more ||= taken.more;
      } catch (error) {
        // What was taken so far is told first, and this in the next look.
        if (calls.length === 0) throw error;
        return { calls, more: true };
      }
    }
    return { calls, more };
  }

  private async takeFrom(
    poolId: string,
    { functions, perFunction, rooms, waits = false }: PoolRead,
    limit: number,
  ): Promise<Taken> {
    const { keys, consumer } = this;
    const stands = this.offer.stands(poolId);
    const keeps = waits ? OFFER.keptWithoutCalls : OFFER.takenBack;
    const [more, given, ...entries] = (await this.script(
      [keys.poolDue(poolId), keys.poolWake(poolId), keys.poolOffers(poolId), keys.given(consumer)],
      [
        ...[GROUP, consumer, ...this.callsParts, limit, functions, perFunction],
        stands ? keeps : OFFER.none,
        ...rooms.flatMap(({ ref, room }) => [ref.id, room]),
      ],
    )) as [number, string[], ...(string | Entries)[]];
    const isKept = waits && given.length === 0 && entries.length === 0;
    if (stands && !isKept) this.offer.ended(poolId);
    const calls = await this.given(given);
    for (let i = 0; i + 1 < entries.length; i += 2) {
      const ref = this.refOf(entries[i] as string);
      if (ref === undefined) continue;
      for (const [entryId, fields] of entries[i + 1] as Entries)
        if (fields !== null) calls.push({ ref, entryId, fields });
    }
    return { calls, more: more === 1 };
  }

  private refOf(id: string): FunctionRef | undefined {
    const known = this.refs.get(id);
    if (known !== undefined) return known;
    // A part of a text keeps all of it in memory, here for good: payloads of many megabytes.
    const own = Buffer.from(id).toString();
    const ref = parseFunctionId(own);
    if (ref !== undefined) this.refs.set(own, ref);
    return ref;
  }

  async isDue(pools: readonly string[]): Promise<boolean> {
    try {
      return (await this.connection.client.exists(...pools.map((id) => this.keys.poolDue(id)))) > 0;
    } catch (error) {
      throw this.connection.translate('EXISTS', error);
    }
  }

  async waitForBell(pools: readonly string[], blockMs: number, offer?: Offer): Promise<Bell> {
    this.reading = true;
    try {
      const given = this.keys.given(this.consumer);
      const keys = pools.map((poolId) => this.keys.poolWake(poolId));
      const popped = await this.connection.inOneWrite((client) => {
        if (offer !== undefined) this.offer.make(pools, offer);
        return client.blpop(given, ...keys, blockMs / 1_000);
      });
      if (popped === null) return NOTHING;
      return popped[0] === given ? { rang: false, calls: await this.given([popped[1]]) } : RANG;
    } catch (error) {
      throw this.connection.translate('BLPOP', error);
    } finally {
      this.reading = false;
    }
  }

  async withdraw(): Promise<readonly RawCall[]> {
    return this.given(await this.offer.takeBack());
  }

  /**
   * Calls out of what it was told.
   *
   * Interleaving: what else is pending runs here, and may be settled before the answer to that look is read. It would be
   * taken for new then, and run again: only what it was told of counts.
   */
  private async given(texts: readonly string[]): Promise<RawCall[]> {
    const { calls, pending } = parseTold(texts, this.consumer, (id) => this.refOf(id));
    for (const [ref, entryIds] of pending)
      calls.push(...(await this.pendingOf([ref])).filter(({ entryId }) => entryIds.has(entryId)));
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
    // What was given lies in the inbox, or is pending.
    await this.offer.takeBack();
    return [...(await this.pendingOf(refs)), ...(await this.inInbox(refs))];
  }

  /** What was given to it, in its order. */
  private async inInbox(refs: readonly FunctionRef[]): Promise<RawCall[]> {
    if (!this.offer.wasMade) return [];
    const ids = new Set(refs.map(({ id }) => id));
    const inbox = await this.connection
      .command('HGETALL', (client) => client.hgetall(this.keys.inbox(this.consumer)))
      .catch((error: unknown) => {
        // Nothing is left in a key that holds something else.
        if (isRefused(error, 'WRONGTYPE')) return {};
        throw error;
      });
    return Object.entries(inbox)
      .flatMap(([field, line]) => {
        const entryId = givenId(this.consumer, field);
        return givenCall(line, entryId, (id) => (ids.has(id) ? this.refOf(id) : undefined)) ?? [];
      })
      .sort((a, b) => numberOf(a) - numberOf(b));
  }

  private async pendingOf(refs: readonly FunctionRef[]): Promise<RawCall[]> {
    try {
      return await this.readPending(refs);
    } catch (error) {
      // Of one of them the group is gone, or its key holds no stream: nothing of that one is pending.
      if (!isRefused(error, 'NOGROUP') && !isRefused(error, 'WRONGTYPE')) throw error;
      if (refs.length === 1) return [];
      return (await Promise.all(refs.map((ref) => this.pendingOf([ref])))).flat();
    }
  }

  private async readPending(refs: readonly FunctionRef[]): Promise<RawCall[]> {
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
    if (this.commands.isReady()) await this.offer.close(this.commands).catch(() => undefined);
    this.connection.close();
  }
}

/** A given call's number in its inbox. */
function numberOf({ entryId }: RawCall): number {
  return parseInt(entryId.slice(entryId.indexOf('-') + 1), 10);
}

/** What stands before and after a function's id in the key of its calls. */
export function callsParts(keys: Keys): readonly [string, string] {
  return around(keys.calls({ id: '\0', functionName: '', workflowId: '' }));
}

function flatten(
  refs: readonly FunctionRef[],
  streams: readonly string[],
  answer: StreamAnswer,
): RawCall[] {
  if (answer === null) return [];
  const calls: RawCall[] = [];
  let next = 0;
  for (const [key, entries] of answer) {
    // Redis answers in the order in which it was asked. Were that not so, nothing may be lost by it.
    const found = streams.indexOf(key, next);
    const at = found < 0 ? streams.indexOf(key) : found;
    const ref = refs[at];
    if (ref === undefined) continue;
    next = at + 1;
    // An entry without fields was removed while it was pending: there is nothing left to run.
    for (const [entryId, fields] of entries)
      if (fields !== null) calls.push({ ref, entryId, fields });
  }
  return calls;
}
