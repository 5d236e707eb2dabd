import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { ExampleProcess } from './example-process.js';

describe('the example of circuits', () => {
  // One of its own: the example has no key prefix.
  let redis: StartedRedis;
  let example: ExampleProcess | undefined;

  beforeEach(async () => {
    redis = await startRedis();
  });

  afterEach(async () => {
    await example?.stop('SIGKILL');
    await redis.stop();
  });

  it('opens for all shops, leaves the bank in peace, and closes for all', async () => {
    example = new ExampleProcess('examples/circuits/main.ts', [], { REDIS_URL: redis.url });
    await example.printed(/all +open within [\d.]+ ms of each other/);
    const [, calls = ''] = await example.printed(/got (\d+) calls in 3 s that it was down/);
    // Three shops would have made 90.
    expect(Number(calls)).toBeGreaterThan(0);
    expect(Number(calls)).toBeLessThan(10);
    await example.printed(/all +closed: every shop charges again/);
    expect(await example.exit()).toBe(0);
  }, 90_000);
});
