import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Param, type DynamicModule } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import request from 'supertest';
import { FunctionsErrorFilter } from '../../examples/http-app/functions-error.filter.js';
import { EnhancedFunctionRegistry, FunctionError } from '../../src/index.js';
import { rootModule } from '../harness/apps.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';

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
  const apps = new NestApps();
  afterEach(() => apps.close());

  function root(): DynamicModule {
    const strict = { name: 'strict', parameters: [{ name: 'n', type: 'number' }] } as const;
    return rootModule(apps.options({ maxPayloadBytes: 1_000 }), {
      controllers: [Caller],
      providers: [
        { provide: APP_FILTER, useClass: FunctionsErrorFilter },
        hosting(strict, () => 'done'),
        hosting('slow', () => new Promise(() => undefined)),
        hosting('broken', () => {
          throw new FunctionError('IMAGE_BROKEN', 'it ends early', { details: { at: 812 } });
        }),
      ],
    });
  }

  it.each([
    ['a wrong parameter', '/strict/text', 400, 'INVALID_PARAMETERS'],
    ['too much', '/large', 413, 'PAYLOAD_TOO_LARGE'],
    ['no worker', '/call/nobody', 503, 'READINESS_TIMEOUT'],
    ['no answer in time', '/call/slow', 504, 'DEADLINE_EXCEEDED'],
    ['a failed handler', '/call/broken', 500, 'IMAGE_BROKEN'],
  ])('answers %s with a status of its own: %s', async (_title, path, status, code) => {
    const app = await apps.http(root());
    await app.init();
    const response = await request(app.getHttpServer() as never).get(path);
    expect({ status: response.status, body: response.body as unknown }).toMatchObject({
      status,
      body: { code, message: expect.any(String), details: expect.any(Object) },
    });
  });
});
