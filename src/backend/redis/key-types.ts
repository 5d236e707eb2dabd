import { messageOf } from '../../common/text.js';
import { BrokenKeyError } from '../broken-key-error.js';
import type { RedisConnection } from './redis-connection.js';

/** What the library keeps in its keys, by their ends; docs/architecture.md lists them. */
const TYPES: readonly (readonly [type: string, end: RegExp])[] = [
  ['stream', /:(calls|dead|replies)$/],
  ['zset', /:(delayed|unclaimed|due|offers)$/],
  ['hash', /:(aside|workers|processes|circuit-counts|generation|inbox)$|}:once:/],
  ['set', /:(bells|functions|hosted)$/],
  ['list', /:(wake|given)$/],
  ['string', /:(definition|epoch|lease|grave|supervisor|deputy|circuit|restart)$/],
];

/** The type that a key of the library has, as Redis's TYPE names it. */
export function typeOfKey(key: string): string | undefined {
  return TYPES.find(([, end]) => end.test(key))?.[0];
}

/** A key that is known to hold something else. */
export function brokenKey(key: string): BrokenKeyError {
  return new BrokenKeyError(key, typeOfKey(key) ?? 'value of the library');
}

/** Redis says that a key holds something else, and not which: of these, the one that does. Any other error as it is. */
export async function namingBrokenKey(
  connection: RedisConnection,
  keys: readonly string[],
  error: unknown,
): Promise<unknown> {
  // Redis before 7 puts words of its own in front of what failed in a script.
  if (!messageOf(error).includes('WRONGTYPE')) return error;
  const types = await connection
    .command('TYPE', (client) => Promise.all(keys.map((key) => client.type(key))))
    .catch(() => []);
  const broken = keys.find((key, index) => {
    const type = types[index] ?? 'none';
    return type !== 'none' && type !== typeOfKey(key);
  });
  return broken === undefined ? error : brokenKey(broken);
}
