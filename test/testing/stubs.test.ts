import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { TestingModule } from '@nestjs/testing';
import { IsInt, Max } from 'class-validator';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionError,
  type CallOptions,
  type FunctionContext,
} from 'nestjs-functions';
import { TestFleet, type StubOf } from 'nestjs-functions/testing';
import { rejection } from '../harness/caught.js';
import { member } from './member.js';

class ResizeInput {
  @IsInt()
  @Max(100)
  width!: number;
}

let fleet: TestFleet;
let module: TestingModule;
beforeEach(async () => {
  fleet = new TestFleet({ clock: 'frozen' });
  module = await member(fleet);
});
afterEach(() => fleet.close());

const call = (parameters: object = {}, options?: CallOptions): Promise<unknown> =>
  module.get(EnhancedFunctionRegistry).call('work', parameters, options);

describe('a stub answers', () => {
  it('nothing, where it was told nothing', async () => {
    await fleet.stub('work');
    expect(await call()).toBeNull();
  });

  it('with a value, as JSON', async () => {
    await fleet.stub('work', { at: new Date(0), left: undefined });
    expect(await call()).toEqual({ at: '1970-01-01T00:00:00.000Z' });
  });

  it.each([0, false, '', null])('with %p', async (value) => {
    await fleet.stub('work', value);
    expect(await call()).toBe(value);
  });

  it('with a function of the parameters and the context', async () => {
    await fleet.stub('work', ({ a }: { a: number }, { item, headers }: FunctionContext) => [
      a + 1,
      item,
      headers['h'],
    ]);
    expect(await call({ a: 1 }, { item: 'i', headers: { h: 'x' } })).toEqual([2, 'i', 'x']);
  });

  it('with an error: its code, message, details and class reach the caller', async () => {
    class Declined extends Error {
      readonly code = 'DECLINED';
      readonly details = { limit: 3 };
    }
    const stub = await fleet.stub('work', new Declined('no money'));
    const remote = {
      code: 'DECLINED',
      message: 'no money',
      details: { limit: 3 },
      remoteName: 'Declined',
    };
    expect(await rejection(call())).toMatchObject({ ...remote, retryable: false });
    stub.fail(new Error('plain'));
    expect(await rejection(call())).toMatchObject({
      code: 'HANDLER_FAILED',
      message: 'plain',
      remoteName: 'Error',
    });
    stub.fail(new FunctionError('BUSY', 'later', { retryable: true }));
    expect(await rejection(call())).toMatchObject({ code: 'BUSY', retryable: true });
  });

  it('in turn, and then as it stands', async () => {
    const stub = await fleet.stub('work', 'always');
    stub
      .answerOnce('first')
      .failOnce(new FunctionError('SECOND', 'no'))
      .answerOnce(() => 'third');
    expect(await call()).toBe('first');
    expect(await rejection(call())).toMatchObject({ code: 'SECOND' });
    expect(await call()).toBe('third');
    expect(await call()).toBe('always');
    expect(await call()).toBe('always');
  });

  it('after a time on the clock of the fleet, and not before', async () => {
    const stub = await fleet.stub('work');
    stub.answer('late', { afterMs: 60_000 });
    let answered = false;
    const called = call().finally(() => (answered = true));
    await fleet.clock.advance(59_999);
    expect(answered).toBe(false);
    await fleet.clock.advance(1);
    expect(answered).toBe(true);
    expect(await called).toBe('late');
  });

  it('too late for a call whose deadline comes first', async () => {
    const stub = await fleet.stub('work');
    stub.answer('late', { afterMs: 60_000 });
    const called = rejection(call({}, { timeoutMs: 1_000 }));
    await fleet.clock.advance(1_000);
    expect(await called).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  });

  it('with progress before', async () => {
    const stub = await fleet.stub('work');
    stub.answer('done', { progress: [1, { of: 2 }] });
    const told: unknown[] = [];
    expect(await call({}, { onProgress: (value) => told.push(value) })).toBe('done');
    expect(told).toEqual([1, { of: 2 }]);
  });

  it('never, until its run is aborted', async () => {
    const stub = await fleet.stub('work', 'later');
    stub.hangOnce();
    const abort = new AbortController();
    const called = rejection(call({}, { signal: abort.signal }));
    await fleet.spy.waitFor('started');
    abort.abort();
    expect(await called).toMatchObject({ code: 'CALL_CANCELLED' });
    expect(await fleet.spy.waitFor('failed', 'work')).toMatchObject({
      error: { code: 'CALL_CANCELLED' },
    });
    expect(await call()).toBe('later');
  });

  it('is refused a manner that does not exist', async () => {
    const stub = await fleet.stub('work');
    expect(() => stub.answer(1, { after: 3 } as object)).toThrow(/after of a stub's answer/);
    expect(() => stub.answer(1, { afterMs: -1 })).toThrow(/afterMs/);
    expect(() => stub.answer(1, { progress: 3 as never })).toThrow(/progress/);
  });
});

describe('a stub records', () => {
  it('its calls, as they came', async () => {
    const stub = await fleet.stub('work');
    await call({ a: 1 }, { item: 'i', headers: { h: 'x' } });
    await call({ a: 2 });
    expect(stub.calls).toEqual([
      {
        callId: expect.any(String),
        parameters: { a: 1 },
        item: 'i',
        headers: { h: 'x' },
        attempt: 1,
      },
      { callId: expect.any(String), parameters: { a: 2 }, item: null, headers: {}, attempt: 1 },
    ]);
  });

  it('until it is cleared, with the answers that were to be given once', async () => {
    const stub = await fleet.stub('work', 'always');
    await call();
    stub.answerOnce('once').clear();
    expect(stub.calls).toEqual([]);
    expect(await call()).toBe('always');
  });

  it('only its own', async () => {
    const stub = await fleet.stub('work');
    const other = await fleet.stub('other');
    await call();
    expect([stub.calls.length, other.calls.length]).toEqual([1, 0]);
  });
});

describe('a stub with the settings of the real handler', () => {
  it('refuses what its input class refuses, and records what that made', async () => {
    const stub = await fleet.stub('work', ({ width }: ResizeInput) => width, {
      input: ResizeInput,
    });
    expect(await rejection(call())).toMatchObject({ code: 'INVALID_PARAMETERS' });
    expect(await rejection(call({ width: 101 }))).toMatchObject({ code: 'INVALID_INPUT' });
    expect(stub.calls).toEqual([]);
    expect(await call({ width: 99 })).toBe(99);
    expect(stub.calls[0]?.parameters).toBeInstanceOf(ResizeInput);
  });

  it('runs again as its retry policy says', async () => {
    const stub = await fleet.stub('work', 'done', {
      retry: { maxAttempts: 3, backoffMs: 10_000, jitter: 0 },
    });
    stub.failOnce(new Error('not yet'));
    const called = call();
    await fleet.clock.advance(9_900);
    expect(stub.calls).toHaveLength(1);
    await fleet.clock.advance(200);
    expect(await called).toBe('done');
    expect(stub.calls.map(({ attempt }) => attempt)).toEqual([1, 2]);
  });

  it('runs as many calls at once as its concurrency says', async () => {
    const stub = await fleet.stub('work', 'done', { concurrency: 1 });
    stub.hangOnce();
    const first = new AbortController();
    void rejection(call({}, { signal: first.signal }));
    await fleet.spy.waitFor('started');
    const second = call();
    await fleet.clock.advance(1_000);
    expect(stub.calls).toHaveLength(1);
    first.abort();
    expect(await second).toBe('done');
  });

  it('is refused settings that do not exist, or come too late', async () => {
    await expect(fleet.stub('work', 1, { retries: 3 } as object)).rejects.toThrow(
      /retries of a stub/,
    );
    await expect(fleet.stub('work', 1, { concurrency: 0, absent: true })).rejects.toThrow(
      /concurrency of work/,
    );
    await fleet.stub('work');
    await expect(fleet.stub('work', 1, { concurrency: 3 })).rejects.toThrow(/there already/);
  });
});

describe('a function', () => {
  const contract = defineFunction<{ a: number }, { b: number }>({
    name: 'work',
    workflowId: 'flow',
  });

  it('is stubbed in the namespace of its contract, and with its types', async () => {
    const stub: StubOf<typeof contract> = await fleet.stub(contract);
    stub.answer(({ a }) => ({ b: a + 1 }));
    const registry = module.get(EnhancedFunctionRegistry);
    expect(await registry.call(contract, { a: 1 })).toEqual({ b: 2 });
    // @ts-expect-error its contract says otherwise
    await fleet.stub(contract, { c: 1 });
  });

  it('that is stubbed once more has another answer, and the same stub', async () => {
    const stub = await fleet.stub('work', 1);
    expect(await fleet.stub('work', 2)).toBe(stub);
    expect(await call()).toBe(2);
  });

  it('that is stubbed under another workerId has two workers', async () => {
    const one = await fleet.stub('work', 1, { workerId: 'one' });
    const other = await fleet.stub('work', 2, { workerId: 'other' });
    await one.drain();
    expect(await call()).toBe(2);
    expect(other.calls).toHaveLength(1);
  });

  it('can be stubbed before there is an application', async () => {
    const early = new TestFleet();
    await early.stub('work', 'early');
    const app = await member(early);
    expect(await app.get(EnhancedFunctionRegistry).call('work')).toBe('early');
    await early.close();
    await expect(early.stub('work')).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
