import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Param, type INestApplication } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import request from 'supertest';
import { FunctionsErrorFilter } from '../../examples/http-app/functions-error.filter.js';
import { EnhancedFunctionRegistry, FunctionError } from '../../src/index.js';
import { FunctionsTestingModule, TestFleet } from '../../src/testing/index.js';
import { hosting } from '../harness/host.js';

@Controller()
class Caller {
  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  @Get('strict/:n')
  strict(@Param('n') n: string): Promise<unknown> {
    return this.functions.call('strict', { n });
  }

  @Get('call/:name')
  call(@Param('name') name: string): Promise<unknown> {
    return this.functions.call(name, {}, { readinessTimeoutMs: 20, timeoutMs: 200 });
  }

  @Get('large')
  large(): Promise<unknown> {
    return this.functions.call('broken', { text: 'x'.repeat(2_000) });
  }
}

/** The filter of the HTTP example, which the README shows, too. */
describe('the exception filter of the HTTP example', () => {
  let app: INestApplication;
  beforeEach(async () => {
    const strict = { name: 'strict', parameters: [{ name: 'n', type: 'number' }] } as const;
    const module = await Test.createTestingModule({
      imports: [FunctionsTestingModule.forRoot({ maxPayloadBytes: 1_000, clock: 'frozen' })],
      controllers: [Caller],
      providers: [
        { provide: APP_FILTER, useClass: FunctionsErrorFilter },
        hosting(strict, () => 'done'),
        // A handler, not a stub: the filter is called for it, too, and has to let it pass.
        hosting('broken', () => {
          throw new FunctionError('IMAGE_BROKEN', 'it ends early', { details: { at: 812 } });
        }),
      ],
    }).compile();
    app = module.createNestApplication();
    await app.init();
    (await app.get(TestFleet).stub('slow')).hang();
  });
  afterEach(() => app.close());

  it.each([
    ['a wrong parameter', '/strict/text', 400, 'INVALID_PARAMETERS'],
    ['too much', '/large', 413, 'PAYLOAD_TOO_LARGE'],
    ['a failed handler', '/call/broken', 500, 'IMAGE_BROKEN'],
  ])('answers %s with a status of its own: %s', async (_title, path, status, code) => {
    expectFailure(await get(path), status, code);
  });

  it.each([
    ['no worker', 'nobody', 'waiting', 503, 'READINESS_TIMEOUT'],
    ['no answer in time', 'slow', 'started', 504, 'DEADLINE_EXCEEDED'],
  ] as const)(
    'answers %s with a status of its own: %s',
    async (_title, name, event, status, code) => {
      const { spy, clock } = app.get(TestFleet);
      const response = get(`/call/${name}`);
      await spy.waitFor(event, name);
      await clock.advance(200);
      expectFailure(await response, status, code);
    },
  );

  async function get(path: string): Promise<{ status: number; body: unknown }> {
    return request(app.getHttpServer() as never).get(path);
  }

  function expectFailure(
    { status, body }: { status: number; body: unknown },
    expected: number,
    code: string,
  ): void {
    expect({ status, body }).toMatchObject({
      status: expected,
      body: { code, message: expect.any(String), details: expect.any(Object) },
    });
  }
});
