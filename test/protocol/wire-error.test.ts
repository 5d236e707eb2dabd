import { describe, expect, it } from '@jest/globals';
import { BadRequestException, HttpException, ServiceUnavailableException } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import { FunctionError, NoWorkerError } from '../../src/common/errors.js';
import { encodeFailure, parseReply } from '../../src/protocol/call.js';
import { parseWireError, toWireError } from '../../src/protocol/wire-error.js';

const circular: Record<string, unknown> = {};
circular['self'] = circular;

describe('an error on the wire', () => {
  it.each<[string, unknown, object]>([
    [
      'a FunctionError',
      new FunctionError('BROKEN', 'The image ends early', { details: { at: 8 }, retryable: true }),
      { code: 'BROKEN', message: 'The image ends early', details: { at: 8 }, retryable: true },
    ],
    [
      "an error of the library's own",
      new NoWorkerError('f', 'w', 'none'),
      { code: 'NO_WORKER', name: 'NoWorkerError', retryable: true },
    ],
    [
      'a plain error',
      new TypeError('no'),
      { code: 'HANDLER_FAILED', message: 'no', name: 'TypeError' },
    ],
    [
      'an error with a code',
      Object.assign(new Error('no file'), { code: 'ENOENT' }),
      { code: 'ENOENT', message: 'no file' },
    ],
    [
      'an error whose code is no code',
      Object.assign(new Error('x'), { code: 'two words' }),
      { code: 'HANDLER_FAILED' },
    ],
    [
      'an error whose code is a number',
      Object.assign(new Error('x'), { code: 404 }),
      { code: 'HANDLER_FAILED' },
    ],
    [
      'an HttpException',
      new BadRequestException('Wrong'),
      {
        code: 'HTTP_400',
        message: 'Wrong',
        name: 'BadRequestException',
        retryable: false,
        details: { status: 400, statusCode: 400, message: 'Wrong', error: 'Bad Request' },
      },
    ],
    [
      'an HttpException with text only',
      new HttpException('Teapot', 418),
      { code: 'HTTP_418', message: 'Teapot', details: { status: 418 } },
    ],
    [
      'an HttpException that asks to come again',
      new ServiceUnavailableException(),
      { code: 'HTTP_503', retryable: true },
    ],
    ['an RpcException of text', new RpcException('no'), { code: 'HANDLER_FAILED', message: 'no' }],
    [
      'an RpcException of an object',
      new RpcException({ code: 'LATE', message: 'too late', details: { by: 3 }, retryable: true }),
      {
        code: 'LATE',
        message: 'too late',
        details: { by: 3 },
        retryable: true,
      },
    ],
    [
      'an RpcException of an object without a message',
      new RpcException({ code: 'LATE' }),
      { code: 'LATE' },
    ],
    ['a thrown text', 'out of paper', { code: 'HANDLER_FAILED', message: 'out of paper' }],
    ['a thrown number', 7, { code: 'HANDLER_FAILED', message: 'The handler threw 7' }],
    ['nothing', undefined, { code: 'HANDLER_FAILED', message: 'The handler threw undefined' }],
    ['null', null, { code: 'HANDLER_FAILED', message: 'The handler threw null' }],
    [
      'a thrown object that says code and message',
      { code: 'LATE', message: 'too late', details: { by: 3 } },
      { code: 'LATE', message: 'too late', details: { by: 3 } },
    ],
    ['another thrown object', { a: 1 }, { message: 'The handler threw an object of Object' }],
  ])('says what was thrown: %s', (_, thrown, expected) => {
    expect(toWireError(thrown, false)).toMatchObject(expected);
  });

  it('has no stack unless it is asked for', () => {
    const error = new Error('x');
    expect(toWireError(error, false).stack).toBeUndefined();
    expect(toWireError(error, true).stack).toBe(error.stack);
  });

  it('has its message cut', () => {
    expect(toWireError(new Error('x'.repeat(1_000_000)), false).message).toHaveLength(4_096);
  });

  it('is cut when its name is huge: no limit of a payload applies to it', () => {
    const error = Object.assign(new Error('x'), { name: 'N'.repeat(3_000_000) });
    expect(toWireError(error, false).name).toHaveLength(256);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['too large', { text: 'x'.repeat(20_000) }, /details had 20011 characters/],
    ['a cycle', circular, /could not be serialised/],
    ['a BigInt', { size: 1n }, /could not be serialised/],
    ['able to pollute', JSON.parse('{"__proto__":{"a":1}}') as object as never, /could not be/],
  ])('says that its details were left out when they are %s', (_, details, text) => {
    const wire = toWireError(new FunctionError('X', 'm', { details }), false);
    expect(wire).toMatchObject({ code: 'X', message: 'm' });
    expect(wire.details?.['omitted']).toMatch(text);
  });

  it('has its details as its receiver will read them', () => {
    const details = { at: new Date(0), gone: undefined };
    expect(toWireError(new FunctionError('X', 'm', { details }), false).details).toEqual({
      at: '1970-01-01T00:00:00.000Z',
    });
  });

  it.each<[string, () => unknown]>([
    [
      'its message is an object',
      () => Object.assign(new Error('x'), { message: { text: 'inner' } }),
    ],
    ['its message is undefined', () => Object.assign(new Error('x'), { message: undefined })],
    ['its name is a number', () => Object.assign(new Error('x'), { name: 7 })],
    [
      'its code cannot be read',
      () =>
        Object.defineProperty(new Error('x'), 'code', {
          get: () => {
            throw new Error('no');
          },
        }),
    ],
    [
      'its getStatus fails',
      () =>
        Object.assign(new Error('x'), {
          getStatus: () => {
            throw new Error('no');
          },
          getResponse: () => 'x',
        }),
    ],
    ['its details are odd', () => new FunctionError('X', 'm', { details: circular })],
    [
      'it would pollute its receiver',
      () => ({ message: 'm', details: JSON.parse('{"a":{"__proto__":{"b":1}}}') as unknown }),
    ],
  ])('reaches its caller when %s', (_, make) => {
    const reply = parseReply(encodeFailure(toWireError(make(), true), 'w'));
    expect(reply).toMatchObject({
      kind: 'error',
      error: { code: expect.any(String), message: expect.any(String) },
    });
  });
});

describe('an error from the wire', () => {
  it('is as it was sent', () => {
    const wire = {
      code: 'X',
      message: 'm',
      name: 'N',
      details: { a: 1 },
      retryable: true,
      stack: 's',
    };
    expect(parseWireError(wire)).toEqual(wire);
  });

  it.each([[undefined], [null], [7], ['text'], [[]], [{}], [{ code: 'X' }], [{ message: 7 }]])(
    'that is %j becomes one that can be read',
    (value) => {
      expect(parseWireError(value)).toEqual({
        code: 'HANDLER_FAILED',
        message: 'The worker sent an error without a message',
      });
    },
  );

  it('leaves out fields of another type', () => {
    expect(
      parseWireError({ code: 1, message: 'm', name: 2, details: [], retryable: 'yes', stack: 3 }),
    ).toEqual({ code: 'HANDLER_FAILED', message: 'm' });
  });
});
