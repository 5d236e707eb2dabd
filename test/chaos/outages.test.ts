import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { eventually } from '../harness/eventually.js';
import { ChaosFleet, LEASE_MS, NOTICE_MS, type Proxied, type Role } from './chaos-fleet.js';

// Processes are started for each test, on machines that do other things too.
jest.setTimeout(60_000);

let server: StartedRedis;
let fleet: ChaosFleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(() => fleet.close());

/** Lets the outage last. It is not a wait for something to happen: it is the fault itself. */
function lasting(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

describe('Redis', () => {
  it('killed with -9 and started again with nothing: all goes on, and no call is lost', async () => {
    fleet = await ChaosFleet.start(server);
    const held = fleet.call(400);
    await server.kill('SIGKILL');
    await server.restart();
    await fleet.expectRecovery(Date.now());
    await expect(held).resolves.toMatchObject({ attempt: 1 });
    await fleet.expectAllAnswered({ twice: true });
  });

  it.each([
    ['for less than a lease', LEASE_MS / 2],
    ['for longer than a lease', LEASE_MS * 2],
    ['for longer than any command waits', 3_500],
  ])('frozen %s and thawed: nobody is taken for dead, and no call runs twice', async (_, ms) => {
    fleet = await ChaosFleet.start(server);
    const held = fleet.call(ms + 500);
    await eventually('it runs', () => fleet.runs().length > 0);
    await server.kill('SIGSTOP');
    await lasting(ms);
    await server.kill('SIGCONT');
    await fleet.expectRecovery(Date.now());
    await expect(held).resolves.toMatchObject({ attempt: 1 });
    await fleet.expectAllAnswered();
    expect(fleet.workers.flatMap((worker) => worker.all('lost'))).toEqual([]);
  });

  it('emptied with FLUSHALL: all register anew, and no call is lost', async () => {
    fleet = await ChaosFleet.start(server);
    const held = fleet.call(400);
    await fleet.admin.flushall();
    await fleet.expectRecovery(Date.now());
    await expect(held).resolves.toMatchObject({ attempt: 1 });
    await fleet.expectAllAnswered({ twice: true });
  });

  it('without the consumer group: it is made again, no call is lost, and none runs twice', async () => {
    fleet = await ChaosFleet.start(server);
    const held = Array.from({ length: 10 }, () => fleet.call(400));
    const once = Array.from({ length: 10 }, () => fleet.call(400, { delivery: 'at-most-once' }));
    await eventually('they run', () => fleet.runs().length > 20);
    await fleet.admin.xgroup('DESTROY', fleet.calls(), 'workers');
    await fleet.expectRecovery(Date.now());
    await Promise.all([...held, ...once]);
    await fleet.expectAllAnswered();
  });

  it('closing subscribers whose output it cannot hold: they subscribe again', async () => {
    fleet = await ChaosFleet.start(server);
    await fleet.admin.config('SET', 'client-output-buffer-limit', 'pubsub 65536 65536 1');
    const [worker] = fleet.workers;
    const sessions = await fleet.admin.hkeys(`${fleet.prefix}nf:processes`);
    const session = sessions.find((name) => name.includes(`-${worker?.pid}-`)) ?? '';
    const presence = `${fleet.prefix}nf:process:${session}`;
    // It cannot read what it is told, and the kernel's buffers fill.
    worker?.kill('SIGSTOP');
    const flood = 'x'.repeat(1_000_000);
    await eventually('Redis gives up on it', async () => {
      await fleet.admin.publish(presence, flood);
      const [, count] = (await fleet.admin.pubsub('NUMSUB', presence)) as [string, number];
      return Number(count) === 0;
    });
    worker?.kill('SIGCONT');
    await fleet.expectRecovery(Date.now());
    await fleet.expectAllAnswered({ twice: true });
  });
});

describe('CLIENT KILL', () => {
  it.each<[Role, number]>([
    ['commands', 3],
    ['subscriber', 3],
    ['calls', 2],
    ['replies', 1],
  ])('of all connections for %s: each is made again, once', async (role, count) => {
    fleet = await ChaosFleet.start(server);
    const held = fleet.call(400);
    expect(await fleet.killConnections(role)).toBe(count);
    await fleet.expectRecovery(Date.now());
    await expect(held).resolves.toMatchObject({ attempt: 1 });
    // A call whose write was cut off may be in the stream already: at least once.
    await fleet.expectAllAnswered({ twice: role === 'commands' });
    expect(fleet.workers.flatMap((worker) => worker.all('lost'))).toEqual([]);
  });
});

describe('the network', () => {
  it.each<[Proxied]>([['one worker'], ['the caller'], ['everybody']])(
    'cutting the connections of %s: all goes on',
    async (proxied) => {
      fleet = await ChaosFleet.start(server, proxied);
      fleet.proxy.cut();
      await fleet.expectRecovery(Date.now());
      await fleet.expectAllAnswered({ twice: true });
      expect(fleet.workers.flatMap((worker) => worker.all('lost'))).toEqual([]);
    },
  );

  it.each<[Proxied, string, number]>([
    ['one worker', 'less than its lease', LEASE_MS / 2],
    ['one worker', 'longer than its lease', LEASE_MS * 2],
    ['the caller', 'longer than its lease', LEASE_MS * 2],
    ['everybody', 'longer than their leases', LEASE_MS * 2],
  ])('holding the connections of %s half-open for %s: all goes on', async (proxied, _, ms) => {
    fleet = await ChaosFleet.start(server, proxied);
    fleet.proxy.hold();
    await lasting(ms);
    fleet.proxy.release();
    await fleet.expectRecovery(Date.now());
    await fleet.expectAllAnswered({ twice: ms > LEASE_MS });
  });

  it.each<[Proxied]>([['one worker'], ['the caller']])(
    'refusing connections of %s for a while: all goes on',
    async (proxied) => {
      fleet = await ChaosFleet.start(server, proxied);
      fleet.proxy.refuse();
      await lasting(LEASE_MS / 2);
      fleet.proxy.accept();
      await fleet.expectRecovery(Date.now());
      await fleet.expectAllAnswered({ twice: true });
    },
  );

  it.each<[Proxied]>([['one worker'], ['the caller'], ['everybody']])(
    'forgetting the connections of %s without a word: they are missed, and made anew',
    async (proxied) => {
      fleet = await ChaosFleet.start(server, proxied);
      await fleet.expectRecovery(await fleet.forgetConnections(), NOTICE_MS);
      await fleet.expectAllAnswered({ twice: true });
    },
  );
});
