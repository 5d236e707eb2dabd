import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { TestingModule } from '@nestjs/testing';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionLifecycleNotifier,
  type CallOptions,
} from 'nestjs-functions';
import type { FunctionsSpy } from 'nestjs-functions/testing';
import { SpyTimeoutError, TestFleet } from 'nestjs-functions/testing';
import { rejection } from '../harness/caught.js';
import { hosting } from '../harness/host.js';
import { member } from './member.js';

let fleet: TestFleet;
let module: TestingModule;
const inVain = { timeoutMs: 5 };
const boom = new FunctionError('BOOM', 'boom');

beforeEach(async () => {
  fleet = new TestFleet();
  const echo = hosting('echo', (parameters) => parameters);
  const fail = hosting('fail', () => Promise.reject(boom));
  module = await member(fleet, [echo, fail], { workerId: 'app' });
});
afterEach(() => fleet.close());

const call = (name: string, parameters: object = {}, options?: CallOptions): Promise<unknown> =>
  module.get(EnhancedFunctionRegistry).call(name, parameters, options);

describe('a spy', () => {
  it('resolves with what has happened already', async () => {
    await call('echo', { a: 1 });
    expect(await fleet.spy.waitFor('called')).toMatchObject({
      functionName: 'echo',
      workflowId: 'default',
      parameters: { a: 1 },
      delivery: 'at-least-once',
    });
  });

  it('resolves with what happens later', async () => {
    const waiting = fleet.spy.waitFor('settled', 'echo');
    const data = await call('echo', { a: 2 });
    expect(await waiting).toMatchObject({ success: true, data, workerId: 'app' });
  });

  it('does not take one kind of event, or function, for another', async () => {
    await call('echo');
    await expect(fleet.spy.waitFor('failed', 'echo', inVain)).rejects.toThrow(SpyTimeoutError);
    await expect(fleet.spy.waitFor('called', 'fail', inVain)).rejects.toThrow(SpyTimeoutError);
  });

  it('sees a call from its start to its end, in this order', async () => {
    await call('echo', { a: 1 }, { headers: { trace: 'x' }, item: 7 });
    const names = fleet.spy.history.map(({ name }) => name);
    expect(names.slice(-3)).toEqual(['called', 'started', 'settled']);
    const { callId } = await fleet.spy.waitFor('called');
    const facts = { callId, parameters: { a: 1 }, headers: { trace: 'x' }, item: 7 };
    expect(fleet.spy.of('started')).toMatchObject([{ ...facts, workerId: 'app', attempt: 1 }]);
    expect(fleet.spy.of('settled')).toMatchObject([{ callId, success: true }]);
  });

  it('sees a handler fail, and what its caller gets of it', async () => {
    await rejection(call('fail'));
    expect(fleet.spy.of('failed')).toMatchObject([
      { functionName: 'fail', error: boom, attempt: 1 },
    ]);
    expect(fleet.spy.of('settled')).toMatchObject([{ success: false, error: { code: 'BOOM' } }]);
  });

  it('sees no call that was never sent', async () => {
    await rejection(call('nobody', {}, { ifUnavailable: 'fail' }));
    expect(fleet.spy.of('called')).toEqual([]);
  });

  it('sees who waits for a worker', async () => {
    const called = call('late');
    await fleet.spy.waitFor('waiting', 'late');
    await fleet.stub('late', 'there');
    expect(await called).toBe('there');
    await call('echo');
    await call('echo');
    expect(fleet.spy.of('waiting', 'echo')).toHaveLength(1);
  });

  it('sees the news of a worker', async () => {
    const notifier = module.get(FunctionLifecycleNotifier).forFunction('echo');
    expect(await fleet.spy.waitFor('ready', 'echo')).toMatchObject({
      workerId: 'app',
      epoch: expect.any(Number),
    });
    await notifier.notifyUnhealthy('tired');
    expect(await fleet.spy.waitFor('health', 'echo')).toMatchObject({
      healthy: false,
      reason: 'tired',
    });
    await module.close();
    expect(fleet.spy.of('shutdown', 'echo')).toHaveLength(1);
    expect(fleet.spy.of('offline', 'echo')).toMatchObject([{ reason: 'shutdown' }]);
  });

  it('tells of news when those who listen to it have it', async () => {
    const registry = module.get(EnhancedFunctionRegistry);
    await rejection(registry.call('late', {}, { ifUnavailable: 'fail' }));
    const ready = fleet.spy.waitFor('ready', 'late');
    void fleet.stub('late', 'there');
    await ready;
    expect(await registry.call('late', {}, { ifUnavailable: 'fail' })).toBe('there');
  });

  it('is no listener: periodic health is not told for its sake', async () => {
    await fleet.clock.advance(30_000);
    expect(fleet.spy.of('health')).toEqual([]);
  });

  it('sees a call that is given up', async () => {
    await fleet.stub('once', new Error('boom'), { retry: { maxAttempts: 2, backoffMs: 0 } });
    const called = rejection(call('once', { n: 1 }));
    await fleet.clock.advance(1_000);
    await called;
    expect(await fleet.spy.waitFor('deadLettered', 'once')).toMatchObject({
      reason: 'RETRIES_EXHAUSTED',
      attempts: 2,
      parameters: { n: 1 },
    });
  });
});

describe('a selector', () => {
  const contract = defineFunction<{ a: number }, unknown>({ name: 'echo' });
  const elsewhere = defineFunction<{ a: number }, unknown>({ name: 'echo', workflowId: 'other' });
  beforeEach(async () => {
    await call('echo', { a: 1, deep: { b: [1, 2], c: 3 } });
  });

  it.each([
    ['nothing', undefined],
    ['a name', 'echo'],
    ['a contract', contract],
    ['fields', { functionName: 'echo', parameters: { a: 1 } }],
    ['fields of fields', { parameters: { deep: { b: [1, 2] } } }],
    ['a function', ({ functionName }: { functionName: string }) => functionName === 'echo'],
  ])('selects by %s', async (_, selector) => {
    expect(await fleet.spy.waitFor('called', selector)).toMatchObject({ functionName: 'echo' });
  });

  it.each([
    ['another name', 'ech'],
    ['a contract of another namespace', elsewhere],
    ['another value', { parameters: { a: 2 } }],
    ['a part of an array', { parameters: { deep: { b: [1] } } }],
    ['a field that is not there', { parameters: { a: { z: 1 } } }],
    ['a function that says no', () => false],
  ])('leaves out by %s', async (_, selector) => {
    await expect(fleet.spy.waitFor('called', selector, inVain)).rejects.toThrow(SpyTimeoutError);
  });

  it('that throws fails the wait, and nothing in the fleet', async () => {
    const bad = ({ functionName }: { functionName: string }): boolean => {
      if (functionName === 'echo') return false;
      throw new Error('bad selector');
    };
    const waiting = [fleet.spy.waitFor('ready', bad), fleet.spy.waitFor('called', bad)];
    const failed = Promise.all(waiting.map(rejection));
    await fleet.stub('late', 'there');
    expect(await call('late')).toBe('there');
    for (const error of await failed) expect(error).toMatchObject({ message: 'bad selector' });
  });

  it('can ask for a later one', async () => {
    const third = fleet.spy.waitFor('called', 'echo', { times: 3 });
    await call('echo', { a: 2 });
    await call('echo', { a: 3 });
    expect(await third).toMatchObject({ parameters: { a: 3 } });
  });
});

describe('a wait in vain', () => {
  const message = async (waiting: Promise<unknown>): Promise<string> =>
    (((await rejection(waiting)) as Error | undefined) ?? { message: 'nothing was thrown' })
      .message;

  it('says what was waited for, and what happened', async () => {
    await rejection(call('fail', { a: 1 }));
    const text = await message(fleet.spy.waitFor('called', { functionName: 'missing' }, inVain));
    expect(text).toContain(`no 'called' with {"functionName":"missing"} within 5 ms`);
    expect(text).toMatch(/\+\d+ ms {2}ready echo \(workflow default\) by app/);
    expect(text).toMatch(/called fail \(workflow default\) with \{"a":1\}/);
    expect(text).toMatch(/started fail \(workflow default\) on app, attempt 1/);
    expect(text).toMatch(/failed fail \(workflow default\) on app, attempt 1: boom/);
    expect(text).toMatch(/settled fail \(workflow default\) with BOOM: boom/);
  });

  it('says that nothing happened, and that its clock stands still', async () => {
    const frozen = new TestFleet({ clock: 'frozen' });
    const text = await message(frozen.spy.waitFor('ready', 'x', inVain));
    expect(text).toContain('Nothing happened.');
    expect(text).toContain('frozen');
    await frozen.close();
  });

  it('ends with the fleet', async () => {
    const waiting = message(fleet.spy.waitFor('offline', 'echo'));
    await module.close();
    await expect(waiting).resolves.toBe('nothing was thrown');
    const forever = message(fleet.spy.waitFor('called'));
    await fleet.close();
    expect(await forever).toContain('the fleet was closed');
  });

  it('is not begun for an event that does not exist', async () => {
    await expect(fleet.spy.waitFor('redy' as 'ready')).rejects.toThrow(/one of ready, shutdown/);
    await expect(fleet.spy.waitFor('ready', 'echo', { times: 0 })).rejects.toThrow(/times/);
    expect(() => fleet.spy.of('redy' as 'ready')).toThrow(/one of ready/);
  });
});

describe('clear', () => {
  it('forgets what happened, and who waits goes on waiting', async () => {
    await call('echo');
    const waiting = fleet.spy.waitFor('called', { parameters: { a: 2 } });
    fleet.spy.clear();
    expect(fleet.spy.history).toEqual([]);
    await expect(fleet.spy.waitFor('called', 'echo', inVain)).rejects.toThrow('Nothing happened');
    await call('echo', { a: 2 });
    expect(await waiting).toMatchObject({ parameters: { a: 2 } });
  });
});

describe('types', () => {
  it('are those of the event', async () => {
    const spy: FunctionsSpy = fleet.spy;
    const { reason }: { reason: string } = await spy
      .waitFor('offline', undefined, inVain)
      .catch(() => ({ reason: 'none' }));
    expect(reason).toBe('none');
    // @ts-expect-error 'called' has no reason
    const refused = spy.waitFor('called', { reason: 'x' }, inVain);
    await expect(refused).rejects.toThrow(SpyTimeoutError);
  });
});
