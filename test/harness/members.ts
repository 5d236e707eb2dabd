import { Logger } from '@nestjs/common';
import { Redis } from 'ioredis';
import type { Bell } from '../../src/backend/call-streams.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { Member } from '../../src/conformance/member.js';
import type { FunctionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';
import { redisUrl, uniquePrefix } from './apps.js';
import { eventually } from './eventually.js';

const BLOCK_MS = 10_000;

/** Processes on the level of the ports, on Redis, with keys of their own; closed, and nothing left behind. */
export class Members {
  readonly keys = new Keys(uniquePrefix());
  /** A bare client, to look at what is there. */
  readonly admin = new Redis(redisUrl());
  private readonly backends: RedisBackend[] = [];

  constructor() {
    Logger.overrideLogger(false);
  }

  /** A process that is connected. */
  async member(processId: string, url = redisUrl()): Promise<Member> {
    const backend = new RedisBackend(url, this.keys);
    this.backends.push(backend);
    backend.start();
    await eventually('it is connected', () => backend.isConnected() && backend.bus.isConnected());
    return new Member(backend, this.keys, processId);
  }

  /** One that hears these functions by the bell of a pool. */
  async pooled(
    poolId: string,
    refs: readonly FunctionRef[],
    processId = 'worker-1',
    url = redisUrl(),
  ): Promise<Member> {
    const worker = await (await (await this.member(processId, url)).join()).reads(...refs);
    for (const ref of refs) await worker.register(ref, 'w', { poolId });
    return worker;
  }

  /** Waits for a pool's bell with an offer that is in place when this resolves. */
  async offering(by: Member, poolId: string, places: number): Promise<{ bell: Promise<Bell> }> {
    const offer = { places, until: Date.now() + BLOCK_MS };
    const bell = by.reader.waitForBell([poolId], BLOCK_MS, offer);
    // Those that a test leaves waiting end with their connection.
    bell.catch(() => undefined);
    await eventually(
      'it offers',
      async () => (await this.admin.zscore(this.keys.poolOffers(poolId), by.sessionId)) !== null,
    );
    return { bell };
  }

  async close(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.close()));
    const left = await this.admin.keys(`${this.keys.prefix}*`);
    if (left.length > 0) await this.admin.del(...left);
    this.admin.disconnect();
  }
}
