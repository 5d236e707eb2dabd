import type { Redis } from 'ioredis';

/** Ends every connection of a server that holds subscriptions; how many there were. */
export async function killSubscribers(redis: Redis): Promise<number> {
  return Number(await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
}
