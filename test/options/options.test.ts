import { describe, expect, it } from '@jest/globals';
import { hostname } from 'node:os';
import { Cluster, Redis } from 'ioredis';
import { CIRCUIT_DEFAULTS } from '../../src/circuit/circuit-options.js';
import { InvalidOptionsError, type OptionViolation } from '../../src/common/errors.js';
import { FunctionsModule } from '../../src/functions.module.js';
import {
  ALLOWED,
  applicationSettings,
  DEFAULTS,
  resolveOptions,
  type FunctionsOptions,
} from '../../src/functions.options.js';
import { caught } from '../harness/caught.js';

const resolve = (given?: unknown, env: NodeJS.ProcessEnv = {}): ReturnType<typeof resolveOptions> =>
  resolveOptions(given, env);

function violationsOf(given: unknown, env: NodeJS.ProcessEnv = {}): readonly OptionViolation[] {
  const error = caught(() => resolve(given, env));
  return error instanceof InvalidOptionsError ? error.violations : [];
}

const LONG = 'x'.repeat(257);

/** Per option: values that stop the boot. */
const REFUSED: Readonly<Record<keyof FunctionsOptions, readonly unknown[]>> = {
  connection: [
    null,
    7,
    true,
    '',
    'localhost:6379',
    'http://localhost',
    'redis://',
    'memory:',
    'memory://a/b',
    'memory://a:1',
    'memory://a?b=c',
    `memory://${'x'.repeat(65)}`,
    [],
  ],
  keyPrefix: [null, 7, 'x'.repeat(129), {}],
  workflowId: [null, 7, '', LONG, 'a\ud800', '😀'.repeat(200)],
  workerId: [null, 7, '', LONG, '\udc00'],
  worker: [null, 'false', 0, {}],
  supervise: [null, 'false', 0, {}],
  concurrency: [null, '8', 0, -1, 1.5, NaN, Infinity, 100_001],
  readinessTimeoutMs: [null, '1s', -1, 0.5, NaN, 2_147_483_648],
  executionTimeoutMs: [null, '1s', 0, -1, 0.5, Infinity, 2_147_483_648],
  leaseMs: [null, '5000', 299, 300.5, 3_600_001],
  drainTimeoutMs: [null, true, -1, 3_600_001],
  pollIntervalMs: [null, '500', 9, 3_600_001],
  maxDeliveries: [null, '3', 0, 1.5, 1_001],
  maxPayloadBytes: [null, '1mb', 63, 64.5, 512 * 1024 * 1024 + 1],
  maxBacklog: [null, '3', 0, 1.5, 100_000_001],
  idempotencyTtlMs: [null, '1h', 999, 1_000.5, 2_592_000_001],
  exposeStacks: [null, 'yes', 1],
  tracing: [null, 'yes', 1],
  health: [null, 'yes', 7, [], () => true],
  metrics: [null, 'yes', 7, [], () => true],
  circuit: [null, 'yes', 7, () => true],
};

/** Per option: values at the edges of what is allowed. */
const ACCEPTED: Readonly<Record<keyof FunctionsOptions, readonly unknown[]>> = {
  connection: [
    'redis://h',
    'rediss://:p@h:1/2',
    'redis://[::1]:6379',
    'memory://',
    'memory://Test.app-1_x',
    () => ({}),
    {},
    { host: 'h' },
  ],
  keyPrefix: ['', 'tenant:', 'x'.repeat(128), '{a}*'],
  workflowId: ['w', 'a:b', 'x'.repeat(256)],
  workerId: ['w', '画像'],
  worker: [true, false],
  supervise: [true, false],
  concurrency: [1, 100_000],
  readinessTimeoutMs: [0, 2_147_483_647],
  executionTimeoutMs: [1, 2_147_483_647],
  leaseMs: [300, 3_600_000],
  drainTimeoutMs: [0, 3_600_000],
  pollIntervalMs: [10, 3_600_000],
  maxDeliveries: [1, 1_000],
  maxPayloadBytes: [64, 512 * 1024 * 1024],
  maxBacklog: [1, 100_000_000],
  idempotencyTtlMs: [1_000, 2_592_000_000],
  exposeStacks: [true, false],
  tracing: [true, false],
  health: [true, false, {}, { path: 'health' }, { path: '/a/b', required: [] }],
  metrics: [true, false, {}, { path: 'metrics' }, { path: '/a/b' }],
  circuit: [
    true,
    false,
    {},
    { enabled: false, functions: [] },
    { failureRate: 0.01, minimumCalls: 1, windowMs: 100, quorum: 0, openMs: 10 },
    { failureRate: 1, minimumCalls: 1_000_000, windowMs: 3_600_000, quorum: 1, openMs: 86_400_000 },
    { isFailure: () => undefined, functions: [{ functionName: 'f', enabled: false }] },
  ],
};

const table = (values: typeof REFUSED): { option: string; value: unknown; shown: string }[] =>
  Object.entries(values).flatMap(([option, all]) =>
    all.map((value) => ({ option, value, shown: String(value).slice(0, 20) || "''" })),
  );

describe('an option', () => {
  it.each(table(REFUSED))(
    'of a wrong value stops with its path, the value and what is allowed: $option = $shown',
    ({ option, value }) => {
      expect(violationsOf({ [option]: value })).toEqual([
        {
          path: option,
          value: expect.any(String),
          allowed: ALLOWED[option as keyof FunctionsOptions],
        },
      ]);
    },
  );

  it.each(table(ACCEPTED))(
    'is taken at the edge of what is allowed: $option = $shown',
    ({ option, value }) => {
      expect(violationsOf({ [option]: value })).toEqual([]);
    },
  );

  it.each(Object.keys(ALLOWED))('as undefined is as good as left out: %s', (option) => {
    const { connection, settings } = resolve({ [option]: undefined });
    const { workerId: _, ...fixed } = settings;
    const { workerId: __, ...expected } = resolve().settings;
    expect({ connection, ...fixed }).toEqual({ connection: 'redis://127.0.0.1:6379', ...expected });
  });

  it('that does not exist is refused, with those that do', () => {
    const violations = violationsOf({ concurency: 5 });
    expect(violations).toMatchObject([
      { path: 'concurency', value: 'an option that does not exist' },
    ]);
    expect(violations[0]?.allowed).toContain('concurrency');
  });

  it('is shown in the text, with what is allowed and where to read more', () => {
    const { message } = caught(() => resolve({ leaseMs: 5 })) as Error;
    expect(message).toContain('leaseMs = 5: whole milliseconds from 300 to 3600000');
    expect(message).toContain('docs/options.md');
  });
});

describe('several wrong options', () => {
  it('are all named at once', () => {
    const wrong = { concurrency: 0, leaseMs: 'x', connection: 7, health: 7, speed: 'fast' };
    const paths = violationsOf(wrong).map(({ path }) => path);
    expect(paths.sort()).toEqual(Object.keys(wrong).sort());
  });

  it('come as one error with a code and its facts', () => {
    expect(caught(() => resolve({ concurrency: 0, leaseMs: 1 }))).toMatchObject({
      code: 'INVALID_OPTIONS',
      retryable: false,
      details: { violations: [{ path: 'concurrency' }, { path: 'leaseMs' }] },
    });
  });
});

describe('options as a whole', () => {
  it.each([null, 7, 'redis://h', [], true])('are refused when they are no object: %j', (given) => {
    expect(violationsOf(given)).toMatchObject([
      { path: 'options', allowed: 'an object, or nothing' },
    ]);
  });

  it('have defaults for everything', () => {
    expect(resolve().settings).toEqual({
      ...DEFAULTS,
      health: undefined,
    });
  });

  it('have a default workerId that says host and process, and differs for each application', () => {
    const { settings } = resolve();
    const { workerId } = applicationSettings(settings);
    expect(workerId.startsWith(`${hostname()}-${process.pid}-`)).toBe(true);
    expect(applicationSettings(settings).workerId).not.toBe(workerId);
    expect(applicationSettings(resolve({ workerId: 'id' }).settings).workerId).toBe('id');
  });

  it('are what was given', () => {
    const given = {
      keyPrefix: 'p:',
      workflowId: 'w',
      workerId: 'id',
      worker: false,
      concurrency: 3,
    };
    expect(resolve(given).settings).toMatchObject(given);
  });

  it('cannot be changed afterwards', () => {
    const settings = resolve().settings as { concurrency: number };
    expect(() => {
      settings.concurrency = 5;
    }).toThrow(TypeError);
  });

  it('do not change what was given', () => {
    const given = Object.freeze({ concurrency: 3, health: Object.freeze({ path: '/h' }) });
    expect(() => resolve(given)).not.toThrow();
  });
});

describe('the connection', () => {
  it('is that of REDIS_URL when none is given', () => {
    expect(resolve({}, { REDIS_URL: 'redis://elsewhere:1' }).connection).toBe(
      'redis://elsewhere:1',
    );
  });

  it('is the given one before that of REDIS_URL', () => {
    expect(resolve({ connection: 'redis://h' }, { REDIS_URL: 'redis://x' }).connection).toBe(
      'redis://h',
    );
  });

  it('is the local one when REDIS_URL is empty', () => {
    expect(resolve({}, { REDIS_URL: '' }).connection).toBe('redis://127.0.0.1:6379');
  });

  it('is refused by the name of the variable when that is wrong', () => {
    expect(violationsOf({}, { REDIS_URL: 'localhost:6379' })).toEqual([
      { path: 'REDIS_URL', value: '"localhost:6379"', allowed: ALLOWED.connection },
    ]);
  });

  it('may be an ioredis instance, which is not touched', () => {
    const client = new Redis({ lazyConnect: true });
    expect(resolve({ connection: client }).connection).toBe(client);
    expect(client.status).toBe('wait');
    client.disconnect();
  });

  it('is refused when it is a Cluster', () => {
    const cluster = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true });
    expect(violationsOf({ connection: cluster })).toEqual([
      { path: 'connection', value: 'a Cluster', allowed: ALLOWED.connection },
    ]);
    cluster.disconnect();
  });

  it.each<[string, () => { connection: unknown; close?: () => void }]>([
    ['options', () => ({ connection: { host: 'h', keyPrefix: 'app:' } })],
    ['a URL', () => ({ connection: 'redis://h/0?keyPrefix=app:' })],
    [
      'an instance',
      () => {
        const client = new Redis({ lazyConnect: true, keyPrefix: 'app:' });
        return { connection: client, close: () => client.disconnect() };
      },
    ],
  ])("is refused with ioredis's own keyPrefix, and with the cure: in %s", (_, make) => {
    const { connection, close } = make();
    const violations = violationsOf({ connection });
    close?.();
    expect(violations).toMatchObject([{ path: 'connection' }]);
    expect(violations[0]?.value).toContain('"app:"');
    expect(violations[0]?.allowed).toContain('keyPrefix option of FunctionsModule');
  });

  it.each<[string, unknown, string]>([
    ['port', NaN, '1 to 65535'],
    ['port', 'abc', '1 to 65535'],
    ['port', 99_999, '1 to 65535'],
    ['port', 0, '1 to 65535'],
    ['port', null, '1 to 65535'],
    ['host', '', 'host name'],
    ['host', 7, 'host name'],
    ['db', -1, '0 or more'],
    ['db', 1.5, '0 or more'],
    ['db', 'main', '0 or more'],
    ['url', 'redis://:s3cret@h', 'as it is'],
    ['uri', 'redis://h', 'as it is'],
  ])('is refused with the path of a field that is wrong: %s = %p', (field, value, allowed) => {
    const violations = violationsOf({ connection: { [field]: value } });
    expect(violations).toEqual([
      {
        path: `connection.${field}`,
        value: expect.any(String),
        allowed: expect.stringContaining(allowed),
      },
    ]);
    expect(violations[0]?.value).not.toContain('s3cret');
  });

  it.each([
    [{ port: 1, db: 0 }],
    [{ port: 65_535, db: 15, host: '::1' }],
    [{ port: '6379', db: '2' }],
    [{ host: undefined, port: undefined, db: undefined }],
    ['redis://h:6379/15/'],
    ['redis://h?db=3'],
  ])('is taken with fields that the client can use: %j', (connection) => {
    expect(violationsOf({ connection })).toEqual([]);
  });

  it.each([
    ['redis://h/main', 'db', '"main"'],
    ['redis://h?db=main', 'db', '"main"'],
    ['redis://h:0', 'port', '"0"'],
    ['redis://user:1/s3?cret@h', 'db', '***'],
  ])('is refused when the client would misread it: %s', (connection, field, value) => {
    expect(violationsOf({ connection })).toMatchObject([{ path: `connection.${field}`, value }]);
    expect(violationsOf({}, { REDIS_URL: connection })).toMatchObject([
      { path: `REDIS_URL.${field}`, value },
    ]);
  });

  it.each([
    ['redis://user:s3cret@elsewhere', '"redis://***@elsewhere"'],
    ['user:s3cret@elsewhere', '"***@elsewhere"'],
    ['a b', '"a b"'],
    [7, '7'],
  ])('is refused with a host that is none, and with the cure: %j', (host, value) => {
    const violations = violationsOf({ connection: { host, port: 6379 } });
    expect(violations).toMatchObject([{ path: 'connection.host', value }]);
    expect(violations[0]?.allowed).toContain("{ connection: 'redis://...' }");
  });

  it.each(['localhost', '::1', '10.0.0.1', 'redis-1.example.test'])(
    'is accepted with the host %s',
    (host) => {
      expect(() => resolve({ connection: { host } })).not.toThrow();
    },
  );

  it.each([
    'http://user:s3cret@host:6379',
    'redis:/:s3cret@host',
    ':s3cret@host:6379',
    'user:s3cret@host',
    'redis://:pa/s3cret@host:99999',
    'redis://host:99999?password=s3cret',
    'redis//user:s3cret@host',
    'redis://user:s3cret@host:port',
    'postgres+tls://user:s3cret@host',
  ])('does not show its password when it is refused: %s', (connection) => {
    const error = caught(() => resolve({ connection }));
    expect(error).toBeInstanceOf(InvalidOptionsError);
    expect(JSON.stringify([(error as Error).message, error])).not.toContain('s3cret');
  });

  it('does not show its password when another option of ioredis is refused', () => {
    const connection = { host: 'h', password: 's3cret', keyPrefix: 'app:' };
    const error = caught(() => resolve({ connection }));
    expect(JSON.stringify([(error as Error).message, error])).not.toContain('s3cret');
  });
});

describe('health', () => {
  it.each([
    [true, { path: '/health', required: [] }],
    [{}, { path: '/health', required: [] }],
    [{ path: '/status' }, { path: '/status', required: [] }],
    [false, undefined],
  ])('given as %j is %j', (health, resolved) => {
    expect(resolve({ health }).settings.health).toEqual(resolved);
  });

  it("requires a function in the module's workflow when it names none", () => {
    const health = { required: [{ functionName: 'a' }, { functionName: 'b', workflowId: 'x' }] };
    expect(resolve({ workflowId: 'w', health }).settings.health?.required).toEqual([
      { functionName: 'a', workflowId: 'w' },
      { functionName: 'b', workflowId: 'x' },
    ]);
  });

  it.each([
    [{ path: 7 }, 'health.path'],
    [{ path: '' }, 'health.path'],
    [{ path: 'a b' }, 'health.path'],
    [{ path: '/:id' }, 'health.path'],
    [{ path: '/*' }, 'health.path'],
    [{ required: 'resize' }, 'health.required'],
    [{ required: ['resize'] }, 'health.required[0]'],
    [{ required: [{ functionName: 'a' }, {}] }, 'health.required[1]'],
    [{ required: [{ functionName: '' }] }, 'health.required[0]'],
    [{ required: [{ functionName: 'a', workflowId: 7 }] }, 'health.required[0]'],
    [{ required: [{ functionName: 'a', workflow: 'w' }] }, 'health.required[0]'],
    [{ url: '/health' }, 'health.url'],
  ])('is refused with its path: %j', (health, path) => {
    expect(violationsOf({ health }).map((violation) => violation.path)).toEqual([path]);
  });
});

describe('FunctionsModule.forRoot', () => {
  it('throws when the module is built, before anything connects', () => {
    expect(() => FunctionsModule.forRoot({ concurrency: 0 })).toThrow(InvalidOptionsError);
  });
});

describe('the circuit option', () => {
  it.each<[unknown, string]>([
    [{ failureRate: 0 }, 'circuit.failureRate'],
    [{ failureRate: 1.1 }, 'circuit.failureRate'],
    [{ failureRate: '0.5' }, 'circuit.failureRate'],
    [{ minimumCalls: 0 }, 'circuit.minimumCalls'],
    [{ windowMs: 99 }, 'circuit.windowMs'],
    [{ quorum: -0.1 }, 'circuit.quorum'],
    [{ openMs: 9 }, 'circuit.openMs'],
    [{ openMs: null }, 'circuit.openMs'],
    [{ isFailure: true }, 'circuit.isFailure'],
    [{ enabled: 'yes' }, 'circuit.enabled'],
    [{ treshold: 0.5 }, 'circuit.treshold'],
    [{ functions: {} }, 'circuit.functions'],
    [{ functions: [7] }, 'circuit.functions[0]'],
    [{ functions: [{}] }, 'circuit.functions[0].functionName'],
    [{ functions: [{ functionName: 'f', workflowId: '' }] }, 'circuit.functions[0].workflowId'],
    [
      { functions: [{ functionName: 'f' }, { functionName: 'g', openMs: 1 }] },
      'circuit.functions[1].openMs',
    ],
    [{ functions: [{ functionName: 'f', functions: [] }] }, 'circuit.functions[0].functions'],
  ])('of %j stops with the path of what is wrong', (circuit, path) => {
    expect(violationsOf({ circuit })).toEqual([
      { path, value: expect.any(String), allowed: expect.stringMatching(/./) },
    ]);
  });

  it('is off unless asked for', () => {
    expect(resolve().settings.circuit).toBeUndefined();
    expect(resolve({ circuit: false }).settings.circuit).toBeUndefined();
  });

  it('gives each function what it says, and the rest what the module says', () => {
    const { circuit } = resolve({
      workflowId: 'shop',
      circuit: {
        failureRate: 0.3,
        openMs: undefined,
        functions: [
          { functionName: 'charge', openMs: 100 },
          { functionName: 'log', workflowId: 'other', enabled: false },
        ],
      },
    }).settings;
    const rest = { ...CIRCUIT_DEFAULTS, failureRate: 0.3 };
    expect(circuit?.policy).toEqual(rest);
    expect([...(circuit?.functions ?? [])]).toEqual([
      ['charge:shop', { ...rest, openMs: 100 }],
      ['log:other', undefined],
    ]);
    const only = resolve({ circuit: { enabled: false, functions: [{ functionName: 'f' }] } });
    expect(only.settings.circuit?.policy).toBeUndefined();
    expect(only.settings.circuit?.functions.get('f:default')).toEqual(CIRCUIT_DEFAULTS);
  });
});
