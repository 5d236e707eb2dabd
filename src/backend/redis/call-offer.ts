import { isRefused } from '../../common/errors.js';
import type { Keys } from '../../protocol/keys.js';
import type { Offer } from '../call-streams.js';
import type { RedisConnection } from './redis-connection.js';

/** Calls that are given to one process at once, at the most. */
const MAX_GIVEN = 64;
/** How many calls an offer is for is the fraction of its score, in these parts; see give.lua. */
const PLACES_UNIT = 1_024;

/**
 * A consumer's offer to take calls while it waits for its pool's bell. Until it is known to be gone it counts as
 * standing, also when the connection broke before it was acknowledged: what was given by it has to be looked for.
 */
export class CallOffer {
  private pool: string | undefined;
  private refused = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly keys: Keys,
    private readonly consumer: string,
  ) {}

  /** Whether it may stand in this pool. */
  stands(poolId: string): boolean {
    return this.pool === poolId;
  }

  /** Another connection, on which its user may have other rights. */
  reconnected(): void {
    this.refused = false;
  }

  /** It is gone from Redis. */
  ended(): void {
    this.pool = undefined;
  }

  /** Makes it, on the way with the wait that follows. */
  make(poolId: string, { places, until }: Offer): void {
    if (this.refused) return;
    this.pool = poolId;
    const score = Math.floor(until) + Math.min(places, MAX_GIVEN) / PLACES_UNIT;
    this.connection.client
      .zadd(this.keys.poolOffers(poolId), score.toFixed(4), this.consumer)
      .catch((error: unknown) => this.noteFailure(error));
  }

  /** Who may not offer hears the bell for all calls. */
  private noteFailure(error: unknown): void {
    if (!isRefused(this.connection.translate('ZADD', error))) return;
    this.refused = true;
    this.pool = undefined;
  }

  /** Takes it back; what was given meanwhile. First the offer, so that nothing is given after the look. */
  async takeBack(through = this.connection): Promise<readonly string[]> {
    const { pool } = this;
    if (pool === undefined) return [];
    const given = this.keys.given(this.consumer);
    const [, texts] = await through.command('withdraw', (client) =>
      Promise.all([
        client.zrem(this.keys.poolOffers(pool), this.consumer),
        client.lrange(given, 0, -1),
        client.del(given),
      ]),
    );
    this.pool = undefined;
    return texts;
  }
}
