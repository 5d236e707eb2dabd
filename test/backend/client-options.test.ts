import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis, type RedisOptions } from 'ioredis';
import { RedisConnection, type RedisSource } from '../../src/backend/redis/redis-connection.js';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

/** What a user may have in the options of a connection, and what is made of it. */
const OPTIONS: readonly (readonly [name: keyof RedisOptions, given: unknown, decided: unknown])[] =
  [
    ['commandTimeout', 300, undefined],
    ['blockingTimeout', 300, undefined],
    ['socketTimeout', 300, undefined],
    ['autoResendUnfulfilledCommands', true, false],
    ['reconnectOnError', () => 2, expect.any(Function)],
    ['enableAutoPipelining', true, false],
    ['enableReadyCheck', false, true],
    ['monitor', true, false],
    ['readOnly', true, false],
    ['stringNumbers', true, false],
    ['scripts', { get: { lua: 'return 1', numberOfKeys: 1 } }, undefined],
    ['enableOfflineQueue', true, false],
    ['maxRetriesPerRequest', 20, 0],
    ['autoResubscribe', true, false],
    ['lazyConnect', false, true],
    ['protocol', 3, 2],
  ];

const open: { disconnect(): void }[] = [];
afterEach(() => {
  for (const client of open.splice(0)) client.disconnect();
});

/** The three ways in which a user says what to connect to, with one option of the client. */
const sources: readonly (readonly [string, (name: string, value: unknown) => RedisSource])[] = [
  ['of an options object', (name, value) => ({ host: '127.0.0.1', [name]: value })],
  ['in the query of a URL', (name, value) => `redis://127.0.0.1:1/0?${name}=${String(value)}`],
  [
    'of an instance',
    (name, value) => {
      const client = new Redis({
        ...{ port: 1, retryStrategy: null, lazyConnect: true },
        [name]: value,
      });
      client.on('error', () => undefined);
      open.push(client);
      return client;
    },
  ],
];

describe.each(sources)("the client's option %s", (_title, make) => {
  it.each(OPTIONS)('%s is decided by the library', (name, given, decided) => {
    const connection = new RedisConnection(make(name, given), 'test', 'nowhere');
    expect(connection.client.options[name]).toEqual(decided);
    connection.close();
  });
});

describe("a user's URL", () => {
  it('keeps what is not decided by the library', () => {
    const url = 'redis://me:a%2Fb@example.test:7000/3?socketTimeout=300&family=6&connectTimeout=9';
    const { client } = new RedisConnection(url, 'test', 'nowhere');
    expect(client.options).toMatchObject({
      ...{ host: 'example.test', port: 7000, db: 3, family: 6, connectTimeout: '9' },
      ...{ username: 'me', password: 'a/b' },
    });
    client.disconnect();
  });
});

describe('a blocking read', () => {
  // Its own: connections are looked at by their names.
  let server: StartedRedis;
  let fleet: Fleet;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());
  afterEach(() => fleet.close());

  const limits = { commandTimeout: 100, socketTimeout: 100, blockingTimeout: 100 };

  it.each<[string, () => RedisSource]>([
    ['of an options object', () => ({ port: server.port, ...limits })],
    ['in the query of a URL', () => `${server.url}?socketTimeout=100`],
  ])('stays in place beyond the time limits %s', async (_title, make) => {
    fleet = new Fleet(server.url);
    const app = await fleet.start({
      providers: [hosting('work', () => 'done')],
      options: { connection: make() },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.call('work');
    await eventually('both reads have been blocked for a second', async () => {
      const list = (await fleet.redis.client('LIST')) as string;
      for (const role of ['calls', 'replies']) {
        const line = list.split('\n').find((one) => one.includes(`nestjs-functions:${role}`)) ?? '';
        expect(line).toMatch(/ idle=[1-9]/);
      }
    });
    await expect(registry.call('work')).resolves.toBe('done');
  });
});
