import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

jest.setTimeout(120_000);

const FUNCTIONS = 8;
const DRAIN_TIMEOUT_MS = 500;
/** What Kubernetes gives a container (30 s) has room for the default drainTimeoutMs (10 s) and for this. */
const LIMIT_MS = 15_000;
/** What the close waits for Redis, all its steps together, and a bit. */
const CLOSE_LIMIT_MS = 7_000;

let server: StartedRedis;
let fleet: Fleet;

beforeEach(async () => {
  server = await startRedis();
  fleet = new Fleet(server.url);
});
afterEach(async () => {
  await server.kill('SIGCONT');
  await fleet.close();
  await server.stop();
});

const names = Array.from({ length: FUNCTIONS }, (_, n) => `work-${n}`);

async function timeToStop(app: INestApplicationContext): Promise<number> {
  const beganAt = performance.now();
  await fleet.stop(app);
  return performance.now() - beganAt;
}

/** A worker that runs a call of each of its functions. */
async function busy(): Promise<INestApplicationContext> {
  const stage = new Stage();
  const worker = await fleet.start({
    providers: names.map((name) => stage.as(name)),
    options: { drainTimeoutMs: DRAIN_TIMEOUT_MS },
  });
  const caller = await fleet.start({ options: { worker: false } });
  const registry = caller.get(EnhancedFunctionRegistry);
  for (const name of names) void registry.call(name).catch(() => undefined);
  await stage.started(FUNCTIONS);
  return worker;
}

describe('a shutdown while Redis stands still', () => {
  it('ends soon after drainTimeoutMs, however many functions have calls that run', async () => {
    const worker = await busy();
    await server.kill('SIGSTOP');
    expect(await timeToStop(worker)).toBeLessThan(LIMIT_MS);
  });

  it('waits for an answer once, and not in each of its steps', async () => {
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    await registry.getInstantWorkerStatus('work', 'default');
    await server.kill('SIGSTOP');
    expect(await timeToStop(caller)).toBeLessThan(CLOSE_LIMIT_MS);
  });
});

describe('a shutdown whose read connection is lost, and does not come back', () => {
  let proxy: TcpProxy;
  beforeEach(async () => {
    proxy = await TcpProxy.start(server.url);
  });
  afterEach(() => proxy.close());

  it('leaves a call that was delivered into it to the supervisor', async () => {
    const options = { leaseMs: 1_000 };
    const caller = await fleet.start({ options: { ...options, worker: false } });
    const worker = await fleet.start({
      providers: [hosting('work', () => 'first')],
      options: { ...options, connection: proxy.url },
    });
    proxy.holdNewest();
    proxy.holdLater();
    const answer = caller.get(EnhancedFunctionRegistry).call('work', {}, { timeoutMs: 30_000 });
    await eventually('it was delivered', async () => {
      const calls = `${fleet.prefix}nf:{work:default}:calls`;
      const [pending] = await fleet.redis.xpending(calls, 'workers');
      expect(pending).toBe(1);
    });
    await fleet.stop(worker);
    await fleet.start({ providers: [hosting('work', () => 'second')], options });
    await expect(answer).resolves.toBe('second');
  });
});
