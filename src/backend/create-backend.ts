import type { Clock } from '../common/clock.js';
import { InvalidOptionsError } from '../common/errors.js';
import { explainMissing } from '../common/optional-package.js';
import type { Keys } from '../protocol/keys.js';
import type { Backend } from './backend.js';
import type { RedisSource } from './redis/redis-connection.js';

/** Makes a backend of one's own, for the `connection` option; `nestjs-functions/conformance` says whether it will do. */
export type CustomBackend = (keys: Keys, clock: Clock) => Backend | Promise<Backend>;

/** The name of the memory that a connection asks for, `''` included; `undefined` when it asks for Redis. */
export function memoryName(connection: unknown): string | undefined {
  if (typeof connection !== 'string') return undefined;
  return /^memory:\/\/([A-Za-z0-9._-]{0,64})$/.exec(connection)?.[1];
}

/**
 * The backend that a connection asks for. Only that one is loaded: an application on `memory://` needs no ioredis.
 *
 * @throws InvalidOptionsError when there is no ioredis, and it is needed, or when a function makes something else
 */
export async function createBackend(
  connection: unknown,
  keys: Keys,
  clock: Clock,
): Promise<Backend> {
  const memory = memoryName(connection);
  if (memory !== undefined) {
    const { MemoryBackend } = await import('./memory/memory-backend.js');
    return new MemoryBackend(memory, keys, clock);
  }
  if (typeof connection === 'function')
    return createCustom(connection as CustomBackend, keys, clock);
  const { RedisBackend } = await import('./redis/redis-backend.js').catch(
    explainMissing('ioredis', {
      path: 'connection',
      value: 'a Redis, without the package ioredis',
      allowed: 'a Redis when ioredis is installed (npm i ioredis), or memory:// without it',
    }),
  );
  return new RedisBackend(connection as RedisSource, keys);
}

const PARTS = ['bus', 'workers', 'fleet', 'calls', 'deadLetters', 'circuits', 'workflows'] as const;

async function createCustom(create: CustomBackend, keys: Keys, clock: Clock): Promise<Backend> {
  const backend: Partial<Backend> | undefined = await create(keys, clock);
  const missing = PARTS.filter((part) => typeof backend?.[part] !== 'object');
  if (missing.length === 0) return backend as Backend;
  throw new InvalidOptionsError([
    {
      path: 'connection',
      value: `a function whose result has no ${missing.join(', ')}`,
      allowed: 'a function that makes a backend: (keys, clock) => Backend',
    },
  ]);
}
