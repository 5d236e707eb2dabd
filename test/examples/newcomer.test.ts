import { afterEach, describe, expect, it } from '@jest/globals';
import { NestFactory } from '@nestjs/core';
import { FunctionHandler } from '../../src/index.js';
import { redisUrl, rootModule, uniquePrefix } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';

/** What a newcomer forgets, and the line that says so. */
describe('a newcomer', () => {
  let close: (() => Promise<void>) | undefined;

  afterEach(async () => {
    await close?.();
    close = undefined;
  });

  async function boot(worker: boolean): Promise<CapturingLogger> {
    const logger = new CapturingLogger();
    const module = rootModule({ connection: redisUrl(), keyPrefix: uniquePrefix(), worker });
    const app = await NestFactory.createApplicationContext(module, { logger });
    close = () => app.close();
    return logger;
  }

  it('whose handler is in no module is told that the process hosts nothing', async () => {
    const lines = (await boot(true)).of('COORDINATOR', 'log');
    expect(lines).toEqual([expect.stringMatching(/hosts no function so far.*@FunctionHandler/)]);
  });

  it('who said worker: false is told nothing', async () => {
    expect((await boot(false)).of('COORDINATOR', 'log')).toEqual([]);
  });

  it('without experimentalDecorators is told of the option', () => {
    const standardDecorator = FunctionHandler({ name: 'resize' }) as unknown as (
      value: unknown,
      context: unknown,
    ) => void;
    expect(() => standardDecorator(() => undefined, { kind: 'method' })).toThrow(
      '"experimentalDecorators": true',
    );
  });
});
