import { afterEach, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { rootModule } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { hosting } from '../harness/host.js';
import { NestApps } from '../harness/nest-apps.js';

const SECRET = 'PSST-19';
const apps = new NestApps();
afterEach(() => apps.close());

/** What a worker warns of when its handler throws a value. */
async function warningsOf(value: unknown): Promise<string[]> {
  const logger = new CapturingLogger();
  const handler = hosting('work', () => {
    throw value;
  });
  const module = rootModule(apps.options(), { providers: [handler] });
  const app = await apps.context(module, logger);
  await app
    .get(EnhancedFunctionRegistry)
    .call('work')
    .catch(() => undefined);
  expect(logger.text).not.toContain(SECRET);
  return logger.of('CallFunction', 'warn');
}

describe('a handler that throws something else than an Error', () => {
  it.each<[string, unknown]>([
    ['a string', SECRET],
    ['undefined', undefined],
    ['null', null],
    ['a number', 19],
    ['an object of Object', { text: SECRET }],
    ['an object of Object', { message: SECRET }],
    ['an array of 1', [SECRET]],
  ])('leaves a warning in the log of its worker, without its value: %s', async (kind, value) => {
    expect(await warningsOf(value)).toEqual([
      expect.stringMatching(
        new RegExp(`failed in work: its handler threw ${kind} instead of an Error$`),
      ),
    ]);
  });

  it.each([
    ['code and message', { code: 'NOT_FOUND', message: SECRET }],
    ["what Nest's filter for messages throws", { status: 'error', message: SECRET }],
  ])('leaves none when it says %s: that is meant for the caller', async (_title, value) => {
    expect(await warningsOf(value)).toEqual([]);
  });
});
