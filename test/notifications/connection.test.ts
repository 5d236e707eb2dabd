import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  BackendUnavailableError,
  NotificationManager,
  type NotificationEvents,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet, rootModule } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend } from '../harness/gated-backend.js';
import { killSubscribers } from '../harness/kill-subscribers.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

let redis: StartedRedis;
let proxy: TcpProxy;
let fleet: Fleet;
let opened: INestApplicationContext[] = [];

beforeEach(async () => {
  redis = await startRedis();
  proxy = await TcpProxy.start(redis.url);
  fleet = new Fleet(redis.url);
});
afterEach(async () => {
  await Promise.all(opened.map((app) => app.close()));
  opened = [];
  await fleet.close();
  await proxy.close();
  await redis.stop();
});

/** A manager whose events are seen from the very start. */
async function startObserved(
  connection = proxy.url,
): Promise<{ manager: NotificationManager; told: string[]; app: INestApplicationContext }> {
  const module = await Test.createTestingModule({
    imports: [rootModule({ connection, keyPrefix: fleet.prefix, worker: false })],
  }).compile();
  const manager = module.get(NotificationManager);
  const told: string[] = [];
  manager.on('state', ({ from, to }) => told.push(`${from} -> ${to}`));
  manager.on('connected', () => told.push('connected'));
  manager.on('disconnected', ({ reason }) =>
    told.push(`disconnected${reason === '' ? '' : ' for a reason'}`),
  );
  opened.push(module);
  return { manager, told, app: await module.init() };
}

const outages: (readonly [string, (manager: NotificationManager) => Promise<void>])[] = [
  [
    'CLIENT KILL of the subscriber',
    async () => {
      expect(await killSubscribers(fleet.redis)).toBeGreaterThan(0);
    },
  ],
  [
    'a proxy that cuts',
    () => {
      proxy.cut();
      return Promise.resolve();
    },
  ],
  [
    'a proxy that refuses for a while',
    async (manager) => {
      proxy.refuse();
      await eventually('the loss was told', () => manager.state === 'reconnecting');
      proxy.accept();
    },
  ],
  [
    'kill -9 and a restart of Redis',
    async (manager) => {
      await redis.kill('SIGKILL');
      await eventually('the loss was told', () => manager.state === 'reconnecting');
      await redis.restart();
    },
  ],
];

describe('the state', () => {
  it('goes from connecting to connected to closed in a quiet life, each told once', async () => {
    const { manager, told, app } = await startObserved();
    await eventually('it is connected', () => manager.state === 'connected');
    opened = [];
    await app.close();
    expect(told).toEqual(['connecting -> connected', 'connected', 'connected -> closed']);
    expect(manager.stats().state).toBe('closed');
  });

  it('stays connecting while there is no Redis, and is connected when it comes', async () => {
    proxy.refuse();
    const { manager, told } = await startObserved();
    expect(manager.state).toBe('connecting');
    expect(told).toEqual([]);
    proxy.accept();
    await eventually('it is connected', () => manager.state === 'connected');
    expect(told).toEqual(['connecting -> connected', 'connected']);
  });

  it.each(outages)('goes to reconnecting and back after %s', async (_, outage) => {
    const { manager, told } = await startObserved();
    await eventually('it is connected', () => manager.state === 'connected');
    told.length = 0;
    await outage(manager);
    await eventually('it is back', () => told.includes('connected'));
    expect(told).toEqual([
      'connected -> reconnecting',
      'disconnected for a reason',
      'reconnecting -> connected',
      'connected',
    ]);
  });

  it('stops telling a listener that was removed', async () => {
    const { manager } = await startObserved();
    await eventually('it is connected', () => manager.state === 'connected');
    const told: string[] = [];
    const dispose = manager.on('state', () => told.push('removed'));
    manager.on('state', () => told.push('kept'));
    dispose();
    proxy.cut();
    await eventually('it is back', () => told.length === 2);
    expect(told).toEqual(['kept', 'kept']);
  });
});

describe('after an outage', () => {
  it.each(outages)(
    'every channel and pattern is subscribed anew, exactly once, after %s',
    async (_, outage) => {
      const { manager } = await startObserved();
      // More channels than one command takes.
      const channels = Array.from({ length: 1_200 }, (_value, n) => `many:${n}`);
      const heard: string[] = [];
      await manager.subscribeAll(channels, ({ channel }) => heard.push(channel));
      await manager.subscribe('single', ({ channel }) => heard.push(channel));
      await manager.subscribe('single', () => undefined);
      await manager.subscribePattern('pattern:*', ({ channel }) => heard.push(channel));
      const gone = await manager.subscribe('gone', ({ channel }) => heard.push(channel));
      await gone.unsubscribe();
      const before = manager.stats();

      const back = nextConnected(manager);
      await outage(manager);
      const told = await back;

      // The process joins anew meanwhile: for a moment it has the presence of both lives.
      expect([before.channels, before.channels + 1]).toContain(told.channels);
      expect(told.patterns).toBe(before.patterns);
      const names = [...channels, 'single', 'gone'].map((name) => fleet.prefix + name);
      const counts = await fleet.redis.pubsub('NUMSUB', ...names);
      const subscribed = names.map((_name, index) => Number(counts[index * 2 + 1]));
      expect(subscribed).toEqual(names.map((name) => (name.endsWith('gone') ? 0 : 1)));
      expect(Number(await fleet.redis.pubsub('NUMPAT'))).toBe(1);
      // A process that joins an emptied Redis anew has two presences for a moment.
      await eventually('it counts what it counted before', () => {
        expect(manager.stats()).toMatchObject({
          channels: before.channels,
          patterns: before.patterns,
          listeners: before.listeners,
        });
      });
      const all = [...channels, 'single', 'pattern:x'];
      for (const name of all) await publishRaw(name);
      await eventually('everything was heard', () => heard.length >= all.length);
      expect(heard.sort()).toEqual(all.sort());
    },
  );

  it.each(outages)(
    'connected is told when a message published at that moment is received (%s)',
    async (_, outage) => {
      const { manager } = await startObserved();
      const heard: string[] = [];
      await manager.subscribe('at-once', ({ channel }) => heard.push(channel));
      await manager.subscribePattern('at-once:*', ({ channel }) => heard.push(channel));
      const receivers = new Promise<number[]>((resolve, reject) => {
        manager.on('connected', () => {
          Promise.all([publishRaw('at-once'), publishRaw('at-once:x')]).then(resolve, reject);
        });
      });
      await outage(manager);
      expect(await receivers).toEqual([1, 1]);
      await eventually('both were heard', () => heard.length === 2);
    },
  );

  it('connected is not told while an acknowledgement is outstanding', async () => {
    const gates = new GatedBackend();
    const app = await gates.start(redis.url, { keyPrefix: fleet.prefix, worker: false });
    opened.push(app);
    const manager = app.get(NotificationManager);
    await manager.subscribe('held', () => undefined);
    const told: NotificationEvents['state'][] = [];
    manager.on('state', (event) => told.push(event));
    const held = gates.hold('bus.subscribe', 'after');
    await killSubscribers(fleet.redis);
    await held.reached;
    expect(manager.state).toBe('reconnecting');
    held.release();
    await eventually('it is connected', () => manager.state === 'connected');
    expect(told.map(({ to }) => to)).toEqual(['reconnecting', 'connected']);
  });

  it('a connection that is lost again while it resubscribes is not taken for connected', async () => {
    const gates = new GatedBackend();
    const app = await gates.start(redis.url, { keyPrefix: fleet.prefix, worker: false });
    opened.push(app);
    const manager = app.get(NotificationManager);
    const heard: unknown[] = [];
    await manager.subscribe('twice', ({ data }) => heard.push(data));
    let connected = 0;
    manager.on('connected', () => (connected += 1));
    const held = gates.hold('bus.subscribe', 'after');
    await killSubscribers(fleet.redis);
    await held.reached;
    // The acknowledgement of the first new connection is known only after the second is lost and replaced.
    await killSubscribers(fleet.redis);
    await eventually('the second is in place', () => connected === 1);
    held.release();
    expect(await publishRaw('twice')).toBe(1);
    await eventually('the message was heard', () => heard.length === 1);
    expect(connected).toBe(1);
    expect(manager.state).toBe('connected');
  });

  it('everything ends right however often the connection breaks in between', async () => {
    const { manager } = await startObserved();
    const heard: unknown[] = [];
    const channels = Array.from({ length: 20 }, (_value, n) => `storm:${n}`);
    await manager.subscribeAll(channels, ({ channel }) => heard.push(channel));
    for (let n = 0; n < 10; n += 1) {
      await eventually(
        'there was a subscriber to kill',
        async () => (await killSubscribers(fleet.redis)) > 0,
      );
    }
    await eventually('it is back', async () => {
      expect(manager.state).toBe('connected');
      const counts = await fleet.redis.pubsub('NUMSUB', ...channels.map((n) => fleet.prefix + n));
      expect(counts.filter((_value, index) => index % 2 === 1).map(Number)).toEqual(
        channels.map(() => 1),
      );
    });
    heard.length = 0;
    for (const channel of channels) await publishRaw(channel);
    await eventually('everything was heard', () => heard.length >= channels.length);
    expect(heard).toEqual(channels);
  });

  it('subscribing fails once on a connection that holds, and is tried again', async () => {
    const gates = new GatedBackend();
    const app = await gates.start(redis.url, { keyPrefix: fleet.prefix, worker: false });
    opened.push(app);
    const manager = app.get(NotificationManager);
    const heard: unknown[] = [];
    await manager.subscribe('again', ({ data }) => heard.push(data));
    gates.failNext('bus.subscribe', new BackendUnavailableError('SUBSCRIBE', 'test'));
    const back = nextConnected(manager);
    await killSubscribers(fleet.redis);
    await back;
    expect(await publishRaw('again')).toBe(1);
    await eventually('the message was heard', () => heard.length === 1);
  });

  it('a permission that is taken away and given back needs no new connection', async () => {
    await fleet.redis.acl('SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all');
    const url = redis.url.replace('redis://', 'redis://app:secret@');
    const { manager } = await startObserved(url);
    const heard: unknown[] = [];
    await manager.subscribe('acl', ({ data }) => heard.push(data));
    await fleet.redis.acl('SETUSER', 'app', 'resetchannels');
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    const connections = async (): Promise<string | undefined> =>
      /total_connections_received:(\d+)/.exec(await fleet.redis.info('stats'))?.[1];
    await eventually('it tried on a new connection', async () => {
      expect(await fleet.redis.client('LIST')).toMatch(/name=nestjs-functions:subscriber/);
    });
    const before = await connections();
    const back = nextConnected(manager);
    await fleet.redis.acl('SETUSER', 'app', 'allchannels');
    await back;
    expect(await connections()).toBe(before);
    expect(await publishRaw('acl')).toBe(1);
    await eventually('the message was heard', () => heard.length === 1);
  });

  it('nothing is subscribed to twice on the new connection', async () => {
    const { manager } = await startObserved();
    await manager.subscribe('once', () => undefined);
    await manager.subscribePattern('once:*', () => undefined);
    const log = await CommandLog.start(redis.url);
    const back = nextConnected(manager);
    proxy.cut();
    await back;
    const commands = await log.mentioning(`${fleet.prefix}once`);
    log.close();
    expect(commands.map(({ name }) => name).sort()).toEqual(['psubscribe', 'subscribe']);
  });
});

describe('without Redis', () => {
  it('subscribe and publish fail with BACKEND_UNAVAILABLE within seconds, and leave nothing behind', async () => {
    const { manager } = await startObserved();
    await eventually('it is connected', () => manager.state === 'connected');
    const before = manager.stats();
    proxy.refuse();
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    const results = await Promise.allSettled([
      manager.subscribe('never', () => undefined),
      manager.subscribePattern('never:*', () => undefined),
      manager.publish('never', 1),
    ]);
    expect(
      results.map((result) => (result.status === 'rejected' ? codeOf(result.reason) : 'resolved')),
    ).toEqual(Array(3).fill('BACKEND_UNAVAILABLE'));
    expect(manager.stats()).toMatchObject({
      channels: before.channels,
      patterns: before.patterns,
      listeners: before.listeners,
    });
    const back = nextConnected(manager);
    proxy.accept();
    await back;
    expect(await publishRaw('never')).toBe(0);
  });

  it('subscribe waits for a Redis that comes back in time', async () => {
    const { manager } = await startObserved();
    const heard: unknown[] = [];
    proxy.refuse();
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    const subscription = manager.subscribe('late', ({ data }) => heard.push(data));
    proxy.accept();
    await subscription;
    expect(await publishRaw('late')).toBe(1);
    await eventually('it was heard', () => heard.length === 1);
  });

  it('the listener of an outage that is still subscribed does not lose its place to a failed second one', async () => {
    const { manager } = await startObserved();
    const heard: string[] = [];
    await manager.subscribe('shared', () => heard.push('first'));
    proxy.refuse();
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    await expect(manager.subscribe('shared', () => heard.push('second'))).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
    });
    const back = nextConnected(manager);
    proxy.accept();
    await back;
    await publishRaw('shared');
    await eventually('the first heard it', () => heard.length > 0);
    expect(heard).toEqual(['first']);
  });
});

describe('closing', () => {
  it('with listeners ends their subscriptions and refuses new ones', async () => {
    const { manager, app } = await startObserved();
    const subscription = await manager.subscribe('end', () => undefined);
    await manager.subscribePattern('end:*', () => undefined);
    opened = [];
    await app.close();
    expect(manager.state).toBe('closed');
    await eventually('Redis has no subscriber left', async () => {
      expect(Number((await fleet.redis.pubsub('NUMSUB', `${fleet.prefix}end`))[1])).toBe(0);
      expect(Number(await fleet.redis.pubsub('NUMPAT'))).toBe(0);
    });
    await expect(subscription.unsubscribe()).resolves.toBeUndefined();
    await expect(manager.subscribe('end', () => undefined)).rejects.toMatchObject({
      code: 'CLOSED',
    });
    await expect(manager.publish('end', 1)).rejects.toMatchObject({ code: 'CLOSED' });
    expect(manager.stats()).toMatchObject({ channels: 0, patterns: 0, listeners: 0 });
    expect(() => manager.close()).not.toThrow();
  });

  it('settles a subscribe that waits for its acknowledgement', async () => {
    const { manager, app } = await startObserved();
    await eventually('it is connected', () => manager.state === 'connected');
    proxy.refuse();
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    const outcome = manager
      .subscribe('pending', () => undefined)
      .then(
        () => 'resolved',
        (error: unknown) => codeOf(error),
      );
    opened = [];
    await app.close();
    expect(['CLOSED', 'BACKEND_UNAVAILABLE']).toContain(await outcome);
  });

  it('while Redis is away ends as well', async () => {
    const { manager, app } = await startObserved();
    await manager.subscribe('away', () => undefined);
    proxy.refuse();
    await eventually('the loss was told', () => manager.state === 'reconnecting');
    opened = [];
    await app.close();
    expect(manager.state).toBe('closed');
  });
});

function nextConnected(manager: NotificationManager): Promise<NotificationEvents['connected']> {
  return new Promise((resolve) => {
    const dispose = manager.on('connected', (event) => {
      dispose();
      resolve(event);
    });
  });
}

function publishRaw(channel: string): Promise<number> {
  const name = fleet.prefix + channel;
  return fleet.redis.publish(name, JSON.stringify({ pattern: name, data: 'x' }));
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}
