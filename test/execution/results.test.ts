import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Logger, NotFoundException, ServiceUnavailableException } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import {
  EnhancedFunctionRegistry,
  FunctionError,
  RemoteFunctionError,
  type FunctionContext,
  type FunctionsOptions,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

/** A process that hosts the function `work` and calls it too. */
async function withHandler(
  run: (input: Record<string, unknown>, context: FunctionContext) => unknown,
  options: FunctionsOptions = {},
): Promise<EnhancedFunctionRegistry> {
  const app = await fleet.start({ providers: [hosting('work', run)], options });
  return app.get(EnhancedFunctionRegistry);
}

/** What a failing call rejects with. */
async function failureOf(registry: EnhancedFunctionRegistry): Promise<RemoteFunctionError> {
  const error: unknown = await registry.call('work').catch((thrown: unknown) => thrown);
  return error as RemoteFunctionError;
}

describe('what a call answers', () => {
  it('is what the handler returned', async () => {
    const registry = await withHandler((input) => ({ got: input, list: [1, null, 'ä🙂'] }));
    await expect(registry.call('work', { a: { b: [true] } })).resolves.toEqual({
      got: { a: { b: [true] } },
      list: [1, null, 'ä🙂'],
    });
  });

  it('is null when the handler returned nothing', async () => {
    const registry = await withHandler(() => undefined);
    await expect(registry.call('work')).resolves.toBeNull();
  });

  it.each([0, false, '', null, []])('keeps the falsy or empty result %j', async (value) => {
    const registry = await withHandler(() => value);
    await expect(registry.call('work')).resolves.toEqual(value);
  });

  it('names the worker in an outcome', async () => {
    const registry = await withHandler(() => 1, { workerId: 'w-1' });
    await expect(registry.callFunctionWithInstantReadiness('work', 'default')).resolves.toEqual({
      success: true,
      data: 1,
      callId: expect.any(String),
      workerId: 'w-1',
    });
  });
});

describe('what a failed call throws', () => {
  it('carries code, message, details and retryable of a FunctionError', async () => {
    const registry = await withHandler(() => {
      throw new FunctionError('IMAGE_BROKEN', 'it ends early', {
        details: { at: 812 },
        retryable: true,
      });
    });
    const error = await failureOf(registry);
    expect(error).toBeInstanceOf(RemoteFunctionError);
    expect(error).toMatchObject({
      code: 'IMAGE_BROKEN',
      message: 'it ends early',
      details: { at: 812 },
      retryable: true,
      remoteName: 'FunctionError',
      functionName: 'work',
    });
  });

  it.each([
    ['HTTP_404', new NotFoundException('no such image'), false],
    ['HTTP_503', new ServiceUnavailableException('later'), true],
  ])('is %s for the HttpException of that status', async (code, thrown, retryable) => {
    const registry = await withHandler(() => {
      throw thrown;
    });
    expect(await failureOf(registry)).toMatchObject({ code, message: thrown.message, retryable });
  });

  it('is HANDLER_FAILED with the message of a plain error', async () => {
    const registry = await withHandler(() => {
      throw new TypeError('x is not a function');
    });
    expect(await failureOf(registry)).toMatchObject({
      code: 'HANDLER_FAILED',
      message: 'x is not a function',
      retryable: false,
      remoteName: 'TypeError',
    });
  });

  class Unnamed extends Error {}

  it.each<[string, unknown]>([
    ['RpcException', new RpcException({ code: 'LATE', message: 'too late' })],
    ['RpcException', new RpcException('too late')],
    ['NotFoundException', new NotFoundException()],
    ['Unnamed', new Unnamed('of a class that does not set its name')],
    ['Chosen', Object.assign(new Error('named by hand'), { name: 'Chosen' })],
    ['Error', new Error('plain')],
    ['Error', 'a string, which has no class'],
    ['Error', { code: 'OWN', message: 'an object of no class' }],
  ])('has %s as remoteName, as docs/errors.md says', async (remoteName, thrown) => {
    const registry = await withHandler(() => {
      throw thrown;
    });
    expect(await failureOf(registry)).toMatchObject({ remoteName });
  });

  it.each(['a string', undefined, { message: 'said so', code: 'OWN' }])(
    'is a typed error when %j was thrown',
    async (thrown: unknown) => {
      const registry = await withHandler(() => {
        throw thrown;
      });
      const error = await failureOf(registry);
      expect(error).toBeInstanceOf(RemoteFunctionError);
      expect(error.code).toBe(typeof thrown === 'object' ? 'OWN' : 'HANDLER_FAILED');
    },
  );

  it.each([false, true])(
    'has the handler’s stack when exposeStacks is %s',
    async (exposeStacks) => {
      const registry = await withHandler(
        function failingHandler() {
          throw new Error('boom');
        },
        { exposeStacks },
      );
      const error = await failureOf(registry);
      expect(error.remoteStack === undefined ? '' : error.remoteStack).toMatch(
        exposeStacks ? /boom[^]*failingHandler/ : /^$/,
      );
      expect(JSON.stringify(error)).not.toContain(exposeStacks ? '\0' : 'failingHandler');
    },
  );

  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  it.each([
    ['a cycle', cyclic, 'PAYLOAD_NOT_SERIALIZABLE'],
    ['a BigInt', { n: 1n }, 'PAYLOAD_NOT_SERIALIZABLE'],
    ['a function', { f: () => 1 }, 'PAYLOAD_NOT_SERIALIZABLE'],
    [
      'a getter that throws',
      {
        toJSON: () => {
          throw new Error('no');
        },
      },
      'PAYLOAD_NOT_SERIALIZABLE',
    ],
    ['more than maxPayloadBytes', 'ä'.repeat(600), 'PAYLOAD_TOO_LARGE'],
  ])('says what is wrong with a result that is %s', async (_what, result, code) => {
    const registry = await withHandler(() => result, { maxPayloadBytes: 1_000 });
    expect(await failureOf(registry)).toMatchObject({ code });
  });
});

describe('the context of a handler', () => {
  it('knows the call: item, headers, names, attempt and deadline', async () => {
    const registry = await withHandler(
      (_input, context) => ({
        item: context.item,
        headers: context.headers,
        names: [context.functionName, context.workflowId, context.workerId],
        attempt: context.attempt,
        leftMs: context.deadline - Date.now(),
        callId: context.callId,
      }),
      { workerId: 'w-1' },
    );
    const { leftMs, ...facts } = await registry.call<{ leftMs: number }>(
      'work',
      {},
      { item: { row: [7] }, headers: { 'x-trace': 'abc' }, timeoutMs: 60_000 },
    );
    expect(facts).toEqual({
      item: { row: [7] },
      headers: { 'x-trace': 'abc' },
      names: ['work', 'default', 'w-1'],
      attempt: 1,
      callId: expect.stringMatching(/^[\w-]{22}\.\d+$/),
    });
    expect(leftMs).toBeGreaterThan(50_000);
    // Redis's clock is known to within the time that asking for it took, which on a busy machine is some.
    expect(leftMs).toBeLessThan(65_000);
  });

  it('sends progress in order, all of it before the result', async () => {
    const sent = Array.from({ length: 500 }, (_, i) => i);
    const registry = await withHandler(async (_input, context) => {
      for (const i of sent) {
        context.progress(i);
        if (i % 50 === 0) await new Promise(setImmediate);
      }
      return 'end';
    });
    const seen: unknown[] = [];
    const result = await registry.call('work', {}, { onProgress: (value) => seen.push(value) });
    expect(result).toBe('end');
    expect(seen).toEqual(sent);
  });

  it('does not let an onProgress that throws disturb the call', async () => {
    const registry = await withHandler((_input, context) => {
      context.progress(1);
      return 'fine';
    });
    const onProgress = (): never => {
      throw new Error('mine');
    };
    await expect(registry.call('work', {}, { onProgress })).resolves.toBe('fine');
  });

  it('answers at once with return() while the handler goes on, and keeps the call until it ends', async () => {
    const end = createDeferred();
    const over = createDeferred();
    const registry = await withHandler(async (_input, context) => {
      context.return({ accepted: true });
      await end.promise;
      over.resolve();
      return 'ignored';
    });
    await expect(registry.call('work')).resolves.toEqual({ accepted: true });
    const calls = `${fleet.prefix}nf:{work:default}:calls`;
    expect(await fleet.redis.xlen(calls)).toBe(1);
    end.resolve();
    await over.promise;
    await eventually('the call is removed', async () => (await fleet.redis.xlen(calls)) === 0);
  });

  it('refuses a second return()', async () => {
    const second = createDeferred<unknown>();
    const registry = await withHandler((_input, context) => {
      context.return(1);
      try {
        context.return(2);
      } catch (error) {
        second.resolve(error);
      }
    });
    await expect(registry.call('work')).resolves.toBe(1);
    expect(await second.promise).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('lets a handler answer again after a return() that could not be sent', async () => {
    const registry = await withHandler((_input, context) => {
      expect(() => context.return(1n)).toThrow(/BigInt/);
      context.return('second');
    });
    await expect(registry.call('work')).resolves.toBe('second');
  });

  it('logs an error after return(), and the caller keeps its answer', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn');
    const registry = await withHandler(async (_input, context) => {
      context.return('early');
      await Promise.resolve();
      throw new FunctionError('TOO_LATE', 'after the answer');
    });
    await expect(registry.call('work')).resolves.toBe('early');
    await eventually('the error is logged', () =>
      expect(warn).toHaveBeenCalledWith(
        expect.stringMatching(/after context\.return\(\).*after the answer/),
      ),
    );
    warn.mockRestore();
  });

  it('says nothing any more once the handler has ended', async () => {
    let kept: FunctionContext | undefined;
    const registry = await withHandler((_input, context) => {
      kept = context;
      return 1;
    });
    const seen: unknown[] = [];
    await registry.call('work', {}, { onProgress: (value) => seen.push(value) });
    kept?.progress('late');
    kept?.return('late');
    await expect(registry.call('work')).resolves.toBe(1);
    expect(seen).toEqual([]);
    expect(kept?.signal.aborted).toBe(false);
  });
});

describe('functions that call functions', () => {
  it('nest three deep in one process', async () => {
    const registry = createDeferred<EnhancedFunctionRegistry>();
    const call = async (name: string, n: number): Promise<number> =>
      (await registry.promise).call<number>(name, { n });
    const app = await fleet.start({
      providers: [
        hosting<{ n: number }>('outer', async ({ n }) => 1 + (await call('middle', n))),
        hosting<{ n: number }>('middle', async ({ n }) => 10 + (await call('inner', n))),
        hosting<{ n: number }>('inner', ({ n }) => 100 + n),
      ],
    });
    registry.resolve(app.get(EnhancedFunctionRegistry));
    await expect(call('outer', 1_000)).resolves.toBe(1_111);
  });

  it('nest three deep across processes, many at once', async () => {
    const apps: EnhancedFunctionRegistry[] = [];
    const through =
      (index: number, next: string) =>
      async ({ n }: { n: number }) =>
        1 + ((await apps[index]?.call<number>(next, { n })) ?? NaN);
    for (const provider of [
      hosting('outer', through(0, 'middle')),
      hosting('middle', through(1, 'inner')),
      hosting<{ n: number }>('inner', ({ n }) => n),
    ]) {
      const app = await fleet.start({ providers: [provider] });
      apps.push(app.get(EnhancedFunctionRegistry));
    }
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    const results = await Promise.all(numbers.map(async (n) => apps[2]?.call('outer', { n })));
    expect(results).toEqual(numbers.map((n) => n + 2));
  });

  it('tell an inner error to the outermost caller when it is passed on', async () => {
    const registry = createDeferred<EnhancedFunctionRegistry>();
    const app = await fleet.start({
      providers: [
        hosting('outer', async () => (await registry.promise).call('inner')),
        hosting('inner', () => {
          throw new FunctionError('DEEP', 'from below', { details: { level: 2 } });
        }),
      ],
    });
    registry.resolve(app.get(EnhancedFunctionRegistry));
    await expect(app.get(EnhancedFunctionRegistry).call('outer')).rejects.toMatchObject({
      code: 'DEEP',
      details: { level: 2 },
    });
  });
});

describe('many calls at once', () => {
  it('each get their own answer', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const registry = app.get(EnhancedFunctionRegistry);
    const calls = Array.from({ length: 100 }, (_, n) => registry.call('work', { n }));
    await stage.started(100);
    for (const { input, outcome } of [...stage.runs].reverse()) outcome.resolve(input['n']);
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });
});
