import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  NotificationManager,
  type ChannelMessage,
  type NotificationEvents,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { CapturedLog } from '../harness/captured-log.js';
import { eventually } from '../harness/eventually.js';

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

async function startManager(): Promise<NotificationManager> {
  return (await fleet.start({ options: { worker: false } })).get(NotificationManager);
}

/** A client without this library, subscribed to the channels given. */
async function listenBare(channels: string[]): Promise<{ client: Redis; heard: unknown[] }> {
  const client = new Redis(redis.url);
  const heard: unknown[] = [];
  client.on('message', (_channel, payload) => heard.push(JSON.parse(payload)));
  await client.subscribe(...channels);
  return { client, heard };
}

describe('what is published', () => {
  it('is a Nest packet on the channel, with the key prefix in front', async () => {
    const manager = await startManager();
    const channel = `${fleet.prefix}app:cache-cleared`;
    const { client, heard } = await listenBare([channel]);
    await expect(manager.publish('app:cache-cleared', { region: 'eu', n: [1] })).resolves.toBe(1);
    await eventually('it arrived', () => heard.length === 1);
    client.disconnect();
    expect(heard).toEqual([{ pattern: channel, data: { region: 'eu', n: [1] } }]);
  });

  it('tells how many subscribers got it, nobody included', async () => {
    const manager = await startManager();
    const before = manager.stats().published;
    await expect(manager.publish('nobody', 1)).resolves.toBe(0);
    expect(manager.stats().published).toBe(before + 1);
  });

  it.each([
    ['PAYLOAD_NOT_SERIALIZABLE', 'a BigInt', { n: 1n }],
    ['PAYLOAD_NOT_SERIALIZABLE', 'a function', { f: () => 1 }],
    ['PAYLOAD_TOO_LARGE', '2 MB', 'x'.repeat(2_000_000)],
  ])('is refused with %s when it is %s, and nothing is sent', async (code, _, data) => {
    const manager = await startManager();
    const { client, heard } = await listenBare([`${fleet.prefix}refused`]);
    await expect(manager.publish('refused', data)).rejects.toMatchObject({ code });
    await manager.publish('refused', 'the next one');
    await eventually('the next one arrived', () => heard.length > 0);
    client.disconnect();
    expect(heard).toEqual([{ pattern: `${fleet.prefix}refused`, data: 'the next one' }]);
  });

  it('tells the four stages of a worker on the four channels, with the packets of the contract', async () => {
    const app = await fleet.start();
    const registry = app.get(EnhancedFunctionRegistry);
    const at = (name: string): string => `${fleet.prefix}${name}:resize:media`;
    const { client, heard } = await listenBare([
      at('function:ready'),
      at('function:shutdown'),
      at('function:offline'),
      at('worker:health'),
    ]);
    await registry.registerWorkerWithInstantNotification('w1', 'resize', 'media');
    await registry.notifyWorkerHealth('resize', 'media', 'w1', false, 'timeout');
    await registry.notifyWorkerHealth('resize', 'media', 'w1', true);
    await registry.coordinateShutdown('resize', 'media', 'w1');
    await eventually('all five arrived', () => heard.length >= 5);
    client.disconnect();
    const who = {
      functionName: 'resize',
      workflowId: 'media',
      workerId: 'w1',
      epoch: expect.any(Number),
      seq: expect.any(Number),
      timestamp: expect.any(Number),
    };
    expect(heard).toEqual([
      {
        pattern: at('function:ready'),
        data: {
          ...who,
          type: 'ready',
          processId: expect.any(String),
          definition: '',
          healthy: true,
          generation: 0,
        },
      },
      {
        pattern: at('worker:health'),
        data: { ...who, type: 'health', healthy: false, reason: 'timeout' },
      },
      { pattern: at('worker:health'), data: { ...who, type: 'health', healthy: true } },
      {
        pattern: at('function:shutdown'),
        data: { ...who, type: 'shutdown', estimatedDowntimeMs: expect.any(Number) },
      },
      { pattern: at('function:offline'), data: { ...who, type: 'offline', reason: 'shutdown' } },
    ]);
    const facts = (heard as { data: { epoch: number; seq: number; timestamp: number } }[]).map(
      ({ data }) => data,
    );
    expect(new Set(facts.map(({ epoch }) => epoch)).size).toBe(1);
    const first = facts[0]?.seq ?? 0;
    expect(facts.map(({ seq }) => seq)).toEqual([0, 1, 2, 3, 4].map((n) => first + n));
    const times = facts.map(({ timestamp }) => timestamp);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    const [seconds] = await fleet.redis.time();
    expect(Math.abs(Number(seconds) * 1000 - (times[0] ?? 0))).toBeLessThan(60_000);
  });

  it('names functions whose names would make a channel ambiguous by their encoded names', async () => {
    const app = await fleet.start();
    const registry = app.get(EnhancedFunctionRegistry);
    const channel = `${fleet.prefix}function:ready:a%3Ab%2A:c%20%7Bd%7D`;
    const { client, heard } = await listenBare([channel]);
    await registry.registerWorkerWithInstantNotification('w1', 'a:b*', 'c {d}');
    await eventually('it arrived', () => heard.length === 1);
    client.disconnect();
    expect(heard[0]).toMatchObject({
      pattern: channel,
      data: { functionName: 'a:b*', workflowId: 'c {d}' },
    });
  });
});

describe('what is received', () => {
  const channel = 'function:ready:resize:media';
  const good = {
    type: 'ready',
    functionName: 'resize',
    workflowId: 'media',
    workerId: 'w1',
    epoch: 1,
    seq: 1,
    timestamp: 1,
  };

  function packet(data: unknown, pattern: unknown = channel): string {
    return JSON.stringify({ pattern, data });
  }

  function without(field: string): string {
    return packet(Object.fromEntries(Object.entries(good).filter(([name]) => name !== field)));
  }

  function publish(text: string | Buffer, name = channel): Promise<number> {
    return fleet.redis.publish(fleet.prefix + name, text);
  }

  const foreign: (readonly [string, string | Buffer])[] = [
    ['nothing', ''],
    ['not JSON', 'ready!'],
    ['half a JSON text', packet(good).slice(0, -1)],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00, 0x80])],
    ['a JSON number', '42'],
    ['JSON null', 'null'],
    ['an array', '[1,2]'],
    ['an object that is no packet', JSON.stringify(good)],
    ['a packet without data', JSON.stringify({ pattern: channel })],
    ['a packet without pattern', JSON.stringify({ data: good })],
    ['a packet whose data is null', packet(null)],
    ['a packet whose data is text', packet('ready')],
    ['a packet whose data is an array', packet([good])],
    ['no type', without('type')],
    ['another type', packet({ ...good, type: 'offline' })],
    ['a type that does not exist', packet({ ...good, type: 'gone' })],
    ['no functionName', without('functionName')],
    ['another function than the channel', packet({ ...good, functionName: 'other' })],
    ['another workflow than the channel', packet({ ...good, workflowId: 'other' })],
    ['no workerId', without('workerId')],
    ['an empty workerId', packet({ ...good, workerId: '' })],
    ['a workerId that is a number', packet({ ...good, workerId: 7 })],
    ['no epoch', without('epoch')],
    ['an epoch that is text', packet({ ...good, epoch: '1' })],
    ['a negative epoch', packet({ ...good, epoch: -1 })],
    ['no seq', without('seq')],
    ['a seq that is null', packet({ ...good, seq: null })],
    ['an infinite seq', packet(good).replace('"seq":1', '"seq":1e999')],
    ['no timestamp', without('timestamp')],
    ['100 kB', packet({ ...good, filler: 'x'.repeat(100_000) })],
    ['100 kB that are not JSON', 'x'.repeat(100_000)],
    ['an own __proto__', packet(good).replace('"type"', '"__proto__":{"polluted":1},"type"')],
    ['10,000 brackets', '['.repeat(10_000)],
  ];

  it.each(foreign)(
    'is dropped, counted and told when it is %s, and the next good one comes through',
    async (_, text) => {
      const manager = await startManager();
      const heard: ChannelMessage[] = [];
      const dropped: NotificationEvents['dropped'][] = [];
      manager.on('dropped', (event) => dropped.push(event));
      await manager.subscribe(channel, (message) => heard.push(message));
      const before = manager.stats();
      await publish(text);
      await publish(packet(good));
      await eventually('the good one was heard', () => heard.length === 1);
      expect(heard[0]).toEqual({ channel, pattern: undefined, data: good });
      expect(dropped).toEqual([{ channel, reason: expect.any(String) }]);
      expect(dropped[0]?.reason.length).toBeLessThan(200);
      const after = manager.stats();
      expect(after.dropped - before.dropped).toBe(1);
      expect(after.received - before.received).toBe(2);
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    },
  );

  it.each([
    ['shutdown', 'function:shutdown', { estimatedDowntimeMs: 5 }, { estimatedDowntimeMs: '5' }],
    ['offline', 'function:offline', { reason: 'x' }, { reason: 1 }],
    ['health', 'worker:health', { healthy: true }, { healthy: 'yes' }],
  ])('needs the own field of %s', async (type, head, right, wrong) => {
    const manager = await startManager();
    const name = `${head}:resize:media`;
    const heard: ChannelMessage[] = [];
    await manager.subscribe(name, (message) => heard.push(message));
    await publish(packet({ ...good, type }, name), name);
    await publish(packet({ ...good, type, ...wrong }, name), name);
    await publish(packet({ ...good, type, ...right }, name), name);
    await eventually('the right one was heard', () => heard.length === 1);
    expect(heard[0]?.data).toEqual({ ...good, type, ...right });
    expect(manager.stats().dropped).toBe(2);
  });

  it('may carry fields that this version does not know, and a pattern of whichever form', async () => {
    const manager = await startManager();
    const heard: ChannelMessage[] = [];
    await manager.subscribe(channel, (message) => heard.push(message));
    await publish(packet({ ...good, future: { x: 1 } }, { cmd: 'ready' }));
    await eventually('it was heard', () => heard.length === 1);
    expect(heard[0]?.data).toEqual({ ...good, future: { x: 1 } });
  });

  it('is dropped on a pattern subscription too, and told with its own channel', async () => {
    const manager = await startManager();
    const heard: ChannelMessage[] = [];
    const dropped: NotificationEvents['dropped'][] = [];
    manager.on('dropped', (event) => dropped.push(event));
    await manager.subscribePattern('function:ready:*', (message) => heard.push(message));
    await publish('rubbish');
    await publish(packet(good));
    await eventually('the good one was heard', () => heard.length === 1);
    expect(heard[0]).toEqual({ channel, pattern: 'function:ready:*', data: good });
    expect(dropped.map((event) => event.channel)).toEqual([channel]);
  });

  it('is logged once per channel, told each time, and never with its payload', async () => {
    const manager = await startManager();
    const dropped: string[] = [];
    manager.on('dropped', (event) => dropped.push(event.channel));
    const other = 'function:offline:resize:media';
    await manager.subscribeAll([channel, other], () => undefined);
    const log = new CapturedLog();
    for (let n = 0; n < 5; n += 1) await publish(`secret-${n}`);
    await publish('secret-other', other);
    await eventually('all were told', () => dropped.length === 6);
    log.release();
    const warnings = log.of('warn', 'NOTIFICATIONS');
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toContain(channel);
    expect(warnings[1]).toContain(other);
    expect(log.lines.map(({ text }) => text).join('\n')).not.toContain('secret');
    expect(manager.stats().dropped).toBe(6);
  });

  it('of an application channel is any Nest packet, and only that', async () => {
    const manager = await startManager();
    const heard: unknown[] = [];
    await manager.subscribe('app:events', ({ data }) => heard.push(data));
    for (const text of ['rubbish', '{"data":1}', packet(null), packet('x'.repeat(100_000))])
      await publish(text, 'app:events');
    await eventually('the packets were heard', () => heard.length === 2);
    expect(heard).toEqual([null, 'x'.repeat(100_000)]);
    expect(manager.stats().dropped).toBe(2);
  });

  it('does no harm in a listener of dropped messages that throws', async () => {
    const manager = await startManager();
    const told: string[] = [];
    manager.on('dropped', () => {
      throw new Error('broken');
    });
    manager.on('dropped', ({ channel: name }) => told.push(name));
    await manager.subscribe(channel, () => undefined);
    await publish('rubbish');
    await eventually('the other was told', () => told.length === 1);
    expect(manager.state).toBe('connected');
  });
});
