/**
 * What a look of the supervisor costs as the fleet grows: `node --import ./tools/register-ts.mjs
 * test/lifecycle/look-price.ts`. Sessions are listed, have a lease and a presence, all of them on one connection; a look
 * is the supervisor's own, with a Redis of its own.
 */
import 'reflect-metadata';
import { Redis } from 'ioredis';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { OFFICE_LEASES } from '../../src/lifecycle/office-candidate.js';
import { Keys } from '../../src/protocol/keys.js';
import { startRedis } from '../../tools/redis.mjs';

const SIZES = [10, 100, 1_000, 10_000];
const LOOKS = 200;
/** Names as long as those that the library makes. */
const sessionOf = (n: number): string => `host-${String(n).padStart(6, '0')}-0123456789abcdef`;

const redis = await startRedis();
const keys = new Keys('');
const [admin, presences] = [new Redis(redis.url), new Redis(redis.url)];
const backend = new RedisBackend(redis.url, keys);
const supervisor = sessionOf(0);
await new Promise<void>((resolve) => {
  backend.onConnected(resolve);
  backend.start();
});

let size = 0;
for (const next of SIZES) {
  await grow(next);
  await backend.fleet.elect(supervisor, OFFICE_LEASES);
  const [plain, withLeases] = [await timesOf(false), await timesOf(true)];
  console.log(
    `${next} sessions: Redis is busy for ${plain.toFixed(2)} ms with a look, ${withLeases.toFixed(2)} ms with leases`,
  );
}
for (const client of [admin, presences]) client.disconnect();
await backend.close();
await redis.stop();

async function grow(to: number): Promise<void> {
  for (; size < to; size += 1) {
    const session = sessionOf(size);
    await Promise.all([
      admin.hset(keys.processes(), session, 'present'),
      admin.set(keys.lease(session), '0'),
      presences.subscribe(keys.control(session)),
    ]);
  }
}

/** Milliseconds of Redis's time for a look, as it counts them itself. */
async function timesOf(withLeases: boolean): Promise<number> {
  await admin.config('RESETSTAT');
  for (let n = 0; n < LOOKS; n += 1) {
    const view = await backend.fleet.look(supervisor, OFFICE_LEASES.supervisorMs, withLeases, true);
    if (view?.absent.length !== 0 || view.lapsed.length > 0) throw new Error('somebody is missing');
  }
  const stats = await admin.info('commandstats');
  const [, calls = '0', usec = '0'] = /cmdstat_evalsha:calls=(\d+),usec=(\d+)/.exec(stats) ?? [];
  return Number(usec) / Number(calls) / 1_000;
}
