import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { NotificationManager, type ChannelMessage } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { CapturedLog } from '../harness/captured-log.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

let redis: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(() => {
  fleet = new Fleet(redis.url);
});
afterEach(() => fleet.close());

async function startManager(keyPrefix = fleet.prefix): Promise<NotificationManager> {
  const app = await fleet.start({ options: { worker: false, keyPrefix } });
  return app.get(NotificationManager);
}

/** How many connections are subscribed to a channel. */
async function subscribers(channel: string): Promise<number> {
  const answer = await fleet.redis.pubsub('NUMSUB', fleet.prefix + channel);
  return Number(answer[1]);
}

/** How many distinct patterns are subscribed to on the whole server. */
async function patterns(): Promise<number> {
  return Number(await fleet.redis.pubsub('NUMPAT'));
}

/** Publishes a packet from outside; resolves to the number of receivers. */
function publishRaw(channel: string, data: unknown): Promise<number> {
  const name = fleet.prefix + channel;
  return fleet.redis.publish(name, JSON.stringify({ pattern: name, data }));
}

describe('a channel with many listeners', () => {
  it('costs one SUBSCRIBE and one subscription in Redis', async () => {
    const manager = await startManager();
    const log = await CommandLog.start(redis.url);
    const heard: number[] = [];
    await Promise.all(
      Array.from({ length: 100 }, (_, n) => manager.subscribe('news', () => heard.push(n))),
    );
    const subscribes = await log.mentioning(`${fleet.prefix}news`);
    log.close();
    expect(subscribes.map(({ name }) => name)).toEqual(['subscribe']);
    expect(await subscribers('news')).toBe(1);
    await publishRaw('news', 'x');
    await eventually('every listener heard it', () => heard.length === 100);
    expect(new Set(heard).size).toBe(100);
  });

  it('keeps the Redis subscription until the last one leaves, and ends it then', async () => {
    const manager = await startManager();
    const before = manager.stats();
    const first = await manager.subscribe('news', () => undefined);
    const second = await manager.subscribe('news', () => undefined);
    await first.unsubscribe();
    expect(await subscribers('news')).toBe(1);
    await second.unsubscribe();
    expect(await subscribers('news')).toBe(0);
    expect(manager.stats()).toMatchObject({
      channels: before.channels,
      listeners: before.listeners,
    });
  });

  it('counts the same function twice when it was added twice, and a second unsubscribe for nothing', async () => {
    const manager = await startManager();
    let calls = 0;
    const listener = (): void => void (calls += 1);
    const first = await manager.subscribe('news', listener);
    const second = await manager.subscribe('news', listener);
    await publishRaw('news', 1);
    await eventually('both were called', () => calls === 2);
    await first.unsubscribe();
    await first.unsubscribe();
    expect(await subscribers('news')).toBe(1);
    await second.unsubscribe();
    expect(await subscribers('news')).toBe(0);
  });

  it('subscribes to many channels for one listener with one command', async () => {
    const manager = await startManager();
    const log = await CommandLog.start(redis.url);
    const channels = ['a', 'b', 'c'].map((name) => `many-${name}`);
    const subscription = await manager.subscribeAll(channels, () => undefined);
    const commands = await log.mentioning(`${fleet.prefix}many-`);
    log.close();
    expect(commands).toEqual([
      { name: 'subscribe', args: channels.map((name) => fleet.prefix + name) },
    ]);
    await subscription.unsubscribe();
    expect(await Promise.all(channels.map(subscribers))).toEqual([0, 0, 0]);
  });
});

describe('a subscription', () => {
  it('is in place in Redis at the moment it resolves', async () => {
    const manager = await startManager();
    for (let n = 0; n < 50; n += 1) {
      const heard: unknown[] = [];
      await manager.subscribe(`place-${n}`, ({ data }) => heard.push(data));
      expect(await publishRaw(`place-${n}`, n)).toBe(1);
      await eventually('the message came', () => heard.length === 1);
    }
  });

  it('does not resolve before Redis has acknowledged it', async () => {
    const proxy = await TcpProxy.start(redis.url);
    try {
      const app = await fleet.start({ options: { worker: false, connection: proxy.url } });
      const manager = app.get(NotificationManager);
      proxy.hold();
      let resolved = false;
      const subscription = manager.subscribe('held', () => undefined).then(() => (resolved = true));
      // Round trips past the proxy: time in which a promise that does not wait would have resolved.
      for (let n = 0; n < 20; n += 1) expect(await subscribers('held')).toBe(0);
      expect(resolved).toBe(false);
      proxy.release();
      await subscription;
      expect(await subscribers('held')).toBe(1);
      await fleet.stop(app);
    } finally {
      await proxy.close();
    }
  });

  const orders = ['s', 'u', 'su', 'us', 'ss', 'sus', 'suu', 'ssu', 'uss', 'susu', 'suss', 'ssus'];

  it.each(orders)('ends as its last command says when they come at once: %s', async (order) => {
    const manager = await startManager();
    const heard = await run(manager, order);
    await expectEnd(manager, order, heard);
  });

  it.each(orders)(
    'ends as its last command says when they come while Redis is away: %s',
    async (order) => {
      const own = await startRedis();
      const elsewhere = new Fleet(own.url);
      const app = await elsewhere.start({ options: { worker: false } });
      const manager = app.get(NotificationManager);
      const told: number[] = [];
      const shared = fleet;
      fleet = elsewhere;
      try {
        await own.kill('SIGKILL');
        await eventually('the loss was told', () => manager.state === 'reconnecting');
        manager.on('connected', () => told.push(1));
        const ran = run(manager, order);
        await own.restart();
        const heard = await ran;
        await eventually('it is connected', () => manager.state === 'connected');
        await eventually('Redis has exactly what is wanted', () =>
          expectEnd(manager, order, heard),
        );
        expect(told).toHaveLength(1);
      } finally {
        fleet = shared;
        await elsewhere.close();
        await own.stop();
      }
    },
  );

  /** Runs commands without waiting in between; the result tells which subscribe heard what. */
  async function run(manager: NotificationManager, order: string): Promise<number[]> {
    const heard: number[] = [];
    const started = [...order].map((command, index) =>
      command === 's'
        ? manager.subscribe('order', () => heard.push(index))
        : manager.unsubscribe('order'),
    );
    await Promise.all(started);
    return heard;
  }

  async function expectEnd(
    manager: NotificationManager,
    order: string,
    heard: number[],
  ): Promise<void> {
    const wanted = [...order].flatMap((command, index) =>
      command === 's' && index > order.lastIndexOf('u') ? [index] : [],
    );
    expect(await subscribers('order')).toBe(wanted.length === 0 ? 0 : 1);
    heard.length = 0;
    await publishRaw('order', 'x');
    // What comes after on the same connection: nothing more of the first can come.
    const fence = await manager.subscribe('fence', () => undefined);
    await fence.unsubscribe();
    expect(heard).toEqual(wanted);
  }

  it.each([
    ['the old one leaves, then the new one comes', true],
    ['the new one comes, then the old one leaves', false],
  ])('changes hands without a gap when %s', async (_, leaveFirst) => {
    const manager = await startManager();
    const heard: string[] = [];
    const old = await manager.subscribe('hands', () => heard.push('old'));
    const come = (): Promise<unknown> => manager.subscribe('hands', () => heard.push('new'));
    const leave = (): Promise<unknown> => old.unsubscribe();
    await Promise.all(leaveFirst ? [leave(), come()] : [come(), leave()].map((promise) => promise));
    expect(await publishRaw('hands', 1)).toBe(1);
    await eventually('the new one heard it', () => heard.length > 0);
    expect(heard).toEqual(['new']);
  });
});

describe('a pattern', () => {
  it('is subscribed to once however many listen, and says which channel and pattern it was', async () => {
    const manager = await startManager();
    const before = await patterns();
    const messages: ChannelMessage[] = [];
    const first = await manager.subscribePattern('app:*', (message) => messages.push(message));
    const second = await manager.subscribePattern('app:*', () => undefined);
    expect(await patterns()).toBe(before + 1);
    await publishRaw('app:cache', { region: 'eu' });
    await eventually('it was heard', () => messages.length === 1);
    expect(messages[0]).toEqual({
      channel: 'app:cache',
      pattern: 'app:*',
      data: { region: 'eu' },
    });
    await first.unsubscribe();
    expect(await patterns()).toBe(before + 1);
    await second.unsubscribe();
    expect(await patterns()).toBe(before);
  });

  it('and a channel that both match are told separately, each once', async () => {
    const manager = await startManager();
    const heard: (string | undefined)[] = [];
    await manager.subscribe('both:x', ({ pattern }) => heard.push(pattern));
    await manager.subscribePattern('both:*', ({ pattern }) => heard.push(pattern));
    await publishRaw('both:x', 1);
    await eventually('both heard it', () => heard.length === 2);
    expect(heard.sort()).toEqual(['both:*', undefined]);
  });

  it('ends for all its listeners with unsubscribePattern', async () => {
    const manager = await startManager();
    const before = await patterns();
    await manager.subscribePattern('end:*', () => undefined);
    await manager.subscribePattern('end:*', () => undefined);
    await manager.unsubscribePattern('end:*');
    expect(await patterns()).toBe(before);
  });

  it.each(['a*b:', '[ab]:', 'a?:', 'back\\slash:', '*'])(
    'takes the glob characters of the keyPrefix %j for themselves',
    async (glob) => {
      const prefix = fleet.prefix + glob;
      const manager = await startManager(prefix);
      const messages: ChannelMessage[] = [];
      await manager.subscribePattern('x:*', (message) => messages.push(message));
      // Each would match the prefix if it were read as a pattern.
      for (const other of ['aXb:', 'a:', 'b:', 'ab:', 'backslash:', 'anything']) {
        await fleet.redis.publish(`${fleet.prefix}${other}x:1`, '{"pattern":"x","data":"foreign"}');
      }
      await fleet.redis.publish(`${prefix}x:2`, '{"pattern":"x","data":"own"}');
      await eventually('the own one was heard', () => messages.length > 0);
      expect(messages).toEqual([{ channel: 'x:2', pattern: 'x:*', data: 'own' }]);
    },
  );
});

describe('the pattern * of one tenant', () => {
  /** What is heard of what a tenant, its neighbours, and nobody in particular publish, by the prefix of who listens. */
  async function heardWith(keyPrefix: string, names: readonly string[]): Promise<string[]> {
    const manager = await startManager(keyPrefix);
    const heard: string[] = [];
    await manager.subscribePattern('*', ({ channel }) => heard.push(channel));
    for (const name of names)
      await fleet.redis.publish(name, JSON.stringify({ pattern: name, data: 1 }));
    await eventually('the last one is heard', () => heard.some((name) => name.endsWith('end')));
    // Workers that start and go on this server besides are none of this test's.
    return heard.filter((name) => /(app|ready|end)$/.test(name));
  }

  it('hears what begins with its own keyPrefix, and no other tenant', async () => {
    const [own, other, longer] = ['one:', 'two:', 'one-more:'].map((name) => fleet.prefix + name);
    const names = [`${other}app`, `${longer}app`, `${own}app`, 'app', `${own}end`];
    expect(await heardWith(`${own}`, names)).toEqual(['app', 'end']);
  });

  it('hears a tenant whose keyPrefix begins with its own', async () => {
    const own = `${fleet.prefix}shop`;
    expect(await heardWith(own, [`${own}2:app`, `${own}:end`])).toEqual(['2:app', ':end']);
  });

  it('hears every tenant when it has no keyPrefix, as foreign channels', async () => {
    const other = `${fleet.prefix}two:`;
    const names = [`${other}app`, `${other}function:ready:x:ready`, 'end'];
    expect(await heardWith('', names)).toEqual(names);
  });

  it.each(['function:*', 'function:ready:*'])(
    'is not needed for the news of functions without a keyPrefix: %s hears no tenant',
    async (pattern) => {
      const manager = await startManager('');
      const heard: string[] = [];
      await manager.subscribePattern(pattern, ({ channel }) => heard.push(channel));
      const packet = (name: string): string =>
        JSON.stringify({
          pattern: name,
          data: {
            ...{
              type: 'ready',
              functionName: 'x',
              workflowId: 'y',
              workerId: 'w',
              epoch: 1,
              seq: 1,
            },
            ...{ timestamp: 1, processId: 'p', definition: '', healthy: true },
          },
        });
      for (const name of [`${fleet.prefix}function:ready:x:y`, 'function:ready:x:y'])
        await fleet.redis.publish(name, packet(name));
      await eventually('its own is heard', () => heard.length > 0);
      expect(heard).toEqual(['function:ready:x:y']);
    },
  );
});

describe('a listener that fails', () => {
  it.each([
    [
      'throws',
      () => {
        throw new Error('broken listener');
      },
    ],
    ['rejects', () => Promise.reject(new Error('broken listener'))],
    [
      'throws what is no error',
      () => {
        // eslint-disable-next-line @typescript-eslint/only-throw-error -- this is what is tested
        throw 'broken listener';
      },
    ],
  ])('reaches nobody else when it %s', async (_, broken) => {
    const manager = await startManager();
    const unhandled: unknown[] = [];
    const note = (reason: unknown): void => void unhandled.push(reason);
    process.on('unhandledRejection', note);
    const log = new CapturedLog();
    const heard: string[] = [];
    await manager.subscribe('fail', () => heard.push('before'));
    await manager.subscribe('fail', broken);
    await manager.subscribe('fail', () => heard.push('after'));
    await publishRaw('fail', 1);
    await publishRaw('fail', 2);
    await eventually('both messages reached the others', () => heard.length === 4);
    await eventually('it was logged', () => log.of('error', 'NOTIFICATIONS').length === 2);
    log.release();
    process.off('unhandledRejection', note);
    expect(heard).toEqual(['before', 'after', 'before', 'after']);
    expect(log.of('error', 'NOTIFICATIONS').join()).toContain('broken listener');
    expect(unhandled).toEqual([]);
    expect(manager.state).toBe('connected');
  });

  it('may leave, or add another, while it is called', async () => {
    const manager = await startManager();
    const heard: string[] = [];
    const once = await manager.subscribe('reenter', async () => {
      heard.push('once');
      await once.unsubscribe();
      await manager.subscribe('reenter', () => heard.push('added'));
    });
    await manager.subscribe('reenter', () => heard.push('steady'));
    await publishRaw('reenter', 1);
    await eventually('the new one is there', () => heard.length === 2 && manager.stats());
    await eventually('the second message reaches the new one', async () => {
      heard.length = 0;
      await publishRaw('reenter', 2);
      await eventually('it was heard', () => heard.includes('added'));
    });
    expect(heard).not.toContain('once');
    expect(await subscribers('reenter')).toBe(1);
  });
});
