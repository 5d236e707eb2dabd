import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  EnhancedFunctionRegistry,
  FunctionRegistry,
  FunctionsHealthIndicator,
  isFunctionsError,
} from '../../src/index.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { withoutCommand } from '../../src/backend/redis/redis-error.js';
import { Keys } from '../../src/protocol/keys.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { hosting } from '../harness/host.js';

const SECRET = 'S3CRET-0815';
const everythingOf = (value: unknown): string => inspect(value, { depth: 10, showHidden: true });

let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

async function caught(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** What Redis refuses, and how it is made to accept again. */
const refusals = [
  [
    'is a replica',
    'READONLY',
    () => fleet.redis.replicaof('127.0.0.1', '1'),
    () => fleet.redis.replicaof('NO', 'ONE'),
  ],
  [
    'is out of memory',
    'OOM',
    () => fleet.redis.config('SET', 'maxmemory', '1'),
    () => fleet.redis.config('SET', 'maxmemory', '0'),
  ],
] as const;

describe.each(refusals)('when Redis %s, an error', (_title, word, refuse, accept) => {
  afterEach(() => fleet.close());

  const calls = [
    ['a call', {}],
    ['a call with an idempotency key', { idempotencyKey: SECRET }],
    ['an at-most-once call', { delivery: 'at-most-once' }],
  ] as const;

  it.each(calls)('says why, and nothing of what %s carried', async (_call, options) => {
    fleet = new Fleet(server.url);
    const app = await fleet.start({ providers: [hosting('work', () => 1)] });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.call('work');
    await refuse();
    const parameters = { password: SECRET };
    const error = await caught(registry.call('work', parameters, options));
    await accept();
    expect(isFunctionsError(error, 'BACKEND_REFUSED')).toBe(true);
    expect(everythingOf(error)).toContain(word);
    expect(everythingOf(error)).not.toContain(SECRET);
  });

  it('says nothing of the arguments of a control command', async () => {
    fleet = new Fleet(server.url);
    const app = await fleet.start({
      providers: [hosting('work', () => 1)],
      options: { workerId: 'w' },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    await refuse();
    const error = await caught(registry.markWorkerUnhealthy('w', 'work', 'default', SECRET));
    await accept();
    expect(everythingOf(error)).toContain(word);
    expect(everythingOf(error)).not.toContain(SECRET);
  });
});

describe('with a wrong password', () => {
  it('neither an error nor health tells it', async () => {
    const locked = await startRedis({ args: ['--requirepass', 'right'] });
    fleet = new Fleet(locked.url.replace('redis://', 'redis://:right@'));
    try {
      const connection = locked.url.replace('redis://', `redis://:${SECRET}@`);
      const app = await fleet.start({ options: { worker: false, connection } });
      const error = await caught(app.get(FunctionRegistry).getAvailableFunctions());
      expect(isFunctionsError(error, 'BACKEND_UNAVAILABLE')).toBe(true);
      expect(everythingOf(error)).toContain('WRONGPASS');
      const health = await app.get(FunctionsHealthIndicator).ready();
      expect(everythingOf([error, health])).not.toContain(SECRET);
    } finally {
      await fleet.close();
      await locked.stop();
    }
  });
});

describe('an address', () => {
  it.each([
    ['a host that is a URL', { host: `redis://user:${SECRET}@elsewhere` }],
    ['a path that is a URL', { path: `redis://user:${SECRET}@elsewhere` }],
  ])('shows no password of %s', (_title, source) => {
    const { address } = new RedisBackend(source, new Keys(''));
    expect(address).not.toContain(SECRET);
    expect(address).toContain('elsewhere');
  });
});

describe('an error of the client', () => {
  const given = (message: string): Error =>
    Object.assign(new Error(message), { command: { name: 'auth', args: [SECRET] } });

  it('keeps message, name and code, and loses its command', () => {
    const error = Object.assign(given('READONLY no'), { name: 'ReplyError', code: 'ECONNRESET' });
    expect(withoutCommand(error)).toMatchObject({
      message: 'READONLY no',
      name: 'ReplyError',
      code: 'ECONNRESET',
    });
    expect(everythingOf(withoutCommand(error))).not.toContain(SECRET);
  });

  it.each([
    [
      `ERR unknown command 'X', with args beginning with: '${SECRET}' 'b'`,
      "ERR unknown command 'X'",
    ],
    [`getaddrinfo ENOTFOUND redis://u:${SECRET}@h`, 'getaddrinfo ENOTFOUND redis://***@h'],
    ['OOM no, on @user_script:1', 'OOM no, on @user_script:1'],
  ])('says nothing that Redis quoted: %s', (message, told) => {
    expect(withoutCommand(given(message)).message).toBe(told);
  });
});
