import { HttpException } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  DeadLetters,
  EnhancedFunctionRegistry,
  FunctionError,
  type FunctionContext,
  type RetryPolicy,
} from '../../src/index.js';
import {
  isWorthRetrying,
  resolveRetry,
  retryDelayMs,
} from '../../src/execution/worker/retry-policy.js';
import { toWireError } from '../../src/protocol/wire-error.js';
import { Fleet } from '../harness/apps.js';
import { caught } from '../harness/caught.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const QUICK = { maxAttempts: 3, backoffMs: 1, jitter: 0 } as const;

/** A handler that fails until it has run often enough. */
class Flaky {
  readonly attempts: number[] = [];

  constructor(
    private readonly failures: number,
    private readonly error: () => unknown = () => new Error('not yet'),
  ) {}

  as(retry: RetryPolicy | undefined): ReturnType<typeof hosting> {
    return hosting({ name: 'flaky', ...(retry === undefined ? {} : { retry }) }, (_, context) =>
      this.run(context),
    );
  }

  private run(context: FunctionContext): string {
    this.attempts.push(context.attempt);
    if (this.attempts.length <= this.failures) throw this.error();
    return `after ${this.attempts.length}`;
  }
}

async function start(flaky: Flaky, retry: RetryPolicy | undefined) {
  const app = await fleet.start({ providers: [flaky.as(retry)] });
  return { registry: app.get(EnhancedFunctionRegistry), letters: app.get(DeadLetters) };
}

const call = (registry: EnhancedFunctionRegistry, options = {}): Promise<unknown> =>
  registry.call('flaky', { n: 1 }, { timeoutMs: 15_000, ...options });

const keysLeft = async (): Promise<string[]> =>
  (await fleet.keys()).filter((key) => /delayed|aside|dead/.test(key));

describe('a handler with a retry policy', () => {
  it('runs again until it succeeds, each time as another attempt of the same call', async () => {
    const flaky = new Flaky(2);
    const { registry } = await start(flaky, QUICK);
    await expect(call(registry)).resolves.toBe('after 3');
    expect(flaky.attempts).toEqual([1, 2, 3]);
    await eventually('nothing is left', async () => expect(await keysLeft()).toEqual([]));
  });

  it('gives up after maxAttempts: the caller gets the error, and the call is a dead letter with its history', async () => {
    const flaky = new Flaky(99, () => new FunctionError('DOWN', 'it is down', { retryable: true }));
    const { registry, letters } = await start(flaky, QUICK);
    await expect(call(registry)).rejects.toMatchObject({ code: 'DOWN', message: 'it is down' });
    expect(flaky.attempts).toEqual([1, 2, 3]);
    const [letter, ...others] = await letters.list('flaky', 'default');
    expect(others).toEqual([]);
    expect(letter).toMatchObject({
      reason: 'RETRIES_EXHAUSTED',
      attempts: 3,
      parameters: { n: 1 },
    });
    expect(letter?.failures.map(({ attempt, code }) => [attempt, code])).toEqual([
      [1, 'DOWN'],
      [2, 'DOWN'],
      [3, 'DOWN'],
    ]);
  });

  it.each<[string, () => unknown]>([
    ['retryable: false', () => new FunctionError('NO', 'never')],
    ['an HttpException of the caller’s fault', () => new HttpException('no such thing', 404)],
  ])('stops at once for an error with %s', async (_, error) => {
    const flaky = new Flaky(99, error);
    const { registry, letters } = await start(flaky, QUICK);
    await expect(call(registry)).rejects.toThrow();
    expect(flaky.attempts).toEqual([1]);
    await expect(letters.count('flaky', 'default')).resolves.toBe(0);
  });

  it('asks retryIf, and takes a retryIf that throws for a no', async () => {
    const picky = new Flaky(99, () => new Error('this one'));
    const first = await start(picky, {
      ...QUICK,
      retryIf: (error) => String(error).includes('other'),
    });
    await expect(call(first.registry)).rejects.toThrow('this one');
    expect(picky.attempts).toEqual([1]);
    await fleet.close();
    fleet = new Fleet();
    const broken = new Flaky(99, () => new Error('that one'));
    const retryIf = (): boolean => {
      throw new Error('broken');
    };
    const second = await start(broken, { ...QUICK, retryIf });
    await expect(call(second.registry)).rejects.toThrow('that one');
    expect(broken.attempts).toEqual([1]);
  });

  it('never runs an at-most-once call again', async () => {
    const flaky = new Flaky(1);
    const { registry } = await start(flaky, QUICK);
    await expect(call(registry, { delivery: 'at-most-once' })).rejects.toThrow('not yet');
    expect(flaky.attempts).toEqual([1]);
  });

  it('does not wait beyond the deadline: the caller gets the error now', async () => {
    const flaky = new Flaky(99);
    const { registry } = await start(flaky, { maxAttempts: 3, backoffMs: 60_000, jitter: 0 });
    await expect(call(registry, { timeoutMs: 10_000 })).rejects.toThrow('not yet');
    expect(flaky.attempts).toEqual([1]);
  });

  it('can be cancelled while it waits for its next attempt', async () => {
    const flaky = new Flaky(99);
    const { registry } = await start(flaky, { maxAttempts: 3, backoffMs: 5_000, jitter: 0 });
    const abort = new AbortController();
    const cancelled = call(registry, { signal: abort.signal });
    const refused = cancelled.catch((error: unknown) => error);
    await eventually('it is put aside', async () =>
      (await fleet.keys()).some((key) => key.endsWith(':aside')),
    );
    abort.abort();
    expect(await refused).toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('nothing of it is left', async () =>
      expect((await keysLeft()).filter((key) => !key.endsWith('nf:delayed'))).toEqual([]),
    );
    expect(flaky.attempts).toEqual([1]);
  });

  it('waits outside of its process: another worker runs it when its own has left', async () => {
    const flaky = new Flaky(99);
    const policy = { maxAttempts: 3, backoffMs: 300, jitter: 0 };
    const first = await fleet.start({ providers: [flaky.as(policy)] });
    const caller = await fleet.start({ options: { worker: false } });
    const answer = call(caller.get(EnhancedFunctionRegistry));
    await eventually('it is put aside', async () =>
      (await fleet.keys()).some((key) => key.endsWith(':aside')),
    );
    await fleet.stop(first);
    const attempts: number[] = [];
    const other = hosting({ name: 'flaky', retry: policy }, (_, { attempt }) => {
      attempts.push(attempt);
      return 'elsewhere';
    });
    await fleet.start({ providers: [other] });
    await expect(answer).resolves.toBe('elsewhere');
    expect(attempts).toEqual([2]);
  });

  it('keeps its place free while it waits', async () => {
    const flaky = new Flaky(1);
    const app = await fleet.start({
      providers: [
        flaky.as({ maxAttempts: 2, backoffMs: 1_000, jitter: 0 }),
        hosting('other', () => 'other'),
      ],
      options: { concurrency: 1 },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    const slow = call(registry);
    await eventually('it is put aside', async () =>
      (await fleet.keys()).some((key) => key.endsWith(':aside')),
    );
    await expect(registry.call('other')).resolves.toBe('other');
    await expect(slow).resolves.toBe('after 2');
  });
});

describe('without a policy', () => {
  it('a failed call is answered, and is no dead letter', async () => {
    const flaky = new Flaky(1);
    const { registry, letters } = await start(flaky, undefined);
    await expect(call(registry)).rejects.toThrow('not yet');
    expect(flaky.attempts).toEqual([1]);
    await expect(letters.count('flaky', 'default')).resolves.toBe(0);
  });
});

describe('a retry policy', () => {
  const policy = (given: object) => resolveRetry('f', { maxAttempts: 5, ...given })!;

  it('doubles its wait up to the longest, and leaves its part to chance', () => {
    const waits = policy({ backoffMs: 100, maxBackoffMs: 350, jitter: 0 });
    expect([1, 2, 3, 4].map((failures) => retryDelayMs(waits, failures))).toEqual([
      100, 200, 350, 350,
    ]);
    const jittered = policy({ backoffMs: 100, jitter: 0.5 });
    expect(retryDelayMs(jittered, 1, 0)).toBe(100);
    expect(retryDelayMs(jittered, 1, 0.999)).toBe(50);
  });

  it.each([
    ['no attempts', {}],
    ['one attempt', { maxAttempts: 1 }],
    ['half an attempt', { maxAttempts: 2.5 }],
    ['a wait that is a word', { maxAttempts: 2, backoffMs: 'soon' }],
    ['a negative wait', { maxAttempts: 2, backoffMs: -1 }],
    ['a shrinking wait', { maxAttempts: 2, factor: 0.5 }],
    ['more than all of it left to chance', { maxAttempts: 2, jitter: 1.1 }],
    ['retryIf that is none', { maxAttempts: 2, retryIf: 'always' }],
    ['a field that does not exist', { maxAttempts: 2, tries: 3 }],
    ['a number in its place', 3],
    ['null', null],
  ])('is refused with %s, naming what is allowed', (_, given) => {
    expect(caught(() => resolveRetry('f', given))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/retry.* of f .*allowed: /),
    });
  });

  it.each<[string, unknown, boolean]>([
    ['a plain error', new Error('x'), true],
    ['a thrown word', 'x', true],
    ['a FunctionError', new FunctionError('X', 'x'), false],
    ['a FunctionError that says so', new FunctionError('X', 'x', { retryable: true }), true],
    ['HTTP 503', new HttpException('x', 503), true],
    ['HTTP 500', new HttpException('x', 500), true],
    ['HTTP 429', new HttpException('x', 429), true],
    ['HTTP 400', new HttpException('x', 400), false],
  ])('takes %s for worth retrying: %#', (_, error, expected) => {
    expect(isWorthRetrying(policy({}), error, toWireError(error, false))).toBe(expected);
  });
});
