import type { FunctionRef } from '../../protocol/function-ref.js';
import type { Bell, CallReader, Offer, PoolRead, RawCall, Taken } from '../call-streams.js';
import { Blocked } from './blocked.js';
import type { MemoryConnection } from './memory-connection.js';
import { noGroup, type BlockedRead, type MemoryFunction } from './memory-function.js';
import { MemoryReader } from './memory-reader.js';
import type { MemorySpace } from './memory-space.js';
import type { Pool, Taker } from './pool.js';
import { takeFromPool } from './take-from-pool.js';

/** A consumer's read of calls; see {@link CallReader}. */
export class MemoryCallReader extends MemoryReader<RawCall[]> implements CallReader {
  /** Given to it, and not told yet. */
  private readonly given: RawCall[] = [];
  private takeBackOffer: () => void = () => undefined;

  constructor(
    connection: MemoryConnection,
    private readonly consumer: string,
    private readonly onClosed: (reader: MemoryCallReader) => void,
  ) {
    super(connection, 'XREADGROUP');
    if (!connection.isClosed) connection.server.openReader(consumer);
  }

  read(refs: readonly FunctionRef[], count: number, blockMs: number): Promise<RawCall[]> {
    return this.begin((space) => {
      const fns = refs.map((ref) => grouped(space, ref));
      const calls = fns.flatMap((fn) => fn.take(this.consumer, count));
      return calls.length > 0 || blockMs === 0 ? calls : this.block(fns, count, blockMs);
    });
  }

  take({ pools, waits = false, ...read }: PoolRead): Promise<Taken> {
    return this.begin((space) => {
      const calls: RawCall[] = waits ? this.given.splice(0) : this.takeBack();
      let more = false;
      for (const poolId of pools) {
        if (calls.length >= read.limit) {
          more = true;
          break;
        }
        const limit = read.limit - calls.length;
        try {
          const taken = takeFromPool(space, poolId, this.consumer, { ...read, limit });
          calls.push(...taken.calls);
          more ||= taken.more;
        } catch (error) {
          // What was taken so far is told first, and this in the next look.
          if (calls.length === 0) throw error;
          more = true;
          break;
        }
      }
      if (calls.length > 0) this.takeBack();
      return { calls, more };
    });
  }

  isDue(pools: readonly string[]): Promise<boolean> {
    return this.begin((space) => pools.some((poolId) => space.pool(poolId).isDue));
  }

  /**
   * Who is woken takes calls in the same tick: there is nothing to gain by giving it those that are added. It is given
   * bound ones that another worker passes on, for whoever is blocked in a read would always get them first.
   */
  waitForBell(pools: readonly string[], blockMs: number, offer?: Offer): Promise<Bell> {
    return this.begin<Bell>((space) => {
      const bells = pools.map((poolId) => space.pool(poolId));
      if (offer !== undefined && offer.places > 0) this.offer(bells, offer.until);
      if (this.given.length > 0) return { rang: false, calls: this.given.splice(0) };
      if (bells.some((pool) => pool.takeToken())) return { rang: true, calls: [] };
      let rang = false;
      const ring = (): void => {
        rang = true;
        blocked.wake();
      };
      const blocked = this.wait(blockMs, () => bells.forEach((pool) => pool.stopWaiting(ring)));
      for (const pool of bells) pool.wait(ring);
      return blocked.promise.then(() => ({ rang, calls: rang ? [] : this.given.splice(0) }));
    });
  }

  withdraw(): Promise<readonly RawCall[]> {
    return this.begin(() => this.takeBack());
  }

  /** One call at the most: what is given ends the offer. */
  private offer(bells: readonly Pool[], until: number): void {
    this.takeBackOffer();
    const taker: Taker = {
      until,
      give: (call) => {
        this.takeBackOffer();
        this.given.push(call);
        this.blocked?.wake();
      },
    };
    for (const pool of bells) pool.offers.set(this.consumer, taker);
    this.takeBackOffer = () => {
      for (const pool of bells)
        if (pool.offers.get(this.consumer) === taker) pool.offers.delete(this.consumer);
    };
  }

  private takeBack(): RawCall[] {
    this.takeBackOffer();
    return this.given.splice(0);
  }

  pending(refs: readonly FunctionRef[]): Promise<RawCall[]> {
    return this.begin((space) => {
      // What was given is pending, too.
      this.takeBack();
      return refs.flatMap((ref) =>
        grouped(space, ref)
          .queue.heldBy(this.consumer)
          .map(({ id, fields }) => ({ ref, entryId: id, fields })),
      );
    });
  }

  wake(): Promise<boolean> {
    return this.begin(() => this.blocked?.wake() ?? false);
  }

  protected ended(): void {
    this.takeBackOffer();
    if (!this.connection.isClosed) this.connection.server.closeReader(this.consumer);
    this.onClosed(this);
  }

  /** Runs a command on this reader's own connection. */
  private begin<T>(step: (space: MemorySpace) => T | Promise<T>): Promise<T> {
    if (this.isClosed) return Promise.reject(this.connection.closedError());
    return this.connection.run(step);
  }

  private block(
    fns: readonly MemoryFunction[],
    count: number,
    blockMs: number,
  ): Promise<RawCall[]> {
    const read: BlockedRead = {
      serve: (fn) => blocked.end(fn.take(this.consumer, count)),
      fail: (error) => blocked.end(error),
    };
    const blocked = this.wait(blockMs, () => fns.forEach((fn) => fn.blockedReads.delete(read)));
    for (const fn of fns) fn.blockedReads.add(read);
    return blocked.promise;
  }

  private wait(blockMs: number, ended: () => void): Blocked<RawCall[]> {
    const blocked = new Blocked<RawCall[]>(this.connection.server, blockMs, [], () => {
      if (this.blocked === blocked) this.blocked = undefined;
      ended();
    });
    this.blocked = blocked;
    return blocked;
  }
}

/** @throws what a read says without a consumer group: its caller makes it again */
function grouped(space: MemorySpace, ref: FunctionRef): MemoryFunction {
  const fn = space.find(ref);
  if (fn?.queue.hasGroup !== true) throw noGroup(ref);
  return fn;
}
