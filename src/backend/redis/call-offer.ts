import { isRefused } from '../../common/errors.js';
import type { Keys } from '../../protocol/keys.js';
import type { Offer } from '../call-streams.js';
import type { RedisConnection } from './redis-connection.js';
import { scripts } from './scripts.js';

/** Calls that are given to one process at once, at the most: what one tick of a caller hands over. */
const MAX_GIVEN = 128;
/** How many calls an offer is for is the fraction of its score, in these parts; see give.lua. */
const PLACES_UNIT = 1_024;

/**
 * A consumer's offer to take calls while it waits for its pools' bells. Until it is known to be gone from a pool it counts
 * as standing there, also when the connection broke before it was acknowledged: what was given by it has to be looked for.
 */
export class CallOffer {
  private readonly pools = new Set<string>();
  /** Its user lacks a right for it. */
  private refused = false;
  /** Whether the inbox was opened through this connection; Redis may have been emptied before it. */
  private isOpen = false;
  private made = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly keys: Keys,
    private readonly consumer: string,
  ) {}

  /** Whether it may stand in this pool. */
  stands(poolId: string): boolean {
    return this.pools.has(poolId);
  }

  /** Whether it ever was: else nothing was given. */
  get wasMade(): boolean {
    return this.made;
  }

  /** Another connection, on which its user may have other rights. */
  reconnected(): void {
    this.refused = false;
    this.isOpen = false;
  }

  /** It is gone from this pool. */
  ended(poolId: string): void {
    this.pools.delete(poolId);
  }

  /**
   * Makes it, on the way with the wait that follows. Each of several pools is offered its part of the places: all of
   * them may give. One that is for more places than there are by now goes.
   */
  make(pools: readonly string[], { places, until }: Offer): void {
    const each = Math.min(MAX_GIVEN, Math.floor(places / pools.length));
    if (this.refused) return;
    if (each === 0) return this.endUnderWay();
    this.made = true;
    this.openInbox();
    const score = (Math.floor(until) + each / PLACES_UNIT).toFixed(4);
    for (const pool of pools) {
      this.pools.add(pool);
      this.connection.client
        .zadd(this.keys.poolOffers(pool), score, this.consumer)
        .catch((error: unknown) => this.noteFailure(error));
    }
  }

  /** Who offers has an inbox; a session that is lost gets none. */
  private openInbox(): void {
    if (this.isOpen) return;
    this.isOpen = true;
    const keys = [this.keys.processes(), this.keys.inbox(this.consumer)];
    // With its text: asked for by its hash first, it might be there later than the offer.
    this.connection.client
      .eval(scripts.openInbox.lua, keys.length, ...keys, this.consumer)
      .catch((error: unknown) => {
        this.isOpen = false;
        this.noteFailure(error);
        // There is none to look into.
        if (this.refused) this.made = false;
      });
  }

  /** It counts as standing all the same: something may have been given before. */
  private endUnderWay(): void {
    for (const pool of this.pools)
      this.connection.client
        .zrem(this.keys.poolOffers(pool), this.consumer)
        .catch((error: unknown) => this.noteFailure(error));
  }

  /**
   * Who may not offer hears the bell for all calls. What else went wrong may go well with the next offer; and where it
   * stands in other pools, what it is given there has to be taken back.
   */
  private noteFailure(error: unknown): void {
    if (!isRefused(this.connection.translate('offer', error), 'NOPERM')) return;
    this.refused = true;
    this.pools.clear();
  }

  /** Takes it back; what was given meanwhile. First the offer, so that nothing is given after the look. */
  async takeBack(through = this.connection): Promise<readonly string[]> {
    const pools = [...this.pools];
    if (pools.length === 0) return [];
    const given = this.keys.given(this.consumer);
    const texts = await through.command('withdraw', async (client) => {
      const offers = pools.map((pool) =>
        client.zrem(this.keys.poolOffers(pool), this.consumer).catch((error: unknown) => {
          // No offer stands in a key that holds something else.
          if (!isRefused(this.connection.translate('withdraw', error), 'WRONGTYPE')) throw error;
        }),
      );
      const all = [...offers, client.lrange(given, 0, -1), client.del(given)];
      return (await Promise.all(all))[pools.length] as string[];
    });
    for (const pool of pools) this.pools.delete(pool);
    return texts;
  }

  /** Takes it back for good: nothing is given any more. */
  async close(through: RedisConnection): Promise<void> {
    await this.takeBack(through);
    if (!this.made) return;
    await through.command('withdraw', (client) => client.hdel(this.keys.inbox(this.consumer), '#'));
  }
}
