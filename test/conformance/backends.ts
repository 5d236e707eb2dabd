import { Redis } from 'ioredis';
import { MemoryBackend } from '../../src/backend/memory/memory-backend.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { systemClock } from '../../src/common/clock.js';
import type { BackendUnderTest } from '../../src/conformance/index.js';
import { redisUrl } from '../harness/apps.js';

/** A backend of this project, as the suite gets it. */
export interface OwnBackend extends BackendUnderTest {
  readonly title: string;
  /** Removes what the cases stored. */
  close(): Promise<void>;
}

/** The Redis of this test run. */
export function onRedis(): OwnBackend {
  const redis = new Redis(redisUrl());
  const prefixes = new Set<string>();
  const remove = async (prefix: string): Promise<void> => {
    const keys = await redis.keys(`${prefix}*`);
    if (keys.length > 0) await redis.del(...keys);
  };
  return {
    title: 'redis',
    create: (keys) => {
      prefixes.add(keys.prefix);
      return new RedisBackend(redisUrl(), keys);
    },
    forget: (keys) => remove(keys.prefix),
    destroyGroup: async (keys, ref) => {
      await redis.xgroup('DESTROY', keys.calls(ref), 'workers');
    },
    spoil: async (keys, ref) => {
      await redis.set(keys.calls(ref), 'taken');
      return async () => void (await redis.del(keys.calls(ref)));
    },
    close: async () => {
      for (const prefix of prefixes) await remove(prefix);
      redis.disconnect();
    },
  };
}

/** The memory of this process. */
export function onMemory(): OwnBackend {
  const made = new Set<MemoryBackend>();
  const server = (): MemoryBackend['server'] => {
    for (const backend of made) if (backend.isConnected()) return backend.server;
    throw new Error('no backend is open');
  };
  return {
    title: 'memory',
    create: (keys) => {
      const backend = new MemoryBackend('conformance', keys, systemClock);
      made.add(backend);
      return backend;
    },
    forget: (keys) => Promise.resolve(server().forget(keys.prefix)),
    destroyGroup: (keys, ref) =>
      Promise.resolve(server().space(keys.prefix).find(ref)?.destroyGroup()),
    close: () => Promise.resolve(),
  };
}
