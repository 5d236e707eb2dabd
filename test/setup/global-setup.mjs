import { obtainRedis } from '../../tools/redis.mjs';

/** One Redis for the whole run: the user's REDIS_URL, else a private one. Tests part by key prefix. */
export default async function globalSetup() {
  const redis = await obtainRedis();
  process.env.TEST_REDIS_URL = redis.url;
  globalThis.stopTestRedis = () => redis.stop();
}
