import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext, Type } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  WorkerCoordinator,
} from '../../src/index.js';
import { DIRECT_READ_LIMIT } from '../../src/execution/worker/lanes.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { scripts } from '../../src/backend/redis/scripts.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { CommandLog } from '../harness/command-log.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

/** More functions than are read directly. */
const MANY = DIRECT_READ_LIMIT + 8;

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const nameOf = (index: number): string => `f${index}`;
const names = Array.from({ length: MANY }, (_, index) => nameOf(index));

/** Handlers of all functions; each answers with its name and what the host says of itself. */
function many(
  host: string,
  instead: Type<unknown>[] = [],
  without: string[] = [],
): Type<unknown>[] {
  const plain = names.filter((name) => !without.includes(name));
  return [...plain.map((name) => hosting(name, () => `${name} on ${host}`)), ...instead];
}

async function caller(): Promise<EnhancedFunctionRegistry> {
  return (await fleet.start({ options: { worker: false } })).get(EnhancedFunctionRegistry);
}

const poolKeys = async (): Promise<string[]> =>
  (await fleet.keys()).filter((key) => /nf:pool:|:bells$/.test(key));

describe('a process with many functions', () => {
  it('runs calls of each of them', async () => {
    await fleet.start({ providers: many('a') });
    const registry = await caller();
    const answers = await Promise.all(names.map((name) => registry.call(name)));
    expect(answers).toEqual(names.map((name) => `${name} on a`));
  });

  it('runs calls of more functions at once than one look at the pool takes', async () => {
    const all = Array.from({ length: 150 }, (_, index) => `g${index}`);
    const stage = new Stage();
    await fleet.start({
      providers: all.map((name) => stage.as(name)),
      options: { concurrency: 1_000 },
    });
    const registry = await caller();
    await Promise.all(all.map((name) => registry.waitForFunction(name, 'default', 10_000)));
    const calls = all.map((name) => registry.call(name, {}, { timeoutMs: 15_000 }));
    await stage.started(all.length);
    stage.finishAll('done');
    await expect(Promise.all(calls)).resolves.toHaveLength(all.length);
  });

  it('starts a call the moment it comes, again and again, without reading all streams for it', async () => {
    await fleet.start({ providers: many('a') });
    const registry = await caller();
    await registry.call('f0');
    const log = await CommandLog.start(redisUrl());
    const before = Date.now();
    for (let n = 0; n < 20; n += 1) await registry.call(nameOf(n));
    // A bell that nobody hears would cost a wait of up to two seconds, each time.
    expect(Date.now() - before).toBeLessThan(10_000);
    const reads = await log.mentioning(`${fleet.prefix}nf:{f39:default}:calls`);
    log.close();
    expect(reads.filter(({ name }) => name === 'xreadgroup')).toEqual([]);
  });

  it('is given a lone call while it waits, instead of being told to ask for it', async () => {
    await fleet.start({ providers: many('a') });
    const registry = await caller();
    await registry.call('f0');
    const log = await CommandLog.start(redisUrl());
    for (let n = 0; n < 20; n += 1) await registry.call(nameOf(n));
    const asked = (await log.mentioning(scripts.take.sha)).filter(({ args }) =>
      args.some((arg) => arg.startsWith(fleet.prefix)),
    );
    log.close();
    // Now and then it does not wait yet when the next call comes.
    expect(asked.length).toBeLessThan(10);
  });

  it('runs a call once that was given to it on a connection which broke', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    const stage = new Stage();
    const worker = await fleet.start({
      providers: many('a', [stage.as('f0')], ['f0']),
      options: { connection: proxy.url },
    });
    const registry = await caller();
    await registry.waitForFunction('f0', 'default', 10_000);
    await registry.call('f1');
    const isDue = async (): Promise<boolean> =>
      (await fleet.keys()).some((key) => key.endsWith(':due') || key.endsWith(':wake'));
    await eventually('nothing is due', async () => !(await isDue()));
    const offers = async (): Promise<number> => {
      const pools = (await fleet.keys()).filter((key) => key.endsWith(':offers'));
      return pools.length === 0 ? 0 : fleet.redis.exists(...pools);
    };
    await eventually('it waits', async () => (await offers()) === 1);
    proxy.hold();
    const call = registry.call('f0');
    await eventually('it is given the call', async () => {
      const [inbox = ''] = (await fleet.keys()).filter((key) => key.endsWith(':inbox'));
      return (await fleet.redis.hvals(inbox)).some((line) => line.startsWith('f0:default\t'));
    });
    proxy.cut();
    proxy.release();
    await stage.started();
    stage.finishAll('done');
    await expect(call).resolves.toBe('done');
    await registry.call('f1');
    expect(stage.runs).toHaveLength(1);
    await fleet.stop(worker);
    await proxy.close();
  });

  it('runs a call that was given to it on a connection which broke, once it may look for it', async () => {
    const name = `worker-${process.pid}`;
    await fleet.redis.acl('SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', '+@all');
    const proxy = await TcpProxy.start(redisUrl());
    const stage = new Stage();
    const worker = await fleet.start({
      providers: many('a', [stage.as('f0')], ['f0']),
      options: { connection: proxy.url.replace('//', `//${name}:secret@`) },
    });
    const registry = await caller();
    await registry.call('f1');
    const log = await CommandLog.start(redisUrl());
    await eventually('it has looked once more after its first connection', async () =>
      (await log.mentioning(':inbox')).some(({ name: command }) => command === 'hgetall'),
    );
    log.close();
    await registry.call('f1');
    await eventually('it waits', async () => {
      const [offers = ''] = (await fleet.keys()).filter((key) => key.endsWith(':offers'));
      return (await fleet.redis.exists(offers)) === 1;
    });
    proxy.hold();
    const call = registry.call('f0');
    await eventually('it is given the call', async () => {
      const [inbox = ''] = (await fleet.keys()).filter((key) => key.endsWith(':inbox'));
      return (await fleet.redis.hvals(inbox)).some((line) => line.startsWith('f0:default\t'));
    });
    await fleet.redis.acl('SETUSER', name, '-hgetall');
    await fleet.redis.acl('LOG', 'RESET');
    proxy.cut();
    proxy.release();
    await eventually('it may not look', async () =>
      JSON.stringify(await fleet.redis.acl('LOG')).includes('hgetall'),
    );
    expect(stage.runs).toHaveLength(0);
    await fleet.redis.acl('SETUSER', name, '+hgetall');
    // Not as one that was handed over.
    expect((await stage.started()).context.attempt).toBe(1);
    stage.finishAll('done');
    await expect(call).resolves.toBe('done');
    await fleet.stop(worker);
    await proxy.close();
    await fleet.redis.acl('DELUSER', name);
  });

  it('finds a call whose token went to a process that stood still then, although nothing rang since', async () => {
    const stage = new Stage();
    await fleet.start({ providers: many('a', [stage.as('f0')], ['f0']) });
    const log = await CommandLog.start(redisUrl());
    let due = '';
    await eventually('it waits in vain, and asks whether something is due', async () => {
      const asked = await log.mentioning(`${fleet.prefix}nf:pool:`);
      due = asked.find(({ name }) => name === 'exists')?.args[0] ?? '';
      return due !== '';
    });
    log.close();
    const call = ['c', '1 60000   silent\t{}'];
    await fleet.redis.xadd(`${fleet.prefix}nf:{f0:default}:calls`, '*', ...call);
    await fleet.redis.zadd(due, 1, 'f0:default');
    expect((await stage.started()).callId).toBe('silent');
    stage.finishAll();
  });

  it('takes what came before it was there', async () => {
    const registry = await caller();
    const first = await fleet.start({ providers: many('first') });
    await registry.call('f7');
    await first.get(FunctionLifecycleNotifier).forFunction('f7').notifyUnhealthy('timeout');
    const stream = `${fleet.prefix}nf:{f7:default}:calls`;
    await fleet.redis.xadd(stream, '*', 'c', '1 60000   early\t{}');
    const stage = new Stage();
    await fleet.start({ providers: many('second', [stage.as('f7')], ['f7', 'f8']) });
    expect((await stage.started()).callId).toBe('early');
    stage.finishAll();
  });

  it('runs a burst for one function while others are called, and none of them waits for the burst', async () => {
    const stage = new Stage();
    await fleet.start({
      providers: many('a', [stage.as({ name: 'f0', concurrency: 2 })], ['f0']),
    });
    const registry = await caller();
    await registry.call('f1');
    const burst = Array.from({ length: 10 }, () => registry.call('f0'));
    await stage.started(2);
    await expect(
      Promise.all(names.slice(1).map((name) => registry.call(name))),
    ).resolves.toHaveLength(MANY - 1);
    expect(stage.runs).toHaveLength(2);
    for (let run = 1; run <= 10; run += 1) (await stage.started(run)).outcome.resolve(run);
    await expect(Promise.all(burst)).resolves.toHaveLength(10);
    expect(stage.peak).toBe(2);
  });

  it('runs no more at once than its concurrency', async () => {
    const stage = new Stage();
    const staged = names.slice(0, 5).map((name) => stage.as(name));
    await fleet.start({
      providers: many('a', staged, names.slice(0, 5)),
      options: { concurrency: 3 },
    });
    const registry = await caller();
    const calls = names.slice(0, 5).map((name) => registry.call(name));
    await stage.started(3);
    await fleet.redis.ping();
    expect(stage.runs).toHaveLength(3);
    for (let run = 1; run <= 5; run += 1) (await stage.started(run)).outcome.resolve(run);
    await Promise.all(calls);
    expect(stage.peak).toBe(3);
  });

  it('goes on when a group was deleted', async () => {
    await fleet.start({ providers: many('a') });
    const registry = await caller();
    await registry.call('f3');
    await fleet.redis.xgroup('DESTROY', `${fleet.prefix}nf:{f3:default}:calls`, 'workers');
    await expect(registry.call('f3')).resolves.toBe('f3 on a');
  });

  it('goes on when Redis was emptied', async () => {
    const app = await fleet.start({ providers: many('a'), options: { leaseMs: 400 } });
    const registry = await caller();
    await registry.call('f3');
    const registered = new Promise((resolve) =>
      app.get(WorkerCoordinator).on('state', ({ to }) => to === 'active' && resolve(to)),
    );
    await fleet.redis.del(...(await fleet.keys()));
    await registered;
    await expect(registry.call('f3', {}, { timeoutMs: 15_000 })).resolves.toBe('f3 on a');
  });

  it('leaves no pool behind when it closes', async () => {
    const app = await fleet.start({ providers: many('a') });
    await (await caller()).call('f0');
    expect((await poolKeys()).length).toBeGreaterThan(0);
    await fleet.stop(app);
    expect(await poolKeys()).toEqual([]);
  });

  it('can end one function and begin it again', async () => {
    const app = await fleet.start({ providers: many('a') });
    const registry = await caller();
    await registry.call('f5');
    const notifier = app.get(FunctionLifecycleNotifier).forFunction('f5');
    await notifier.notifyOffline('maintenance');
    await eventually('its caller knows', async () => {
      const { available } = await registry.getInstantWorkerStatus('f5', 'default');
      return !available;
    });
    await expect(registry.call('f6')).resolves.toBe('f6 on a');
    await notifier.notifyReady();
    await expect(registry.call('f5')).resolves.toBe('f5 on a');
    await expect(registry.call('f6')).resolves.toBe('f6 on a');
  });
});

describe('two processes with the same many functions', () => {
  async function two(stage: Stage): Promise<INestApplicationContext[]> {
    const options = { concurrency: 1 };
    const start = (host: string) =>
      fleet.start({ providers: many(host, [stage.as('f0')], ['f0']), options });
    return [await start('one'), await start('two')];
  }

  it('are one pool', async () => {
    await two(new Stage());
    const bells = await fleet.redis.smembers(`${fleet.prefix}nf:{f0:default}:bells`);
    expect(bells).toHaveLength(1);
  });

  it('share calls: who has a place takes what the other cannot', async () => {
    const stage = new Stage();
    await two(stage);
    const registry = await caller();
    await registry.call('f1');
    const calls = [registry.call('f0'), registry.call('f0')];
    await stage.started(2);
    expect(new Set(stage.runs.map(({ context }) => context.workerId)).size).toBe(2);
    stage.finishAll();
    await Promise.all(calls);
  });

  it('finds one for each call while the other is unhealthy for the function', async () => {
    const [one] = await two(new Stage());
    await one?.get(FunctionLifecycleNotifier).forFunction('f1').notifyUnhealthy('timeout');
    const registry = await caller();
    for (let n = 0; n < 10; n += 1) await expect(registry.call('f1')).resolves.toBe('f1 on two');
  });

  it('one takes over what the other leaves behind, waiting and running', async () => {
    const stage = new Stage();
    const [one] = await two(stage);
    const registry = await caller();
    const calls = Array.from({ length: 4 }, () => registry.call('f0', {}, { timeoutMs: 15_000 }));
    const first = await stage.started(2);
    expect(first.context.attempt).toBe(1);
    const closing = fleet.stop(one!);
    for (let run = 1; run <= 4; run += 1) (await stage.started(run)).outcome.resolve(run);
    await closing;
    await expect(Promise.all(calls)).resolves.toHaveLength(4);
  });

  it('run the calls of a lost session again', async () => {
    const stage = new Stage();
    await two(stage);
    const registry = await caller();
    const call = registry.call('f0', {}, { timeoutMs: 15_000 });
    await stage.started();
    await condemnAll(fleet);
    const again = await stage.started(2);
    expect(again.context.attempt).toBe(2);
    again.outcome.resolve('again');
    await expect(call).resolves.toBe('again');
    stage.finishAll();
  });
});

describe('a function in processes with many and with few functions', () => {
  it('is served by both', async () => {
    const stage = new Stage();
    const options = { concurrency: 1 };
    await fleet.start({ providers: many('many', [stage.as('f0')], ['f0']), options });
    await fleet.start({ providers: [stage.as('f0')], options });
    const registry = await caller();
    const calls = [registry.call('f0'), registry.call('f0')];
    await stage.started(2);
    expect(new Set(stage.runs.map(({ context }) => context.workerId)).size).toBe(2);
    stage.finishAll();
    await Promise.all(calls);
    await eventually('nothing is due', async () =>
      expect((await poolKeys()).filter((key) => key.endsWith(':due'))).toEqual([]),
    );
  });
});
