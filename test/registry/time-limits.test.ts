import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { FunctionRegistry } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { hosting } from '../harness/host.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

let server: StartedRedis;
let fleet: Fleet;
let proxy: TcpProxy;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(async () => {
  await proxy.close();
  await fleet.close();
});

/** A registry whose Redis can stand still. */
async function start(): Promise<FunctionRegistry> {
  fleet = new Fleet(server.url);
  proxy = await TcpProxy.start(server.url);
  await fleet.start({ providers: [hosting('work', () => 'done')] });
  const caller = await fleet.start({ options: { worker: false, connection: proxy.url } });
  return caller.get(FunctionRegistry);
}

describe('callFunction', () => {
  it('waits no longer than its timeout when Redis stands still', async () => {
    const registry = await start();
    proxy.hold();
    const startedAt = performance.now();
    const outcome = await registry.callFunction('work', 'default', {}, {}, 100);
    // A command that is not answered would take three seconds.
    expect(performance.now() - startedAt).toBeLessThan(2_900);
    expect(outcome).toMatchObject({ success: false, error: { code: 'READINESS_TIMEOUT' } });
    expect(outcome.error?.message).toContain('could not be read');
  });

  it('looks once also without any time to wait', async () => {
    const registry = await start();
    const outcome = await registry.callFunction('work', 'default', {}, {}, 0);
    expect(outcome).toMatchObject({ success: true, data: 'done' });
  });
});
