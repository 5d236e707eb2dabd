import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { EnhancedFunctionRegistry } from '../../src/index.js';
import { FunctionsTestingModule, TestFleet } from '../../src/testing/index.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { hosting } from '../harness/host.js';

const SECRET = 'PSST-19';
let fleet: TestFleet;
beforeEach(() => {
  fleet = new TestFleet();
});
afterEach(() => fleet.close());

/** What a worker warns of when its handler throws a value. */
async function warningsOf(value: unknown): Promise<string[]> {
  const logger = new CapturingLogger();
  const handler = hosting('work', () => {
    throw value;
  });
  const imports = [FunctionsTestingModule.forRoot({ fleet })];
  const builder = Test.createTestingModule({ imports, providers: [handler] });
  const app = await fleet.start(builder.setLogger(logger));
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
