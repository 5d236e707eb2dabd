import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const key = (name: string): string => `${fleet.prefix}nf:{work:default}:${name}`;

describe('what somebody else wrote to a key of the library', () => {
  it.each([
    ['that is no packed call', 'garbage'],
    ['that is a packed number', Buffer.from([7])],
    ['that is a packed list of lists', Buffer.from([0x92, 0x90, 0x90])],
    ['that is an empty packed list', Buffer.from([0x90])],
  ])(
    'among the calls that wait for another attempt, %s, holds up none of them',
    async (_, packed) => {
      let attempts = 0;
      const work = hosting({ name: 'work', retry: { maxAttempts: 2, backoffMs: 1 } }, () => {
        attempts += 1;
        if (attempts === 1) throw new Error('not yet');
        return attempts;
      });
      const app = await fleet.start({ providers: [work] });
      await fleet.redis.hset(key('aside'), '1-1', packed);
      await fleet.redis.zadd(key('delayed'), 1, '1-1');
      const call = app.get(EnhancedFunctionRegistry).call('work', {}, { timeoutMs: 10_000 });
      await expect(call).resolves.toBe(2);
      await eventually('it is gone', async () => (await fleet.redis.hlen(key('aside'))) === 0);
    },
  );

  it('as thousands of fields of a running call does not keep it from being handed back', async () => {
    const stage = new Stage();
    const first = await fleet.start({
      providers: [stage.as('work')],
      options: { drainTimeoutMs: 20 },
    });
    const junk = Array.from({ length: 20_000 }, (_, n) => `f${n}`);
    const call = ['c', '1 60000   big\t{"p":{},"i":null}'];
    await fleet.redis.xadd(key('calls'), '*', ...call, ...junk);
    await stage.started();
    await fleet.stop(first);
    const again = new Stage();
    await fleet.start({ providers: [again.as('work')] });
    expect((await again.started()).callId).toBe('big');
    again.finishAll();
    stage.finishAll();
  });

  it('as the history of a call that fails, which cannot be written again, does not keep it from its next attempt', async () => {
    const attempts: number[] = [];
    const retry = { maxAttempts: 2, backoffMs: 1 };
    await fleet.start({
      providers: [
        hosting({ name: 'work', retry }, (_, { attempt }) => {
          attempts.push(attempt);
          throw new Error('broken');
        }),
      ],
    });
    const call = ['c', '1 60000   c\t{"p":{},"i":null}'];
    await fleet.redis.xadd(key('calls'), '*', ...call, 'h', '[1e400]');
    await eventually('it is given up', async () => (await fleet.redis.xlen(key('dead'))) === 1);
    expect(attempts).toEqual([1, 2]);
  });

  it.each([
    ['a record of the worker without an end', 'workers', '{"epoch":1e400,"seq":1,"processId":"p"}'],
    ['a record of the worker that has no seq', 'workers', '{"epoch":1,"processId":"p"}'],
    ['an epoch without an end', 'epoch', '1e400'],
  ])('as %s does not keep it from registering and leaving', async (_what, name, text) => {
    if (name === 'workers') await fleet.redis.hset(key(name), 'w', text);
    else await fleet.redis.set(key(name), text);
    const app = await fleet.start({
      providers: [hosting('work', () => 'done')],
      options: { workerId: 'w' },
    });
    await expect(app.get(EnhancedFunctionRegistry).call('work')).resolves.toBe('done');
    if (name === 'workers') await fleet.redis.hset(key(name), 'w', text);
    else await fleet.redis.set(key(name), text);
    await fleet.stop(app);
    expect(await fleet.redis.exists(key('workers'))).toBe(0);
  });

  it('as the holder of the office of the supervisor, without an end, is not waited for', async () => {
    await fleet.redis.set(`${fleet.prefix}nf:supervisor`, 'nobody');
    await fleet.redis.set(`${fleet.prefix}nf:deputy`, 'nobody');
    const app = await fleet.start();
    await eventually('it supervises', () => app.get(WorkerCoordinator).isSupervisor);
    const second = await fleet.start();
    await eventually('the deputy is replaced', async () => {
      const deputy = await fleet.redis.get(`${fleet.prefix}nf:deputy`);
      return deputy !== null && deputy !== 'nobody';
    });
    expect(second.get(WorkerCoordinator).isSupervisor).toBe(false);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['the bells', () => fleet.redis.set(key('bells'), 'x')],
    [
      'a pool',
      async () => {
        await fleet.redis.sadd(key('bells'), `${fleet.prefix}nf:pool:{x}`);
        await fleet.redis.set(`${fleet.prefix}nf:pool:{x}:due`, 'x');
      },
    ],
    [
      'the tokens of a pool',
      async () => {
        await fleet.redis.sadd(key('bells'), `${fleet.prefix}nf:pool:{x}`);
        await fleet.redis.set(`${fleet.prefix}nf:pool:{x}:wake`, 'x');
      },
    ],
  ])('in the place of %s does not make a call fail that was written', async (_what, write) => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    await write();
    const call = app.get(EnhancedFunctionRegistry).call('work');
    (await stage.started()).outcome.resolve('done');
    await expect(call).resolves.toBe('done');
    expect(stage.runs).toHaveLength(1);
  });
});
