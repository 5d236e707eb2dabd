import 'reflect-metadata';
import { afterEach, describe, expect, it } from '@jest/globals';
import { APP_PIPE } from '@nestjs/core';
import { ValidationPipe } from '@nestjs/common';
import { Type } from 'class-transformer';
import {
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsInt,
  IsOptional,
  IsString,
  Min,
  MinLength,
  ValidateNested,
} from 'class-validator';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionContext,
  FunctionHandler,
  type FunctionsOptions,
} from '../../src/index.js';
import { splitReplies } from '../../src/protocol/call.js';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

class Address {
  @IsString()
  @MinLength(2)
  city!: string;
}

class OrderInput {
  @IsString()
  @MinLength(1)
  name!: string;

  @IsInt()
  @Min(1)
  count = 1;

  @IsOptional()
  @IsBoolean()
  gift?: boolean;

  @ValidateNested()
  @Type(() => Address)
  address!: Address;

  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ValidateNested({ each: true })
  @Type(() => Address)
  others?: Address[];
}

class Orders {
  @FunctionHandler({ name: 'order', input: OrderInput, description: 'Takes an order' })
  order(input: OrderInput, context: FunctionContext): object {
    return {
      isInstance: input instanceof OrderInput,
      isNested: input.address instanceof Address,
      count: input.count,
      call: context instanceof FunctionContext,
      address: { ...input.address },
    };
  }
}

async function serve(
  providers: unknown[],
  options: FunctionsOptions = {},
): Promise<EnhancedFunctionRegistry> {
  await fleet.start({ providers, options });
  const caller = await fleet.start({ options: { worker: false, ...options } });
  return caller.get(EnhancedFunctionRegistry);
}

function callsKey(functionName: string): string {
  return `${fleet.prefix}nf:{${functionName}:default}:calls`;
}

/** Id of the newest entry that a stream ever had; `0-0` when there was none. */
async function lastEntry(key: string): Promise<unknown> {
  const info = (await fleet.redis.call('XINFO', 'STREAM', key)) as unknown[];
  return info[info.indexOf('last-generated-id') + 1];
}

describe('a class-validator input', () => {
  it('reaches the handler as an instance, its nested parts too', async () => {
    const registry = await serve([Orders]);
    const result = await registry.call('order', { name: 'x', count: 2, address: { city: 'Rome' } });
    expect(result).toEqual({
      isInstance: true,
      isNested: true,
      count: 2,
      call: true,
      address: { city: 'Rome' },
    });
  });

  it('takes an instance of the class from the caller as well', async () => {
    const registry = await serve([Orders]);
    const input = Object.assign(new OrderInput(), { name: 'x', address: { city: 'Rome' } });
    await expect(registry.call('order', input)).resolves.toMatchObject({ isInstance: true });
  });

  it('refuses on the worker what only its class knows, each violation with its path', async () => {
    const registry = await serve([Orders]);
    const input = {
      name: '',
      count: 0,
      address: { city: 'R' },
      others: [{ city: 'Oslo' }, { city: '' }],
    };
    await expect(registry.call('order', input)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      retryable: false,
      details: {
        violations: [
          expect.stringContaining('name must be longer than'),
          expect.stringContaining('count must not be less than 1'),
          expect.stringMatching(/^address\.city: city must be longer/),
          expect.stringMatching(/^others\.1\.city: city must be longer/),
        ],
      },
    });
  });

  it('may have defaults, which make a property optional for the caller', async () => {
    const registry = await serve([Orders]);
    await expect(
      registry.call('order', { name: 'x', address: { city: 'Rome' } }),
    ).resolves.toMatchObject({ count: 1 });
  });

  it('goes together with a global ValidationPipe and its whitelist', async () => {
    const pipe = new ValidationPipe({ whitelist: true, transform: true });
    const registry = await serve([Orders, { provide: APP_PIPE, useValue: pipe }]);
    const result = await registry.call('order', {
      name: 'x',
      address: { city: 'Rome', planet: 'Earth' },
    });
    expect(result).toMatchObject({ isInstance: true, call: true, address: { city: 'Rome' } });
    await expect(
      registry.call('order', { name: '', address: { city: 'Rome' } }),
    ).rejects.toMatchObject({ code: 'HTTP_400' });
  });

  it('goes together with a global ValidationPipe that does not transform', async () => {
    const pipe = new ValidationPipe({ whitelist: true });
    const registry = await serve([Orders, { provide: APP_PIPE, useValue: pipe }]);
    await expect(
      registry.call('order', { name: 'x', address: { city: 'Rome' } }),
    ).resolves.toMatchObject({ isInstance: true, isNested: true });
  });

  it('may come from a contract, beside which it stands', async () => {
    const order = defineFunction<OrderInput, { name: string }>({ name: 'contract-order' });

    class Handlers {
      @FunctionHandler(order, { input: OrderInput })
      run(input: OrderInput): { name: string } {
        return { name: `${input.constructor.name} ${input.name}` };
      }
    }

    const registry = await serve([Handlers]);
    const result = await registry.call(order, {
      name: 'x',
      count: 1,
      address: { city: 'Rome' },
    });
    expect(result.name).toBe('OrderInput x');
  });
});

describe('a definition', () => {
  it('is derived from the input class', async () => {
    const registry = await serve([Orders]);
    await expect(registry.getAvailableFunctions()).resolves.toEqual([
      {
        name: 'order',
        workflowId: 'default',
        description: 'Takes an order',
        parameters: [
          { name: 'name', type: 'string', required: true },
          { name: 'count', type: 'integer', required: false },
          { name: 'gift', type: 'boolean', required: false },
          { name: 'address', type: 'any', required: true },
          { name: 'others', type: 'any', required: false },
        ],
        available: true,
        workers: 1,
        healthyWorkers: 1,
      },
    ]);
  });

  class Explicit {
    @FunctionHandler({
      name: 'scale',
      description: 'Scales',
      parameters: [
        { name: 'url', type: 'string', required: true, description: 'where it is' },
        { name: 'factor', type: 'number', default: 0.5 },
        { name: 'options', type: 'object', default: { fast: true } },
        { name: 'tags', type: 'array' },
        { name: 'pages', type: 'integer' },
        { name: 'dry', type: 'boolean' },
        { name: 'extra', type: 'any' },
      ],
    })
    scale(input: object): object {
      return input;
    }

    @FunctionHandler({ name: 'nothing', parameters: [] })
    nothing(): string {
      return 'done';
    }

    @FunctionHandler({ name: 'anything' })
    anything(input: unknown): unknown {
      return input;
    }
  }

  it('is stored as it is given', async () => {
    const registry = await serve([Explicit]);
    const parameters = await registry.getFunctionParameters('scale', 'default');
    expect(parameters).toHaveLength(7);
    expect(parameters?.[0]).toEqual({
      name: 'url',
      type: 'string',
      required: true,
      description: 'where it is',
    });
    await expect(registry.getFunctionParameters('nothing', 'default')).resolves.toEqual([]);
    await expect(registry.getFunctionParameters('anything', 'default')).resolves.toBeUndefined();
    await expect(registry.getFunctionParameters('unheard', 'default')).resolves.toBeUndefined();
  });

  it('fills in its defaults, of their own for each call', async () => {
    class Handlers {
      @FunctionHandler({
        name: 'defaults',
        parameters: [{ name: 'list', type: 'array', default: [1] }],
      })
      run(input: { list: number[] }): number[] {
        input.list.push(2);
        return input.list;
      }
    }
    const registry = await serve([Explicit, Handlers]);
    await expect(registry.call('scale', { url: 'u' })).resolves.toEqual({
      url: 'u',
      factor: 0.5,
      options: { fast: true },
    });
    await expect(registry.call('scale', { url: 'u', factor: 2 })).resolves.toMatchObject({
      factor: 2,
    });
    await expect(registry.call('defaults')).resolves.toEqual([1, 2]);
    await expect(registry.call('defaults')).resolves.toEqual([1, 2]);
  });

  it('takes null for nothing where a parameter is optional, and leaves it null', async () => {
    const registry = await serve([Explicit, Orders]);
    await expect(registry.call('scale', { url: 'u', tags: null })).resolves.toMatchObject({
      tags: null,
    });
    const order = { name: 'x', count: 2, gift: null, address: { city: 'Rome' } };
    await expect(registry.call('order', order)).resolves.toMatchObject({ count: 2 });
  });

  it('lets anything through where it says nothing, and nothing where it is empty', async () => {
    const registry = await serve([Explicit]);
    await expect(registry.call('anything', { a: { b: [1] } })).resolves.toEqual({ a: { b: [1] } });
    await expect(registry.call('nothing')).resolves.toBe('done');
    await expect(registry.call('nothing', { a: 1 })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      message: expect.stringContaining('a: it is unknown (allowed: none)'),
    });
  });

  const refused: [string, object, string, RegExp][] = [
    ['a missing one', {}, 'url', /required \(string\)/],
    ['null for one that is required', { url: null }, 'url', /null, declared as string/],
    ['an unknown one', { url: 'u', width: 5 }, 'width', /unknown \(allowed: url, factor,/],
    ['a number for a string', { url: 5 }, 'url', /a number, declared as string/],
    ['a string for a number', { url: 'u', factor: '2' }, 'factor', /a string, declared as number/],
    [
      'a fraction for an integer',
      { url: 'u', pages: 1.5 },
      'pages',
      /a fraction, declared as integer/,
    ],
    ['a string for a boolean', { url: 'u', dry: 'yes' }, 'dry', /a string, declared as boolean/],
    [
      'an object for an array',
      { url: 'u', tags: {} },
      'tags',
      /an object of Object, declared as array/,
    ],
    [
      'an array for an object',
      { url: 'u', options: [] },
      'options',
      /an array of 0, declared as object/,
    ],
  ];

  it.each(refused)(
    'has the caller refuse %s, and nothing is sent',
    async (_title, parameters, parameter, problem) => {
      const registry = await serve([Explicit]);
      await registry.waitForFunction('scale', 'default');
      const expected = {
        code: 'INVALID_PARAMETERS',
        violations: [{ parameter, problem: expect.stringMatching(problem) }],
      };
      await expect(registry.call('scale', parameters)).rejects.toMatchObject(expected);
      await expect(registry.callFunction('scale', 'default', parameters)).resolves.toMatchObject({
        success: false,
        error: { code: 'INVALID_PARAMETERS' },
      });
      expect(await lastEntry(callsKey('scale'))).toBe('0-0');
    },
  );

  it('has the caller refuse before it waits for a worker, once the definition is known', async () => {
    const worker = await fleet.start({ providers: [Explicit] });
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    await registry.getInstantWorkerStatus('scale', 'default');
    await fleet.stop(worker);
    await expect(registry.call('scale', { nonsense: 1 })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
    });
  });

  it('has the worker refuse what was written by hand, and tell whoever wrote it', async () => {
    await fleet.start({ providers: [Explicit] });
    const replies = `${fleet.prefix}nf:process:{by-hand}:replies`;
    const first = await fleet.redis.xadd(replies, '*', 'made', 'so that it exists');
    const payload = JSON.stringify({ p: { url: 7 }, i: null });
    const fields = ['c', `1 10000  by-hand call-1\t${payload}`];
    await fleet.redis.xadd(callsKey('scale'), '*', ...fields);
    const [answer] = await eventually('it is answered', async () => {
      const entries = await fleet.redis.xrange(replies, `(${first}`, '+');
      expect(entries).not.toEqual([]);
      return entries;
    });
    const [told] = splitReplies(answer?.[1][1] ?? '');
    expect(told?.callId).toBe('call-1');
    expect(JSON.parse(told?.reply ?? '')).toMatchObject({
      k: 'e',
      e: { code: 'INVALID_PARAMETERS' },
    });
    await expect(fleet.redis.xlen(callsKey('scale'))).resolves.toBe(0);
  });

  it('is followed by callers when a newer worker brings another one', async () => {
    class Newer {
      @FunctionHandler({
        name: 'scale',
        parameters: [{ name: 'width', type: 'integer', required: true }],
      })
      scale(input: { width: number }): object {
        return { newer: input.width };
      }
    }

    const old = await fleet.start({ providers: [Explicit] });
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    await registry.call('scale', { url: 'u' });
    await expect(registry.call('scale', { width: 5 })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
    });
    await fleet.start({ providers: [Newer] });
    await fleet.stop(old);
    await expect(registry.call('scale', { width: 5 })).resolves.toEqual({ newer: 5 });
    await expect(registry.call('scale', { url: 'u' })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
    });
  });
});
