import { afterEach, describe, expect, it } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { ExampleProcess } from './example-process.js';

describe('the example of workflows', () => {
  let redis: StartedRedis | undefined;
  let example: ExampleProcess | undefined;

  afterEach(async () => {
    await example?.stop('SIGKILL');
    await redis?.stop();
    redis = undefined;
  });

  it.each(['memory', 'Redis'])(
    'restarts three workers, and no pair of calls is mixed, on %s',
    async (backend) => {
      redis = backend === 'Redis' ? await startRedis() : undefined;
      const env: Record<string, string> = redis === undefined ? {} : { REDIS_URL: redis.url };
      example = new ExampleProcess('examples/workflows/main.ts', [], env);
      await example.printed(/before: 100 kilometres per hour/);
      await example.printed(/ready: 3 of 3/);
      await example.printed(/after: 62 miles per hour/);
      const [, pairs, mixed] = await example.printed(/(\d+) pairs, (\d+) mixed/);
      expect(Number(pairs)).toBeGreaterThan(2);
      expect(mixed).toBe('0');
      expect(await example.exit()).toBe(0);
    },
    60_000,
  );
});
