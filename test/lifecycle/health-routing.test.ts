import { afterEach, describe, expect, it } from '@jest/globals';
import {
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  FunctionRegistry,
  WorkerCoordinator,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;
const times = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

/** An entry as a caller would write it, from a caller that does not wait for the answer. */
const submit = (callId: string): Promise<string | null> =>
  fleet.redis.xadd(calls(), '*', ...['c', `1 60000  nobody ${callId}\t{"p":{},"i":null}`]);

/** Two workers that answer with their names, and a caller. */
async function withTwoWorkers() {
  const [one, two] = await Promise.all(
    ['one', 'two'].map((workerId) =>
      fleet.start({ providers: [hosting('work', () => workerId)], options: { workerId } }),
    ),
  );
  const caller = await fleet.start({ options: { worker: false } });
  return { one: one!, two: two!, registry: caller.get(EnhancedFunctionRegistry) };
}

describe('a worker that says it is unhealthy', () => {
  it('gets none of the calls made right after, the other worker gets them all', async () => {
    const { one, registry } = await withTwoWorkers();
    await registry.waitForFunction('work', 'default', 10_000);
    await one.get(FunctionLifecycleNotifier).notifyUnhealthy('timeout');
    const answers = await Promise.all(times(50).map(() => registry.call('work')));
    expect(new Set(answers)).toEqual(new Set(['two']));
  });

  it('counts as unhealthy in the status of every process', async () => {
    const { one, registry } = await withTwoWorkers();
    const status = () => registry.getInstantWorkerStatus('work', 'default');
    expect(await status()).toMatchObject({ available: true, workers: 2, healthyWorkers: 2 });
    const notifier = one.get(FunctionLifecycleNotifier);
    await notifier.notifyUnhealthy('timeout');
    await eventually('it shows', async () => (await status()).healthyWorkers === 1);
    expect(await registry.isWorkerHealthy('one', 'work', 'default')).toBe(false);
    await notifier.notifyHealthy();
    await eventually('it shows', async () => (await status()).healthyWorkers === 2);
  });

  it('takes nothing, the only one that it is, until it is healthy again', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const notifier = app.get(FunctionLifecycleNotifier);
    await notifier.notifyUnhealthy('timeout');
    await submit('hand-written');
    const registry = app.get(EnhancedFunctionRegistry);
    const refused = await registry
      .call('work', {}, { ifUnavailable: 'fail' })
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'NO_WORKER' });
    const waiting = registry.call('work');
    await fleet.redis.ping();
    expect(stage.runs).toHaveLength(0);
    expect(await fleet.redis.xlen(calls())).toBe(1);
    await notifier.notifyHealthy();
    (await stage.started(1)).outcome.resolve(1);
    (await stage.started(2)).outcome.resolve(2);
    await expect(waiting).resolves.toBe(2);
    expect(stage.runs[0]?.callId).toBe('hand-written');
  });

  it('lets its running call finish', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')] });
    const call = app.get(EnhancedFunctionRegistry).call('work');
    const { outcome, context } = await stage.started();
    await app.get(FunctionLifecycleNotifier).notifyUnhealthy('timeout');
    expect(context.signal.aborted).toBe(false);
    outcome.resolve('finished');
    await expect(call).resolves.toBe('finished');
  });

  it('does not stop the other functions of its process', async () => {
    const app = await fleet.start({
      providers: [hosting('work', () => 'work'), hosting('other', () => 'other')],
    });
    await app.get(FunctionLifecycleNotifier).forFunction('work').notifyUnhealthy('timeout');
    await expect(app.get(EnhancedFunctionRegistry).call('other')).resolves.toBe('other');
  });

  it('says so again, and takes nothing meanwhile, after its lease was lost', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options: { leaseMs: 300 } });
    const registry = app.get(EnhancedFunctionRegistry);
    const coordinator = app.get(WorkerCoordinator);
    await app.get(FunctionLifecycleNotifier).notifyUnhealthy('timeout');
    await submit('waiting');
    const registered = new Promise((resolve) => coordinator.on('registered', resolve));
    await condemnAll(fleet);
    await registered;
    expect(await registry.getAvailableWorkers('work', 'default')).toEqual([]);
    expect(await fleet.redis.xlen(calls())).toBe(1);
    expect(stage.runs).toHaveLength(0);
    await app.get(FunctionLifecycleNotifier).notifyHealthy();
    (await stage.started()).outcome.resolve(1);
  });
});

describe('a worker that another process marks as unhealthy', () => {
  it('gets none of the calls made right after its own process heard of it', async () => {
    const { one, registry } = await withTwoWorkers();
    await registry.waitForFunction('work', 'default', 10_000);
    await registry.markWorkerUnhealthy('one', 'work', 'default', 'timeout');
    await eventually('its process heard of it', () =>
      expect(one.get(WorkerCoordinator).workers()).toMatchObject([
        { workerId: 'one', status: 'unhealthy', reason: 'timeout' },
      ]),
    );
    const answers = await Promise.all(times(50).map(() => registry.call('work')));
    expect(new Set(answers)).toEqual(new Set(['two']));
  });

  it('takes nothing, the only one that it is, until somebody marks it as healthy', async () => {
    const stage = new Stage();
    const app = await fleet.start({ providers: [stage.as('work')], options: { workerId: 'w-1' } });
    const other = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
    await other.markWorkerUnhealthy('w-1', 'work', 'default');
    await eventually('its process heard of it', () =>
      expect(app.get(WorkerCoordinator).workers()[0]?.status).toBe('unhealthy'),
    );
    await submit('waiting');
    expect(await fleet.redis.xlen(calls())).toBe(1);
    expect(stage.runs).toHaveLength(0);
    await other.updateWorkerHealth('w-1', 'work', 'default', true);
    (await stage.started()).outcome.resolve(1);
  });

  it('cannot be brought back by health while it drains', async () => {
    const app = await fleet.start({
      providers: [hosting('work', () => 1)],
      options: { workerId: 'w-1' },
    });
    await app.get(FunctionLifecycleNotifier).notifyShuttingDown(100);
    const other = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
    await other.updateWorkerHealth('w-1', 'work', 'default', true);
    await expect(other.isWorkerHealthy('w-1', 'work', 'default')).resolves.toBe(false);
    expect(app.get(WorkerCoordinator).workers()[0]?.status).toBe('draining');
  });
});
