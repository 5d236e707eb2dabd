import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

// Its own: these tests make it refuse.
let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(() => fleet.close());

/** Everything of an error that a log could show. */
const all = (error: unknown): string => inspect(error, { depth: 10, showHidden: true });

describe('an error of Redis', () => {
  it('shows no payload, however deep one looks', async () => {
    fleet = new Fleet(server.url);
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.call('work');
    await fleet.redis.config('SET', 'maxmemory', '1');
    const error = await registry
      .call('work', { password: 'PAYLOAD-SECRET' }, { timeoutMs: 2_000 })
      .catch((failure: unknown) => failure);
    await fleet.redis.config('SET', 'maxmemory', '0');
    expect(error).toBeInstanceOf(Error);
    expect(all(error)).not.toContain('PAYLOAD-SECRET');
  });

  it('shows no password', async () => {
    fleet = new Fleet(server.url);
    await fleet.redis.config('SET', 'requirepass', 'right');
    const { port } = new URL(server.url);
    const connection = { host: '127.0.0.1', port: Number(port), password: 'AUTH-SECRET' };
    const app = await fleet.start({ options: { connection, worker: false } });
    const error = await app
      .get(EnhancedFunctionRegistry)
      .call('work', {}, { ifUnavailable: 'fail' })
      .catch((failure: unknown) => failure);
    await fleet.redis.config('SET', 'requirepass', '');
    expect(error).toBeInstanceOf(Error);
    expect(all(error)).not.toContain('AUTH-SECRET');
  });
});

describe('options of the client that would break a waiting read', () => {
  it.each(['options', 'the query of a URL'])('are left out: %s', async (kind) => {
    fleet = new Fleet(server.url);
    const { hostname, port } = new URL(server.url);
    const connection =
      kind === 'options'
        ? { host: hostname, port: Number(port), commandTimeout: 50, maxRetriesPerRequest: 20 }
        : `${server.url}?commandTimeout=50&maxRetriesPerRequest=20&enableOfflineQueue=true`;
    const app = await fleet.start({
      providers: [hosting('work', () => 1)],
      options: { connection },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    for (let n = 0; n < 3; n += 1) {
      await expect(registry.call('work', {}, { timeoutMs: 5_000 })).resolves.toBe(1);
      // Longer than the option allows, with reads that wait all the while.
      await eventually('a while has passed', () => fleet.redis.call('DEBUG', 'SLEEP', '0.1'));
    }
    await expect(registry.call('work', {}, { timeoutMs: 5_000 })).resolves.toBe(1);
  });
});
