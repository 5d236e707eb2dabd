import { inspect } from 'node:util';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  jest,
} from '@jest/globals';
import { Redis } from 'ioredis';
import {
  EnhancedFunctionRegistry,
  FunctionRegistry,
  FunctionsHealthIndicator,
  FunctionsModule,
  NotificationManager,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { rootModule } from '../harness/apps.js';
import { caught } from '../harness/caught.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';

const RIGHT = 'the-right-0ne';
const WRONG = 'Tr0ub4dor-3';
const ODD = 'sl/ash@and?more#';
const PAYLOAD = 'a-card-number-4242';

let redis: StartedRedis;
let apps: NestApps;
let logger: CapturingLogger;
let printed: string[];

beforeAll(async () => {
  redis = await startRedis({ args: ['--requirepass', RIGHT] });
});
afterAll(() => redis.stop());

function open(): void {
  apps = new NestApps(redis.url.replace('//', `//:${RIGHT}@`));
  logger = new CapturingLogger();
  printed = [];
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    jest.spyOn(console, method).mockImplementation((...words: unknown[]) => {
      printed.push(words.map((word) => inspect(word, { depth: 10 })).join(' '));
    });
  }
}

async function close(): Promise<void> {
  await apps.close();
  jest.restoreAllMocks();
}

/** Everything that a person or a log can get to see. */
function seen(...values: unknown[]): string {
  const shown = values.map((value) => {
    const stack = value instanceof Error ? value.stack : '';
    return `${inspect(value, { depth: 10, showHidden: true })} ${JSON.stringify(value)} ${stack}`;
  });
  return [...shown, logger.text, ...printed].join('\n');
}

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => new Error('it did not fail'),
    (error: unknown) => error,
  );

/** Starts an application on a connection, uses everything of it that asks Redis, and gives what it was told. */
async function useAll(connection: unknown): Promise<unknown[]> {
  const providers = [hosting('work', () => 'done')];
  const app = await apps.context(rootModule(apps.options({ connection }), { providers }), logger);
  const registry = app.get(EnhancedFunctionRegistry);
  return Promise.all([
    failure(app.get(FunctionRegistry).getAvailableFunctions()),
    failure(registry.call('work', {}, { readinessTimeoutMs: 300, timeoutMs: 300 })),
    failure(registry.waitForFunction('work', 'default', 300)),
    failure(app.get(NotificationManager).publish('a', 1)),
    failure(app.get(NotificationManager).subscribe('a', () => undefined)),
    registry.callFunction('work', 'default', {}, {}, 300),
    app.get(FunctionsHealthIndicator).ready(),
  ]);
}

describe('a password', () => {
  const at = (user: string): string => redis.url.replace('//', `//${user}@`);
  const own = (): object => ({ host: '127.0.0.1', port: redis.port });
  const connections: readonly { what: string; password: string; connection: () => unknown }[] = [
    { what: 'that is wrong, in a URL', password: WRONG, connection: () => at(`:${WRONG}`) },
    { what: 'that is wrong, of a user', password: WRONG, connection: () => at(`her:${WRONG}`) },
    {
      what: 'that is wrong, and encoded in a URL',
      password: ODD,
      connection: () => at(`:${encodeURIComponent(ODD)}`),
    },
    {
      what: 'that is wrong, in the query of a URL',
      password: WRONG,
      connection: () => `${redis.url}/0?password=${WRONG}`,
    },
    {
      what: 'that is wrong, in options',
      password: WRONG,
      connection: () => ({ ...own(), password: WRONG }),
    },
    {
      what: 'that is wrong, of a user in options',
      password: WRONG,
      connection: () => ({ ...own(), username: 'her', password: WRONG }),
    },
    {
      what: 'that is wrong, of an instance',
      password: WRONG,
      connection: () => new Redis({ ...own(), password: WRONG, lazyConnect: true }),
    },
    { what: 'that is right', password: RIGHT, connection: () => at(`:${RIGHT}`) },
    {
      what: 'for a port where nothing is',
      password: WRONG,
      connection: () => `redis://:${WRONG}@127.0.0.1:1`,
    },
    {
      what: 'for a host that does not exist',
      password: WRONG,
      connection: () => `redis://:${WRONG}@does-not-exist.invalid:6379`,
    },
  ];
  const told = new Map<string, unknown[]>();

  beforeAll(async () => {
    open();
    await Promise.all(
      connections.map(async ({ what, connection }) => told.set(what, await useAll(connection()))),
    );
  }, 60_000);
  afterAll(close);

  it.each(connections)('$what, is in no log line and in no error', ({ what, password }) => {
    const text = seen(...(told.get(what) ?? []));
    expect(text).toMatch(/work/);
    expect(text).not.toContain(password);
    expect(text).not.toContain(encodeURIComponent(password));
  });

  it('is the one thing that is left out: who cannot connect is told where and why', () => {
    expect(seen(...(told.get('that is wrong, in a URL') ?? []))).toMatch(
      /redis:\/\/\*\*\*@127\.0\.0\.1:\d+ refuses this client \(WRONGPASS/,
    );
  });
});

describe('an option that holds a password', () => {
  beforeEach(open);
  afterEach(close);

  it.each<[string, unknown]>([
    ['a URL that is none', `redis//:${WRONG}@host`],
    ['a URL of another kind', `http://user:${WRONG}@host:6379`],
    ['a URL with a password that was not encoded', `redis://:${WRONG}/@/x@host:6379`],
    ['a URL with a port of words', `redis://:${WRONG}@host:port`],
    ['a URL with a database of words', `redis://:${WRONG}@host:6379/db`],
    ['a URL as a host', { host: `redis://:${WRONG}@host`, port: 'x' }],
    ['a URL as a field', { url: `redis://:${WRONG}@host`, password: WRONG }],
    ['options of an impossible port', { host: 'h', port: -1, password: WRONG }],
    ['an array', [`redis://:${WRONG}@host`]],
  ])('as %s stops the boot without it', (_what, connection) => {
    const error = caught(() => FunctionsModule.forRoot({ connection }));
    expect(error).toMatchObject({ code: 'INVALID_OPTIONS' });
    expect(seen(error)).not.toContain(WRONG);
  });
});

describe('the parameters of a call', () => {
  beforeEach(open);
  afterEach(close);

  it.each<[string, (admin: Redis) => Promise<unknown>, (admin: Redis) => Promise<unknown>]>([
    [
      'that Redis has no memory for',
      (admin) => admin.config('SET', 'maxmemory', '1'),
      (admin) => admin.config('SET', 'maxmemory', '0'),
    ],
    [
      'that this user may not write',
      (admin) => admin.acl('SETUSER', 'default', '-xadd'),
      (admin) => admin.acl('SETUSER', 'default', '+xadd'),
    ],
    [
      'that this user may not submit',
      (admin) => admin.acl('SETUSER', 'default', '-eval', '-evalsha'),
      (admin) => admin.acl('SETUSER', 'default', '+eval', '+evalsha'),
    ],
  ])('%s are in no log line and in no error', async (_what, breakIt, mend) => {
    const app = await apps.context(
      rootModule(apps.options(), { providers: [hosting('work', () => 'done')] }),
      logger,
    );
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.call('work');
    await breakIt(apps.redis);
    const input = { card: PAYLOAD };
    const errors = await Promise.all([
      failure(registry.call('work', input, { timeoutMs: 1_000 })),
      failure(registry.call('work', input, { timeoutMs: 1_000, idempotencyKey: 'k' })),
    ]);
    await mend(apps.redis);
    for (const error of errors) expect(error).toMatchObject({ code: 'BACKEND_REFUSED' });
    expect(seen(...errors)).not.toContain(PAYLOAD);
  });
});
