import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionRegistry,
  isFunctionsError,
  type CallOptions,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';

const fleet = new Fleet();

class Echo {
  @FunctionHandler({ name: 'echo' })
  echo(input: unknown): unknown {
    return input;
  }
}

let registry: EnhancedFunctionRegistry;
let plain: FunctionRegistry;

beforeAll(async () => {
  await fleet.start({ providers: [Echo] });
  const caller = await fleet.start({ options: { worker: false, pollIntervalMs: 20 } });
  registry = caller.get(EnhancedFunctionRegistry);
  plain = caller.get(FunctionRegistry);
  await registry.waitForFunction('echo', 'default');
});
afterAll(() => fleet.close());

/** The newest id of the stream's entries: `0-0` while nothing was ever written. */
async function lastEntry(): Promise<unknown> {
  const key = `${fleet.prefix}nf:{echo:default}:calls`;
  const info = (await fleet.redis.call('XINFO', 'STREAM', key)) as unknown[];
  return info[info.indexOf('last-generated-id') + 1];
}

function cyclic(): object {
  const value: Record<string, unknown> = {};
  value['self'] = { value };
  return value;
}

function deep(levels: number): object {
  let value: object = {};
  for (let i = 0; i < levels; i += 1) value = { value };
  return value;
}

const names: [string, unknown][] = [
  ['empty', ''],
  ['of 10 kB', 'x'.repeat(10_000)],
  ['undefined', undefined],
  ['null', null],
  ['a number', 5],
  ['an object', { toString: () => 'echo' }],
  ['half an emoji', 'x\ud83d'],
];

const payloads: [string, unknown, string][] = [
  ['a cycle', cyclic(), 'PAYLOAD_NOT_SERIALIZABLE'],
  ['250 levels', deep(250), 'PAYLOAD_NOT_SERIALIZABLE'],
  ['a BigInt', { n: 1n }, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['a function', { f: () => 1 }, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['a function at the top', () => 1, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['a symbol', { s: Symbol('s') }, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['NaN', { n: Number.NaN }, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['a Map', { m: new Map() }, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['an own __proto__', JSON.parse('{"__proto__": {"polluted": true}}'), 'PAYLOAD_NOT_SERIALIZABLE'],
  [
    'a getter that throws',
    {
      get x(): never {
        throw new Error('no');
      },
    },
    'PAYLOAD_NOT_SERIALIZABLE',
  ],
  ['a toJSON that throws', { toJSON: () => JSON.parse('{') as object }, 'PAYLOAD_NOT_SERIALIZABLE'],
  ['5 MB', { text: 'x'.repeat(5 * 1024 * 1024) }, 'PAYLOAD_TOO_LARGE'],
  ['1 MB of emoji', { text: '🚀'.repeat(300_000) }, 'PAYLOAD_TOO_LARGE'],
];

const timeouts: [string, unknown][] = [
  ['negative', -1],
  ['NaN', Number.NaN],
  ['infinite', Number.POSITIVE_INFINITY],
  ['longer than a timer', 2 ** 31],
  ['a string', '100'],
  ['null', null],
];

/** Every method that answers with an outcome instead of throwing. */
const outcomes: [string, (...args: never[]) => Promise<unknown>][] = [
  [
    'callFunctionWithInstantReadiness',
    (...args) =>
      registry.callFunctionWithInstantReadiness(
        ...(args as unknown as Parameters<EnhancedFunctionRegistry['callFunction']>),
      ),
  ],
  [
    'callFunction',
    (...args) =>
      plain.callFunction(...(args as unknown as Parameters<FunctionRegistry['callFunction']>)),
  ],
];

describe.each(outcomes)('%s never throws', (_method, invoke) => {
  const run = (...args: unknown[]): Promise<unknown> => invoke(...(args as never[]));
  const failed = (code: string): object => ({
    success: false,
    error: { code, message: expect.stringMatching(/.{20}/) },
    callId: expect.stringMatching(/^[\w-]{22}\.\d+$/),
  });

  it.each(names)('for a name that is %s', async (_title, name) => {
    await expect(run(name, 'default', {})).resolves.toMatchObject(failed('INVALID_NAME'));
    await expect(run('echo', name, {})).resolves.toMatchObject(failed('INVALID_NAME'));
  });

  it.each(payloads)('for parameters and an item with %s', async (_title, value, code) => {
    await expect(run('echo', 'default', value)).resolves.toMatchObject(failed(code));
    await expect(run('echo', 'default', {}, value)).resolves.toMatchObject(failed(code));
    await expect(run('echo', 'default', {}, { nested: [value] })).resolves.toMatchObject(
      failed(code),
    );
  });

  it.each(timeouts)('for a timeout that is %s', async (_title, timeout) => {
    await expect(run('echo', 'default', {}, {}, timeout)).resolves.toMatchObject(
      failed('INVALID_ARGUMENT'),
    );
  });
});

describe('call rejects', () => {
  it.each(names.filter(([, name]) => typeof name === 'string'))(
    'a name that is %s',
    async (_title, name) => {
      await expect(registry.call(name as string)).rejects.toMatchObject({ code: 'INVALID_NAME' });
    },
  );

  it.each([[undefined], [null], [5], [['echo']]])(
    'something that is neither a name nor a contract: %p',
    async (fn) => {
      await expect(registry.call(fn as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    },
  );

  it.each(payloads)('parameters with %s, saying where', async (_title, value, code) => {
    const error: unknown = await registry.call('echo', value as object).catch((e: unknown) => e);
    expect(isFunctionsError(error, code)).toBe(true);
    expect((error as Error).message).toMatch(/parameters/);
  });

  const options: [string, object, RegExp][] = [
    ['a workflowId that is null', { workflowId: null }, /workflowId is null/],
    ['a timeout that is no number', { timeoutMs: '5' }, /timeoutMs is "5"/],
    ['a negative readiness timeout', { readinessTimeoutMs: -1 }, /readinessTimeoutMs is -1/],
    ['an unknown ifUnavailable', { ifUnavailable: 'maybe' }, /'wait' or 'fail'/],
    ['an unknown delivery', { delivery: 'exactly-once' }, /'at-least-once' or 'at-most-once'/],
    ['a signal that is none', { signal: {} }, /signal is .*AbortSignal/],
    ['an onProgress that is none', { onProgress: 5 }, /onProgress is 5/],
    ['headers that are no object', { headers: 'a' }, /headers is "a"/],
    ['a header that is no string', { headers: { a: 1 } }, /headers\.a is 1/],
  ];

  it.each(options)('options with %s', async (_title, given, message) => {
    await expect(registry.call('echo', {}, given as CallOptions)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  it('options that are no object', async () => {
    await expect(registry.call('echo', {}, 5 as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await expect(registry.call('echo', {}, null as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('with a stack that shows who called, for refusals and for failures of the worker', async () => {
    class Failing {
      @FunctionHandler({ name: 'failing' })
      failing(): never {
        throw new Error('on the worker');
      }
    }
    await fleet.start({ providers: [Failing] });
    async function someoneWhoCalls(name: string, parameters: object): Promise<void> {
      await registry.call(name, parameters);
    }
    for (const [name, parameters] of [
      ['failing', {}],
      ['echo', { n: 1n }],
      ['', {}],
    ] as const) {
      const error: unknown = await someoneWhoCalls(name, parameters).catch((e: unknown) => e);
      expect((error as Error).stack).toContain('someoneWhoCalls');
      expect((error as Error).stack).toContain('bad-input.test.ts');
    }
  });

  it('and nothing of all that was sent, or polluted anything', async () => {
    expect(await lastEntry()).toBe('0-0');
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    await expect(registry.call('echo', { fine: ['yes'] })).resolves.toEqual({ fine: ['yes'] });
    expect(await lastEntry()).not.toBe('0-0');
  });
});
