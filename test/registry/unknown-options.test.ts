import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  DeadLetters,
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionReadinessWatcher,
} from '../../src/index.js';
import { assertCallOptions, type CallOptions } from '../../src/registry/call-options.js';
import { caught } from '../harness/caught.js';
import { Fleet } from '../harness/apps.js';

const fleet = new Fleet();
let registry: EnhancedFunctionRegistry;
let watcher: FunctionReadinessWatcher;
let letters: DeadLetters;

beforeAll(async () => {
  const app = await fleet.start({ options: { worker: false } });
  registry = app.get(EnhancedFunctionRegistry);
  watcher = app.get(FunctionReadinessWatcher);
  letters = app.get(DeadLetters);
});
afterAll(() => fleet.close());

const FN = ['resize', 'media'] as const;
const resize = defineFunction<object>({ name: 'resize' });

/** An option that does not exist, and the one that was meant. */
const misspelt: readonly [string, () => unknown, string, string][] = [
  [
    'a call',
    () => registry.call('resize', {}, { timeout: 5 } as CallOptions),
    'options.timeout',
    'timeoutMs',
  ],
  [
    'waitForFunction of the registry',
    () => registry.waitForFunction(...FN, { timeout: 5 } as object),
    'options.timeout',
    'timeoutMs',
  ],
  [
    'waitForFunction of the watcher',
    () => watcher.waitForFunction(...FN, { abort: 5 } as object),
    'options.abort',
    'signal',
  ],
  ['a list of dead letters', () => letters.list(...FN, { max: 5 } as object), 'page.max', 'limit'],
  [
    'a retry of a dead letter',
    () => letters.retry(...FN, '1-0', { timeout: 5 } as object),
    'options.timeout',
    'timeoutMs',
  ],
  [
    'a definition',
    () => registry.registerFunction({ name: 'f', workflowId: 'w', parms: [] } as never),
    'definition.parms',
    'parameters',
  ],
  [
    'a parameter of a definition',
    () =>
      registry.registerFunction({
        name: 'f',
        workflowId: 'w',
        parameters: [{ name: 'n', type: 'any', requird: true } as never],
      }),
    'parameters[0].requird',
    'required',
  ],
  [
    'a handler',
    () => FunctionHandler({ name: 'resize', concurency: 1 } as never),
    'concurency of resize',
    'concurrency',
  ],
  [
    'what stands beside a contract',
    () => FunctionHandler(resize, { name: 'other' } as never),
    'name of resize',
    'concurrency',
  ],
  [
    'a parameter of a handler',
    () =>
      FunctionHandler({
        name: 'f',
        parameters: [{ name: 'n', type: 'any', requird: true } as never],
      }),
    'parameters[0].requird',
    'required',
  ],
  [
    'a contract',
    () => defineFunction({ name: 'resize', workflow: 'media' } as never),
    'workflow of defineFunction',
    'workflowId',
  ],
];

describe('an option that does not exist', () => {
  it.each(misspelt)('is refused by %s, with those that do', async (_title, use, path, meant) => {
    const error: unknown = await Promise.resolve()
      .then(use)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/ is an option that does not exist; allowed: one of /),
      details: { argument: path },
    });
    expect((error as Error).message).toContain(meant);
  });

  it('as undefined is as good as left out', () => {
    expect(() => assertCallOptions({ timeout: undefined } as CallOptions)).not.toThrow();
  });
});

describe('@FunctionHandler names its right form', () => {
  it.each<[unknown, RegExp]>([
    ['resize', /is "resize"; allowed: \{ name: 'resize' \}, or a contract of defineFunction\(\)/],
    [undefined, /is undefined; allowed: \{ name: /],
    [null, /is null; allowed: \{ name: /],
    [[], /an array of 0; allowed: \{ name: /],
    [{ nam: 'resize' }, /^nam of @FunctionHandler is an option.*one of name, workflowId/],
  ])('for %j', (given, message) => {
    expect(caught(() => FunctionHandler(given as never))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  it('for a second argument that is no object', () => {
    expect(caught(() => FunctionHandler(resize, 8 as never))).toMatchObject({
      message: expect.stringMatching(
        /^The second argument of @FunctionHandler is 8; allowed: an obj/,
      ),
    });
  });
});
