import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import type { FunctionSnapshot, ProcessSession } from '../../src/backend/worker-store.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import {
  isMalformed,
  parseNotification,
  type Notification,
} from '../../src/protocol/notification.js';
import { ReadinessView, type Sync } from '../../src/readiness/readiness-view.js';
import { redisUrl, uniquePrefix } from '../harness/apps.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';

// Thousands of interleavings of scripts on a real Redis, on machines that do other things too.
jest.setTimeout(120_000);

const RUNS = 1_500;
const LEASE_MS = 600_000;
const WORKERS = ['a', 'b'] as const;
const SESSIONS = ['s1', 's2'] as const;
const worker = fc.constantFrom(...WORKERS);
const session = fc.constantFrom(...SESSIONS);

/** What happens in the registry, and what the view hears and reads of it, in whatever order. */
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('register' as const), worker, session }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('healthy' as const, 'unhealthy' as const, 'draining' as const),
      worker,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('unregister' as const), worker }) },
  /** The session is taken for dead, as the supervisor does it, and joins again. */
  { weight: 1, arbitrary: fc.record({ do: fc.constant('die' as const), session }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('hear' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('read' as const) }) },
  /** The subscriber's connection breaks: what was on its way is lost, and it reads anew. */
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reconnect' as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
type Status = 'ready' | 'unhealthy' | 'draining';

describe('the readiness view', () => {
  const ref = functionRef('work', 'default');
  let prefix: string;
  let keys: Keys;
  let redis: Redis;
  let subscriber: Redis;
  let backend: RedisBackend;
  /** Published and not yet heard by the view. */
  let news: Notification[] = [];
  let arrived = 0;
  let awaited: { readonly count: number; readonly reached: Deferred<void> } | undefined;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    prefix = uniquePrefix();
    keys = new Keys(prefix);
    redis = new Redis(redisUrl());
    subscriber = new Redis(redisUrl());
    backend = new RedisBackend(redisUrl(), keys);
    backend.start();
    subscriber.on('message', (channel: string, text: string) => {
      const address = keys.parseChannel(channel);
      if (address === undefined) return;
      const notification = parseNotification(address, text);
      if (!isMalformed(notification)) news.push(notification);
      arrived += 1;
      if (awaited !== undefined && arrived >= awaited.count) awaited.reached.resolve();
    });
    await subscriber.subscribe(...keys.channels(ref));
  });
  afterAll(async () => {
    await clear();
    await backend.close();
    redis.disconnect();
    subscriber.disconnect();
  });

  async function clear(): Promise<void> {
    const all = await redis.keys(`${prefix}*`);
    if (all.length > 0) await redis.del(...all);
  }

  /** A watch without its I/O, beside a simple model of the registry. */
  class World {
    /** Worker to its status and session: what is true. */
    readonly model = new Map<string, { status: Status; session: string }>();
    readonly sessions = new Map<string, ProcessSession>();
    readonly view = new ReadinessView();
    private sync: Sync | undefined;
    private taken: FunctionSnapshot | undefined;
    private wanted = true;
    private published = arrived;
    private lives = 0;

    async start(): Promise<void> {
      await clear();
      news = [];
      for (const name of SESSIONS) await this.join(name);
    }

    async perform(step: Step): Promise<void> {
      switch (step.do) {
        case 'register':
          return this.register(step.worker, step.session);
        case 'healthy':
        case 'unhealthy':
        case 'draining':
          return this.change(step.worker, step.do);
        case 'unregister':
          return this.unregister(step.worker, {});
        case 'die':
          return this.die(step.session);
        case 'hear':
          return this.hear();
        case 'read':
          return this.read();
        case 'reconnect':
          news = [];
          // A read that began before is of no use any more: the watch begins another.
          this.sync = this.taken = undefined;
          this.wanted = true;
      }
    }

    /** Everything on its way arrives, and the reads that are wanted are made. */
    async end(): Promise<void> {
      while (news.length > 0 || this.wanted || this.sync !== undefined) {
        if (news.length > 0) this.hear();
        else await this.read();
      }
    }

    states(): string[] {
      return [...this.model].map(([name, { status }]) => `${name} ${status}`).sort();
    }

    private async join(name: string): Promise<void> {
      this.lives += 1;
      this.sessions.set(name, await backend.workers.join(`${name}.${this.lives}`, LEASE_MS, false));
    }

    private async register(workerId: string, name: string): Promise<void> {
      const owner = this.sessions.get(name) as ProcessSession;
      await backend.workers.register({
        ref,
        workerId,
        session: owner,
        leaseMs: LEASE_MS,
        definition: '',
        fingerprint: '',
        poolId: '',
        generation: 0,
      });
      this.model.set(workerId, { status: 'ready', session: owner.sessionId });
      await this.told();
    }

    private async change(
      workerId: string,
      kind: 'healthy' | 'unhealthy' | 'draining',
    ): Promise<void> {
      const before = this.model.get(workerId);
      const change =
        kind === 'draining'
          ? { kind, estimatedDowntimeMs: 1 }
          : kind === 'unhealthy'
            ? { kind, reason: 'test' }
            : { kind };
      const record = await backend.workers.change(ref, workerId, undefined, change);
      expect(record !== undefined).toBe(before !== undefined);
      if (before === undefined) return;
      // A worker that drains is leaving: health is no news of it any more.
      if (before.status === 'draining' && kind !== 'draining') return;
      before.status = kind === 'healthy' ? 'ready' : kind;
      await this.told();
    }

    private async unregister(workerId: string, owner: { sessionId?: string }): Promise<void> {
      const before = this.model.get(workerId);
      const mine = owner.sessionId === undefined || before?.session === owner.sessionId;
      const removed = await backend.workers.unregister(ref, workerId, owner, 'test');
      expect(removed).toBe(before !== undefined && mine);
      if (!removed) return;
      this.model.delete(workerId);
      await this.told();
    }

    private async die(name: string): Promise<void> {
      const { sessionId } = this.sessions.get(name) as ProcessSession;
      await redis.del(keys.lease(sessionId));
      const hosted = await backend.fleet.condemn(sessionId, 'lease');
      for (const { workerId } of hosted ?? []) await this.unregister(workerId, { sessionId });
      await backend.fleet.bury(sessionId);
      await this.join(name);
    }

    private hear(): void {
      const next = news.shift();
      if (next !== undefined && this.view.applyNotification(next) === 'unknown-worker')
        this.wanted = true;
    }

    /** One step of a read: it begins, Redis answers, the answer is applied. */
    private async read(): Promise<void> {
      if (this.sync === undefined) {
        this.sync = this.view.beginSync();
        this.wanted = false;
      } else if (this.taken === undefined) {
        this.taken = await backend.workers.snapshot(ref);
      } else {
        this.view.applySnapshot(this.taken, this.sync);
        this.sync = this.taken = undefined;
      }
    }

    /** One more notification was published: it is on its way from here on. */
    private async told(): Promise<void> {
      this.published += 1;
      if (arrived >= this.published) return;
      const reached = createDeferred();
      awaited = { count: this.published, reached };
      await reached.promise;
      awaited = undefined;
    }
  }

  it(`ends as the registry after any interleaving of ${RUNS}`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 24 }), async (steps) => {
        const world = new World();
        await world.start();
        for (const one of steps) await world.perform(one);
        await world.end();
        const states = world.view.workers().map(({ workerId, status }) => `${workerId} ${status}`);
        expect(states.sort()).toEqual(world.states());
        const ready = [...world.model.values()].filter(({ status }) => status === 'ready');
        expect(world.view.healthy).toBe(ready.length);
      }),
      { numRuns: RUNS, endOnFailure: false },
    );
  });
});
