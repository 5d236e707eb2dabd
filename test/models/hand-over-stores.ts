import { Redis } from 'ioredis';
import type { Backend } from '../../src/backend/backend.js';
import { MemoryBackend } from '../../src/backend/memory/memory-backend.js';
import type { MemorySpace } from '../../src/backend/memory/memory-space.js';
import { sharedKey } from '../../src/backend/memory/memory-space.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { systemClock } from '../../src/common/clock.js';
import { partsOf, splitReplies } from '../../src/protocol/call.js';
import type { FunctionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { redisUrl, uniquePrefix } from '../harness/apps.js';

/** What is stored of a function. */
export interface StoredCalls {
  /** In their order. */
  readonly entries: readonly { readonly entryId: string; readonly callId: string }[];
  /** Who holds them. */
  readonly owners: readonly string[];
  readonly aside: number;
  readonly dead: number;
}

/** The store under the model of the hand-over: it is looked at from behind, past the backend. */
export interface HandOverStore {
  readonly title: string;
  readonly backend: Backend;
  /** Begins anew, with a reply stream for process `p`. */
  clear(): Promise<void>;
  /** What process `p` was told since it was asked last. */
  hear(): Promise<readonly (readonly [callId: string, text: string])[]>;
  look(): Promise<StoredCalls>;
  /** The entry of the call that is shared by a key. */
  sharedEntry(key: string): Promise<string | undefined>;
  /** Destroys the group while `meanwhile` finds a worker of another session registered. */
  destroyGroup(meanwhile: () => Promise<void>): Promise<void>;
  /** Lets the time be over in which workers claim what they run. */
  endTimeToClaim(): Promise<void>;
  close(): Promise<void>;
}

const REPLIES_TO = 'p';

export function onRedis(ref: FunctionRef): HandOverStore {
  const prefix = uniquePrefix();
  const keys = new Keys(prefix);
  const redis = new Redis(redisUrl());
  const backend = new RedisBackend(redisUrl(), keys);
  let seen = '0-0';
  const removeAll = async (): Promise<void> => {
    const all = await redis.keys(`${prefix}*`);
    if (all.length > 0) await redis.del(...all);
  };
  return {
    title: 'redis',
    backend,
    clear: async () => {
      await removeAll();
      seen = '0-0';
      await redis.xgroup('CREATE', keys.replies(REPLIES_TO), 'keeper', '0', 'MKSTREAM');
    },
    hear: async () => {
      const entries = await redis.xrange(keys.replies(REPLIES_TO), `(${seen}`, '+');
      seen = entries.at(-1)?.[0] ?? seen;
      return entries.flatMap(([, fields]) =>
        splitReplies(fields[1] ?? '').map(({ callId, reply }) => [callId, reply] as const),
      );
    },
    look: async () => {
      const [entries, pending, aside, delayed, dead] = await Promise.all([
        redis.xrange(keys.calls(ref), '-', '+'),
        redis.xpending(keys.calls(ref), 'workers', '-', '+', 1_000) as Promise<[string, string][]>,
        redis.hlen(keys.aside(ref)),
        redis.zcard(keys.delayed(ref)),
        redis.xlen(keys.deadLetters(ref)),
      ]);
      if (aside !== delayed) throw new Error(`${aside} calls are aside, ${delayed} are delayed`);
      return {
        entries: entries.map(([entryId, fields]) => ({ entryId, callId: partsOf(fields).callId })),
        owners: pending.map(([, owner]) => owner),
        aside,
        dead,
      };
    },
    sharedEntry: async (key) => (await redis.hget(keys.once(ref, key), 'entry')) ?? undefined,
    destroyGroup: async (meanwhile) => {
      const record = JSON.stringify({ workerId: 'w', processId: 'other' });
      await redis.hset(keys.workers(ref), 'w', record);
      await redis.xgroup('DESTROY', keys.calls(ref), 'workers');
      await meanwhile();
      await redis.del(keys.workers(ref));
    },
    endTimeToClaim: async () => {
      await redis.zadd(keys.unclaimed(), 'XX', 0, ref.id);
    },
    close: async () => {
      await removeAll();
      await backend.close();
      redis.disconnect();
    },
  };
}

export function onMemory(ref: FunctionRef): HandOverStore {
  const backend = new MemoryBackend('hand-over', new Keys(''), systemClock);
  const space = (): MemorySpace => backend.server.space('');
  return {
    title: 'memory',
    backend,
    clear: () => {
      backend.server.forget('');
      space().makeReplies(REPLIES_TO);
      return Promise.resolve();
    },
    hear: () => {
      const stream = space().repliesOf(REPLIES_TO);
      const { replies = [], next = 0 } = stream?.from(0, Infinity) ?? {};
      stream?.trim(next);
      return Promise.resolve(replies.map(({ callId, reply }) => [callId, reply] as const));
    },
    look: () => {
      const fn = space().make(ref);
      const all = fn.queue.all();
      return Promise.resolve({
        entries: all.map(({ id, fields }) => ({ entryId: id, callId: partsOf(fields).callId })),
        owners: all.flatMap(({ owner }) => owner ?? []),
        aside: fn.aside.size,
        dead: fn.letters.size,
      });
    },
    sharedEntry: (key) => Promise.resolve(space().shared.get(sharedKey(ref, key))?.entryId),
    destroyGroup: async (meanwhile) => {
      const fn = space().make(ref);
      const record = {
        workerId: 'w',
        processId: 'other',
        epoch: 1,
        seq: 1,
        status: 'ready' as const,
      };
      fn.workers.set('w', { ...record, timestamp: 1, definition: '' });
      fn.destroyGroup();
      await meanwhile();
      fn.workers.clear();
    },
    endTimeToClaim: () => {
      if (space().unclaimed.has(ref.id)) space().unclaimed.set(ref.id, 0);
      return Promise.resolve();
    },
    close: () => backend.close(),
  };
}
