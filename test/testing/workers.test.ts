import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { TestingModule } from '@nestjs/testing';
import { EnhancedFunctionRegistry, type CallOptions } from 'nestjs-functions';
import { TestFleet } from 'nestjs-functions/testing';
import { rejection } from '../harness/caught.js';
import { hosting, Stage } from '../harness/host.js';
import { member } from './member.js';

let fleet: TestFleet;
let module: TestingModule;
beforeEach(async () => {
  fleet = new TestFleet({ clock: 'frozen' });
  module = await member(fleet);
});
afterEach(() => fleet.close());

const call = (options?: CallOptions): Promise<unknown> =>
  module.get(EnhancedFunctionRegistry).call('work', {}, options);
const status = () => module.get(EnhancedFunctionRegistry).getInstantWorkerStatus('work', 'default');

describe('a worker that is absent', () => {
  it('is no worker: a call finds none, or waits for it', async () => {
    const stub = await fleet.stub('work', 'done', { absent: true });
    expect(stub.isThere).toBe(false);
    expect(await rejection(call({ ifUnavailable: 'fail' }))).toMatchObject({ code: 'NO_WORKER' });
    const waiting = call();
    await fleet.clock.settle();
    expect(fleet.spy.of('called')).toEqual([]);
    await stub.appear();
    expect(await waiting).toBe('done');
  });

  it('cannot leave, die or change its health', async () => {
    const stub = await fleet.stub('work', 'done', { absent: true });
    for (const action of [
      () => stub.drain(),
      () => stub.die(),
      () => stub.unhealthy(),
      () => stub.healthy(),
    ])
      await expect(action()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('a worker that is drained', () => {
  it('says so before and after, finishes what runs, and takes nothing more', async () => {
    const stub = await fleet.stub('work', 'done', {});
    stub.answerOnce('in time', { afterMs: 1_000 });
    const called = call();
    await fleet.spy.waitFor('started');
    const drained = stub.drain();
    await fleet.spy.waitFor('shutdown', 'work');
    expect(fleet.spy.of('offline')).toEqual([]);
    await fleet.clock.advance(1_000);
    expect(await called).toBe('in time');
    expect(await drained).toEqual({ finished: 1, handedBack: 0 });
    expect(await fleet.spy.waitFor('offline', 'work')).toMatchObject({ reason: 'shutdown' });
    expect(await rejection(call({ ifUnavailable: 'fail' }))).toMatchObject({ code: 'NO_WORKER' });
  });

  it('hands back what does not finish', async () => {
    const stub = await fleet.stub('work');
    stub.hang();
    const called = call();
    await fleet.spy.waitFor('started');
    const drained = stub.drain();
    await fleet.clock.advance(10_000);
    expect(await drained).toEqual({ finished: 0, handedBack: 1 });
    stub.answer('later');
    await stub.appear();
    expect(await called).toBe('later');
  });
});

describe('a worker that is unhealthy', () => {
  it('gets no calls until it is healthy', async () => {
    const stub = await fleet.stub('work', 'done');
    await stub.unhealthy('disk full');
    expect(await fleet.spy.waitFor('health', { healthy: false })).toMatchObject({
      reason: 'disk full',
    });
    expect(await status()).toMatchObject({ available: false, workers: 1, healthyWorkers: 0 });
    const waiting = call();
    await fleet.clock.advance(1_000);
    expect(stub.calls).toEqual([]);
    await stub.healthy();
    expect(await waiting).toBe('done');
  });
});

describe('a worker that dies', () => {
  it('is missed, and its call runs elsewhere', async () => {
    const first = await fleet.stub('work', undefined, { workerId: 'first' });
    first.hang();
    const called = call();
    await fleet.spy.waitFor('started', { workerId: 'first' });
    await fleet.stub('work', (_, { attempt }) => `attempt ${attempt}`, { workerId: 'second' });
    const startedAt = performance.now();
    await first.die();
    expect(fleet.spy.of('offline', { workerId: 'first' })).toMatchObject([
      { reason: 'process_died' },
    ]);
    expect(fleet.spy.of('shutdown')).toEqual([]);
    expect(await called).toBe('attempt 2');
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });

  it('takes an at-most-once call with it', async () => {
    const stub = await fleet.stub('work');
    stub.hang();
    const called = rejection(call({ delivery: 'at-most-once' }));
    await fleet.spy.waitFor('started');
    await stub.die();
    expect(await called).toMatchObject({ code: 'WORKER_LOST' });
  });

  it('says nothing more, whatever still runs of it', async () => {
    const stub = await fleet.stub('work');
    let finish: (value: unknown) => void = () => undefined;
    stub.answer(() => new Promise((resolve) => (finish = resolve)));
    const called = call();
    await fleet.spy.waitFor('started');
    await stub.die({ unnoticed: true });
    finish('from the grave');
    stub.answer('from the next life');
    await stub.appear();
    await fleet.clock.advance(5_000);
    expect(await called).toBe('from the next life');
  });

  it('is not missed before time passes, if the test says so', async () => {
    const stub = await fleet.stub('work', 'done');
    const before = fleet.clock.now();
    await stub.die({ unnoticed: true });
    expect(fleet.clock.now()).toBe(before);
    expect(fleet.spy.of('offline')).toEqual([]);
    await fleet.clock.advance(5_000);
    expect(fleet.spy.of('offline')).toMatchObject([{ reason: 'process_died' }]);
  });

  it('loses a call for good when that has lost as many workers as it may', async () => {
    const stub = await fleet.stub('work');
    stub.hang();
    const called = rejection(call());
    for (let life = 1; life <= 3; life += 1) {
      await fleet.spy.waitFor('started', { attempt: life });
      await stub.die();
      if (life < 3) await stub.appear();
    }
    expect(await called).toMatchObject({ code: 'MAX_DELIVERIES' });
    expect(await fleet.spy.waitFor('deadLettered', 'work')).toMatchObject({
      reason: 'MAX_DELIVERIES',
    });
  });

  it('is missed by nobody when nobody is left', async () => {
    const lonely = new TestFleet({ clock: 'frozen' });
    const stub = await lonely.stub('work');
    await expect(stub.die()).rejects.toThrow(/Nobody missed stub of work/);
    await lonely.close();
  });
});

describe('an application that is killed', () => {
  it('is missed, and its calls run elsewhere', async () => {
    const stage = new Stage();
    const worker = await member(fleet, [stage.as('work')], { workerId: 'app' });
    const called = call();
    const { context } = await stage.started();
    const { signal } = context;
    await fleet.stub('work', (_, { attempt }) => `attempt ${attempt}`);
    await fleet.kill(worker);
    expect(fleet.spy.of('offline', { workerId: 'app' })).toMatchObject([
      { reason: 'process_died' },
    ]);
    expect(signal.aborted).toBe(true);
    expect(await called).toBe('attempt 2');
    stage.finishAll();
  });

  it('settles its own calls, and can be closed', async () => {
    const stub = await fleet.stub('work');
    stub.hang();
    const called = rejection(call());
    await fleet.spy.waitFor('started');
    await fleet.kill(module);
    expect(await called).toMatchObject({ code: 'CLOSED' });
    await module.close();
  });

  it('has to be one of the fleet', async () => {
    const other = new TestFleet();
    const killed = fleet.kill(await member(other, [hosting('work', () => 1)]));
    await expect(killed).rejects.toThrow(/no application of this fleet/);
    await other.close();
  });
});
