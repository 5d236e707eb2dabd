import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  jest,
} from '@jest/globals';
import { Logger } from '@nestjs/common';
import {
  BackendRefusedError,
  DeadLetters,
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  FunctionRegistry,
  FunctionsMetrics,
  isFunctionsError,
  NotificationManager,
  WorkerCoordinator,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { rejection } from '../harness/caught.js';
import { AclFleet } from '../harness/acl-fleet.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

jest.setTimeout(120_000);

const CURE = /docs\/security\.md/;
let redis: StartedRedis;
let fleet: AclFleet;
let lines: string[];

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  fleet = await AclFleet.on(redis);
  lines = [];
  for (const level of ['warn', 'error'] as const)
    jest.spyOn(Logger.prototype, level).mockImplementation((text: unknown) => {
      lines.push(String(text));
    });
});
afterEach(async () => {
  await fleet.close();
  jest.restoreAllMocks();
});

const done = hosting('work', () => 'done');
const said = (text: string): string[] => lines.filter((line) => line.includes(text));

/** Waits until Redis refused a command that often since now: whoever logs each time has logged as often. */
async function refusedOften(command: string, times = 6): Promise<void> {
  const before = await fleet.refusedCount(command);
  await eventually(`${command} is refused again and again`, async () => {
    return (await fleet.refusedCount(command)) >= before + times;
  });
}

/** That something was said once, with the cure. */
function expectSaidOnce(text: string): void {
  expect(said(text)).toEqual([expect.stringMatching(CURE)]);
}

describe('a process that may not tell what it measured', () => {
  it('says so once, and works on', async () => {
    const publish = ['function:metrics:*', 'function:bottleneck:*', 'nf:vitals', 'nf:listeners'];
    await fleet.takeAway('worker', ...publish.map((channel) => `+publish ${channel}`));
    await fleet.startAs('worker', [done], { leaseMs: 400 });
    const registry = await fleet.caller();
    const stock = fleet.redis.duplicate();
    await stock.psubscribe(`${fleet.prefix}function:metrics:*`);
    await refusedOften('publish');
    expectSaidOnce('who listens to metrics is not found out');
    expect(await registry.call('work')).toBe('done');
    stock.disconnect();
    const watcher = (await fleet.startAs('watcher')).get(FunctionsMetrics);
    const watch = watcher.watch().subscribe();
    await refusedOften('publish');
    expectSaidOnce('metrics are not published');
    expect(await registry.call('work')).toBe('done');
    watch.unsubscribe();
  });
});

describe('a failure for want of a right', () => {
  const asCaller = async (): Promise<{ letters: DeadLetters; registry: FunctionRegistry }> => {
    const app = await fleet.startAs('caller');
    return { letters: app.get(DeadLetters), registry: app.get(FunctionRegistry) };
  };
  type Api = Awaited<ReturnType<typeof asCaller>>;
  const definition = { name: 'work', workflowId: 'default' };

  it.each<[string, (api: Api) => Promise<unknown>]>([
    ['DeadLetters.list', ({ letters }) => letters.list('work', 'default')],
    ['DeadLetters.count', ({ letters }) => letters.count('work', 'default')],
    ['DeadLetters.retry', ({ letters }) => letters.retry('work', 'default', '1-1')],
    ['DeadLetters.retryAll', ({ letters }) => letters.retryAll('work', 'default')],
    ['DeadLetters.remove', ({ letters }) => letters.remove('work', 'default', '1-1')],
    ['registerFunction', ({ registry }) => registry.registerFunction(definition)],
    ['unregisterFunction', ({ registry }) => registry.unregisterFunction('work', 'default')],
    ['updateWorkerHealth', ({ registry }) => registry.markWorkerUnhealthy('w', 'work', 'default')],
    ['unregisterWorker', ({ registry }) => registry.unregisterWorker('w', 'work', 'default')],
  ])('is BACKEND_REFUSED with the cure: %s', async (_, use) => {
    await fleet.redis.hset(fleet.key('work', 'workers'), 'w', '{"epoch":1,"seq":1}');
    const error = await rejection(use(await asCaller()));
    expect(error).toBeInstanceOf(BackendRefusedError);
    expect(error).toMatchObject({ kind: 'NOPERM', retryable: false, details: { kind: 'NOPERM' } });
    expect((error as Error).message).toMatch(CURE);
  });

  it.each([
    ['getAvailableFunctions', '+smembers nf:workflow:{*}:functions'],
    ['getAvailableWorkers', '+hgetall nf:{*}:workers'],
    ['callFunction', '+hgetall nf:{*}:workers'],
    ['waitForFunction', '+hgetall nf:{*}:workers'],
    ['call', '+xadd nf:{*}:calls'],
    ['call, before a worker is known', '+hgetall nf:{*}:workers'],
    ['call, at most once', '+xadd nf:{*}:calls'],
    ['call, with an idempotency key', '+hmget nf:{*}:once:*'],
    ['publish', '+publish nf:process:*'],
  ])('is BACKEND_REFUSED at once: %s without %s', async (what, rule) => {
    await fleet.startAs('worker', [done]);
    await fleet.takeAway('caller', rule);
    const app = await fleet.startAs('caller');
    const registry = app.get(EnhancedFunctionRegistry);
    const uses: Record<string, () => Promise<unknown>> = {
      getAvailableFunctions: () => registry.getAvailableFunctions(),
      getAvailableWorkers: () => registry.getAvailableWorkers('work', 'default'),
      callFunction: async () => {
        const { error } = await registry.callFunction('work', 'default', {});
        throw new BackendRefusedError('callFunction', '', error?.message ?? 'none');
      },
      waitForFunction: () => registry.waitForFunction('work', 'default', 30_000),
      call: () => registry.call('work'),
      'call, before a worker is known': () => registry.call('work'),
      'call, at most once': () => registry.call('work', {}, { delivery: 'at-most-once' }),
      'call, with an idempotency key': () => registry.call('work', {}, { idempotencyKey: 'k' }),
      publish: () => app.get(NotificationManager).publish('app:x', {}),
    };
    const startedAt = Date.now();
    const error = await rejection((uses[what] as () => Promise<unknown>)());
    expect(isFunctionsError(error, 'BACKEND_REFUSED')).toBe(true);
    expect(error).toMatchObject({
      details: { kind: 'NOPERM' },
      message: expect.stringMatching(CURE),
    });
    expect(Date.now() - startedAt).toBeLessThan(5_000);
    expect(await fleet.redis.xlen(fleet.key('work', 'calls'))).toBe(0);
  });

  it('is BACKEND_REFUSED, too, for a key that holds something else', async () => {
    await fleet.redis.set(fleet.key('work', 'dead'), 'not a stream');
    const letters = (await fleet.startAs('operator')).get(DeadLetters);
    await expect(letters.list('work', 'default')).rejects.toMatchObject({
      code: 'BACKEND_REFUSED',
      kind: 'WRONGTYPE',
      message: expect.stringMatching(/delete it/),
    });
    await fleet.redis.set(`${fleet.prefix}nf:workflow:{default}:functions`, 'no set');
    const registry = await fleet.caller();
    await expect(registry.getAvailableFunctions()).rejects.toMatchObject({ kind: 'WRONGTYPE' });
  });
});

describe('a caller that may not read its answers', () => {
  it.each(['+xgroup|create', '+xread'])(
    'fails its calls soon, says so once, and calls when it may: %s',
    async (command) => {
      await fleet.startAs('worker', [done]);
      await fleet.takeAway('caller', `${command} nf:process:{${fleet.host}-*}:replies`);
      const registry = await fleet.caller();
      await expect(registry.call('work')).rejects.toMatchObject({ code: 'BACKEND_REFUSED' });
      await expect(registry.call('work')).rejects.toMatchObject({ code: 'BACKEND_REFUSED' });
      await refusedOften(command.slice(1));
      expectSaidOnce('reading replies failed');
      await fleet.takeAway('caller');
      await eventually('it calls', async () => {
        return (await registry.call('work').catch(() => '')) === 'done';
      });
    },
  );
});

describe('a worker from which a right is taken while it works', () => {
  it.each([
    ['+xreadgroup nf:{*}:calls', 'xreadgroup', 'reading calls failed'],
    ['+xadd nf:process:{*}:replies', 'xadd', 'outcome(s) wait'],
  ])('says so once, and goes on when it may again: %s', async (rule, command, text) => {
    const stage = new Stage();
    await fleet.startAs('worker', [stage.as('work')], { leaseMs: 1_000 });
    const registry = await fleet.caller();
    const first = registry.call('work');
    const run = await stage.started();
    await fleet.takeAway('worker', rule);
    run.outcome.resolve('first');
    await refusedOften(command);
    expectSaidOnce(text);
    await fleet.takeAway('worker');
    await expect(first).resolves.toBe('first');
    const second = registry.call('work');
    (await stage.started(2)).outcome.resolve('second');
    await expect(second).resolves.toBe('second');
  });

  it('says once that it may not make its group, and makes it when it may', async () => {
    await fleet.startAs('worker', [done]);
    const registry = await fleet.caller();
    await expect(registry.call('work')).resolves.toBe('done');
    await fleet.takeAway('worker', '+xgroup|create nf:{*}:calls');
    await fleet.redis.xgroup('DESTROY', fleet.key('work', 'calls'), 'workers');
    await refusedOften('xgroup|create');
    expect(said('a consumer group is gone')).toHaveLength(1);
    expectSaidOnce('reading calls failed');
    await fleet.takeAway('worker');
    await expect(registry.call('work')).resolves.toBe('done');
  });

  it('says once that its heart may not beat, and lives on when it may', async () => {
    const worker = await fleet.startAs('worker', [done], { leaseMs: 1_000 });
    await fleet.takeAway('worker', `+pexpire nf:process:{${fleet.host}-*}:lease`);
    await refusedOften('pexpire');
    expectSaidOnce('heartbeat failed');
    await fleet.takeAway('worker');
    await expect((await fleet.caller()).call('work')).resolves.toBe('done');
    expect(worker.get(WorkerCoordinator).state).toBe('active');
  });
});

describe('a worker that may not', () => {
  it('join says so once, and joins when it may', async () => {
    const { host } = fleet;
    const lease = `+set nf:process:{${host}-*}:lease`;
    await fleet.takeAway('worker', lease, `nf:process:${host}-*`);
    const worker = await fleet.startAs('worker', [done]);
    await refusedOften('subscribe');
    expectSaidOnce('joining the fleet failed');
    expectSaidOnce('could not subscribe');
    expectSaidOnce('no presence');
    await fleet.takeAway('worker');
    await worker.get(WorkerCoordinator).whenActive();
    await expect((await fleet.caller()).call('work')).resolves.toBe('done');
  });

  it('publish is found by those who poll, and says once that its news reach nobody', async () => {
    const heads = ['function:ready', 'function:shutdown', 'function:offline', 'worker:health'];
    const rules = heads.map((head) => `+publish ${head}:*`);
    await fleet.takeAway('worker', '+publish nf:process:*', ...rules);
    const registry = await fleet.caller();
    const waiting = registry.call('work');
    const worker = await fleet.startAs('worker', [done], { leaseMs: 1_000 });
    await expect(waiting).resolves.toBe('done');
    const notifier = worker.get(FunctionLifecycleNotifier).forFunction('work');
    await notifier.notifyUnhealthy('tired');
    await refusedOften('publish', 2);
    expectSaidOnce('may not publish');
    expectSaidOnce('periodic health is not told');
    expect(
      lines.filter((line) => !/may not publish|periodic health|unhealthy|SIGTERM/.test(line)),
    ).toEqual([]);
  });

  it('wake its own read says so once, and heeds what changes when the read has ended', async () => {
    await fleet.takeAway('worker', '+client|unblock');
    const worker = await fleet.startAs('worker', [done]);
    const registry = await fleet.caller();
    await expect(registry.call('work')).resolves.toBe('done');
    const notifier = worker.get(FunctionLifecycleNotifier).forFunction('work');
    for (let n = 0; n < 3; n += 1) {
      await notifier.notifyUnhealthy('tired');
      await notifier.notifyHealthy();
    }
    await eventually('it was refused', () => said('cannot be woken').length === 1);
    await expect(registry.call('work')).resolves.toBe('done');
    await fleet.stop(worker);
    expectSaidOnce('cannot be woken');
    expect(await fleet.refusedCount('client|unblock')).toBeLessThan(5);
  });

  it('end its own read leaves it to Redis, and what it still takes to the supervisor', async () => {
    await fleet.startAs('supervisor');
    await fleet.takeAway('worker', '+client|kill');
    await fleet.startAs('worker', [done]);
    const registry = await fleet.caller();
    await expect(registry.call('work')).resolves.toBe('done');
    await condemnAll(fleet);
    await eventually('it was refused', async () => {
      return (await fleet.refusals()).some((text) => text.includes('client|kill'));
    });
    await expect(registry.call('work')).resolves.toBe('done');
  });
});

describe('a caller that may not publish', () => {
  it('says once that its cancellations do not reach handlers', async () => {
    await fleet.takeAway('caller', '+publish nf:process:*');
    const stage = new Stage();
    await fleet.startAs('worker', [stage.as('work')]);
    const registry = await fleet.caller();
    for (const count of [1, 2]) {
      const abort = new AbortController();
      const call = registry.call('work', {}, { signal: abort.signal });
      const run = await stage.started(count);
      abort.abort();
      await expect(call).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
      await eventually(
        'Redis was asked',
        async () => (await fleet.refusedCount('publish')) >= count,
      );
      run.outcome.resolve('ignored');
    }
    await eventually('it is said', () => said('may not publish').length > 0);
    expectSaidOnce('may not publish');
  });
});

describe('a supervisor that may not see the clients', () => {
  it('takes a process without presence for dead, whether or not it still reads', async () => {
    await fleet.takeAway('supervisor', '+client|list');
    const supervisor = await fleet.startAs('supervisor');
    await eventually('it supervises', () => supervisor.get(WorkerCoordinator).isSupervisor);
    const processes = `${fleet.prefix}nf:processes`;
    // It still has a lease: nothing but its presence says that it is gone.
    await fleet.redis.set(`${fleet.prefix}nf:process:{gone-1-aa.1}:lease`, '1', 'PX', 60_000);
    await fleet.redis.hset(processes, 'gone-1-aa.1', 'present');
    await eventually('it is condemned', async () => {
      return (await fleet.redis.hget(processes, 'gone-1-aa.1')) !== 'present';
    });
    expect(await fleet.refusals()).toEqual([expect.stringContaining('client|list')]);
    expect(said('takes no part in the supervision')).toEqual([]);
  });
});
