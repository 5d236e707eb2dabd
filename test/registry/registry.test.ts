import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionContext,
  FunctionHandler,
  FunctionReadinessWatcher,
  FunctionRegistry,
  NotificationManager,
  WorkerCoordinator,
  type OfflineNotification,
} from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

@Injectable()
class Calculator {
  @FunctionHandler({
    name: 'double',
    parameters: [{ name: 'n', type: 'number', required: true }],
  })
  double(input: { n: number }): number {
    return input.n * 2;
  }

  @FunctionHandler({ name: 'echo' })
  echo(input: object, context: FunctionContext): object {
    return { input, item: context.item };
  }
}

const FAST = { pollIntervalMs: 20 };

/** Both registries, each in a process of its own beside the worker. */
async function callers(): Promise<[string, FunctionRegistry][]> {
  const plain = await fleet.start({ options: { worker: false, ...FAST } });
  const enhanced = await fleet.start({ options: { worker: false, ...FAST } });
  return [
    ['FunctionRegistry', plain.get(FunctionRegistry)],
    ['EnhancedFunctionRegistry', enhanced.get(EnhancedFunctionRegistry)],
  ];
}

describe('both registries on the same data', () => {
  it('list what workers and applications registered, sorted, each with its availability', async () => {
    await fleet.start({ providers: [Calculator] });
    const [[, plain], [, enhanced]] = (await callers()) as [
      [string, FunctionRegistry],
      [string, FunctionRegistry],
    ];
    await plain.registerFunction({ name: 'zip', workflowId: 'default', description: 'Zips' });
    await enhanced.registerFunction({ name: 'abs', workflowId: 'default', parameters: [] });
    await plain.registerFunction({ name: 'elsewhere', workflowId: 'other' });
    for (const registry of [plain, enhanced]) {
      const found = await registry.getAvailableFunctions();
      expect(found.map(({ name, available }) => [name, available])).toEqual([
        ['abs', false],
        ['double', true],
        ['echo', true],
        ['zip', false],
      ]);
      expect(found[3]).toMatchObject({ description: 'Zips', workers: 0, healthyWorkers: 0 });
      await expect(registry.getAvailableFunctions('other')).resolves.toHaveLength(1);
      await expect(registry.getAvailableFunctions('empty')).resolves.toEqual([]);
      await expect(registry.getFunctionParameters('abs', 'default')).resolves.toEqual([]);
    }
  });

  it('forget a definition, while its workers go on', async () => {
    await fleet.start({ providers: [Calculator] });
    for (const [, registry] of await callers()) {
      await registry.registerFunction({ name: 'temporary', workflowId: 'default' });
      await expect(registry.unregisterFunction('temporary', 'default')).resolves.toBe(true);
      await expect(registry.unregisterFunction('temporary', 'default')).resolves.toBe(false);
    }
    const [[, plain]] = (await callers()) as [[string, FunctionRegistry]];
    await expect(plain.unregisterFunction('double', 'default')).resolves.toBe(true);
    await expect(plain.callFunction('double', 'default', { n: 4 })).resolves.toMatchObject({
      success: true,
      data: 8,
    });
  });

  it('refuse a definition that is none, with what is allowed', async () => {
    const [[, plain]] = (await callers()) as [[string, FunctionRegistry]];
    const bad: [unknown, string][] = [
      [undefined, 'INVALID_ARGUMENT'],
      ['double', 'INVALID_ARGUMENT'],
      [{ name: '', workflowId: 'default' }, 'INVALID_NAME'],
      [{ name: 'x' }, 'INVALID_NAME'],
      [{ name: 'x', workflowId: 'default', parameters: 'n' }, 'INVALID_ARGUMENT'],
      [{ name: 'x', workflowId: 'default', parameters: [{ name: 'p' }] }, 'INVALID_ARGUMENT'],
    ];
    for (const [definition, code] of bad)
      await expect(plain.registerFunction(definition as never)).rejects.toMatchObject({ code });
    await expect(plain.getAvailableFunctions()).resolves.toEqual([]);
  });

  it('call, and say who ran it', async () => {
    await fleet.start({ providers: [Calculator], options: { workerId: 'calc-1' } });
    for (const [, registry] of await callers()) {
      const outcome = await registry.callFunction('echo', 'default', { a: 1 }, { from: 'item' });
      expect(outcome).toEqual({
        success: true,
        data: { input: { a: 1 }, item: { from: 'item' } },
        callId: expect.stringMatching(/^[\w-]{22}\.\d+$/),
        workerId: 'calc-1',
      });
    }
  });

  it('wait for a worker that is not there yet', async () => {
    const waiting = (await callers()).map(([, registry]) =>
      registry.callFunction('double', 'default', { n: 21 }),
    );
    await fleet.start({ providers: [Calculator] });
    const outcomes = await Promise.all(waiting);
    expect(outcomes.map(({ data }) => data)).toEqual([42, 42]);
  });

  it('give up the wait for a worker after its time, with the cure', async () => {
    for (const [, registry] of await callers()) {
      const outcome = await registry.callFunction('nobody', 'default', {}, {}, 40);
      expect(outcome).toMatchObject({
        success: false,
        error: {
          code: 'READINESS_TIMEOUT',
          retryable: true,
          message: expect.stringMatching(/within 40 ms.*exact function name/),
        },
      });
      expect(outcome.callId).toMatch(/^[\w-]{22}\.\d+$/);
    }
  });

  it("bring a handler's failure as it is", async () => {
    class Failing {
      @FunctionHandler({ name: 'fail' })
      fail(): never {
        throw Object.assign(new Error('no paper'), { code: 'PAPER', details: { tray: 2 } });
      }
    }
    await fleet.start({ providers: [Failing], options: { workerId: 'printer' } });
    for (const [, registry] of await callers()) {
      await expect(registry.callFunction('fail', 'default')).resolves.toMatchObject({
        success: false,
        error: { code: 'PAPER', message: 'no paper', details: { tray: 2 } },
        workerId: 'printer',
      });
    }
  });
});

describe('workers that an application registers itself', () => {
  it('are told from others by their workerId, and leave one by one', async () => {
    const app = await fleet.start({ providers: [Calculator], options: { workerId: 'own' } });
    const registry = app.get(FunctionRegistry);
    const record = await registry.registerWorker('second', 'double', 'default');
    expect(record).toMatchObject({ workerId: 'second', status: 'ready' });
    const ids = async (): Promise<string[]> =>
      (await registry.getAvailableWorkers('double', 'default'))
        .map(({ workerId }) => workerId)
        .sort();
    await expect(ids()).resolves.toEqual(['own', 'second']);
    await expect(registry.unregisterWorker('second', 'double', 'default')).resolves.toBe(true);
    await expect(registry.unregisterWorker('second', 'double', 'default')).resolves.toBe(false);
    await expect(ids()).resolves.toEqual(['own']);
  });

  it('can be unhealthy and healthy again, in the registry and for calls at once', async () => {
    const app = await fleet.start({ providers: [Calculator], options: { workerId: 'own' } });
    const registry = app.get(FunctionRegistry);
    const caller = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    await expect(registry.isWorkerHealthy('own', 'double', 'default')).resolves.toBe(true);
    await registry.markWorkerUnhealthy('own', 'double', 'default', 'timeout');
    await expect(registry.isWorkerHealthy('own', 'double', 'default')).resolves.toBe(false);
    await expect(registry.getAvailableWorkers('double', 'default')).resolves.toEqual([]);
    await expect(caller.getInstantWorkerStatus('double', 'default')).resolves.toEqual({
      available: false,
      workers: 1,
      healthyWorkers: 0,
      isWaitingForWorker: false,
    });
    const call = caller.call('double', { n: 3 });
    await eventually('the call waits', async () => {
      const status = await caller.getInstantWorkerStatus('double', 'default');
      return status.isWaitingForWorker;
    });
    await registry.updateWorkerHealth('own', 'double', 'default', true);
    await expect(call).resolves.toBe(6);
    await expect(registry.isWorkerHealthy('own', 'double', 'default')).resolves.toBe(true);
  });

  it('can be judged from another process', async () => {
    await fleet.start({ providers: [Calculator], options: { workerId: 'own' } });
    const caller = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    await caller.notifyWorkerHealth('double', 'default', 'own', false, 'answers nonsense');
    await expect(caller.isWorkerHealthy('own', 'double', 'default')).resolves.toBe(false);
    await expect(caller.call('double', { n: 1 }, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
      message: expect.stringContaining('own is unhealthy (answers nonsense)'),
    });
    await caller.notifyWorkerHealth('double', 'default', 'own', true);
    await expect(caller.call('double', { n: 1 })).resolves.toBe(2);
  });

  it('are refused when they are not registered', async () => {
    const app = await fleet.start({ providers: [Calculator] });
    const registry = app.get(EnhancedFunctionRegistry);
    const missing = { code: 'WORKER_NOT_REGISTERED' };
    await expect(registry.isWorkerHealthy('x', 'double', 'default')).rejects.toMatchObject(missing);
    await expect(registry.markWorkerUnhealthy('x', 'double', 'default')).rejects.toMatchObject(
      missing,
    );
    await expect(registry.notifyWorkerHealth('double', 'default', 'x', true)).rejects.toMatchObject(
      missing,
    );
    await expect(registry.coordinateShutdown('double', 'default', 'x')).rejects.toMatchObject(
      missing,
    );
    await expect(registry.registerWorker('', 'double', 'default')).rejects.toMatchObject({
      code: 'INVALID_NAME',
    });
  });

  it('release a waiter in another application when they register with notification', async () => {
    const app = await fleet.start();
    const caller = await fleet.start({ options: { worker: false } });
    const waiting = caller
      .get(EnhancedFunctionRegistry)
      .waitForFunction('manual', 'default', 15_000);
    const registry = app.get(EnhancedFunctionRegistry);
    const record = await registry.registerWorkerWithInstantNotification(
      'mine',
      'manual',
      'default',
    );
    await expect(waiting).resolves.toEqual({
      functionName: 'manual',
      workflowId: 'default',
      workerId: 'mine',
      epoch: record.epoch,
    });
  });

  it('tell offline with their reason when they unregister with notification', async () => {
    const app = await fleet.start();
    const listener = await fleet.start({ options: { worker: false } });
    const told = createDeferred<OfflineNotification>();
    await listener
      .get(NotificationManager)
      .subscribe<OfflineNotification>('function:offline:manual:default', ({ data }) =>
        told.resolve(data),
      );
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.registerWorkerWithInstantNotification('mine', 'manual', 'default');
    await registry.unregisterWorkerWithNotification('mine', 'manual', 'default');
    await expect(told.promise).resolves.toMatchObject({
      type: 'offline',
      workerId: 'mine',
      reason: 'unregistered',
    });
    await expect(
      registry.unregisterWorkerWithNotification('mine', 'manual', 'default'),
    ).resolves.toBe(false);
  });

  it('leave gracefully: their running call is finished first', async () => {
    let running: Deferred<void> | undefined;
    const started = createDeferred();

    class Slow {
      @FunctionHandler({ name: 'slow' })
      async slow(): Promise<string> {
        running = createDeferred();
        started.resolve();
        await running.promise;
        return 'finished';
      }
    }

    const app = await fleet.start({ providers: [Slow], options: { workerId: 'own' } });
    const caller = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    const call = caller.call('slow');
    await started.promise;
    const left = app.get(EnhancedFunctionRegistry).coordinateShutdown('slow', 'default', 'own');
    await eventually('callers know', async () => {
      const status = await caller.getInstantWorkerStatus('slow', 'default');
      return !status.available;
    });
    running?.resolve();
    await expect(left).resolves.toEqual({ finished: 1, handedBack: 0 });
    await expect(call).resolves.toBe('finished');
    await expect(caller.getAvailableWorkers('slow', 'default')).resolves.toEqual([]);
  });

  it('are removed when their process left without a word', async () => {
    await fleet.start({ providers: [Calculator] });
    const registry = (await fleet.start({ options: { worker: false } })).get(FunctionRegistry);
    const dead = {
      workerId: 'ghost',
      processId: 'gone.1',
      epoch: 1,
      seq: 1,
      status: 'ready',
      timestamp: 1,
      definition: '',
    };
    await fleet.redis.hset(
      `${fleet.prefix}nf:{double:default}:workers`,
      'ghost',
      JSON.stringify(dead),
    );
    await expect(registry.isWorkerHealthy('ghost', 'double', 'default')).resolves.toBe(false);
    const available = await registry.getAvailableWorkers('double', 'default');
    expect(available.map(({ workerId }) => workerId)).not.toContain('ghost');
    await expect(registry.cleanupStaleWorkers('double', 'default')).resolves.toBe(1);
    await expect(registry.cleanupStaleWorkers('double', 'default')).resolves.toBe(0);
    await expect(registry.isWorkerHealthy('ghost', 'double', 'default')).rejects.toMatchObject({
      code: 'WORKER_NOT_REGISTERED',
    });
    await expect(registry.callFunction('double', 'default', { n: 1 })).resolves.toMatchObject({
      data: 2,
    });
  });
});

describe('the call of the enhanced registry', () => {
  it('fails at once for an unknown function when it shall not wait', async () => {
    const registry = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    await expect(registry.call('unheard', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
      retryable: true,
      message: expect.stringContaining('no worker ever registered a function of this name'),
    });
  });

  it('times out for an unknown function when it shall wait, and says what is wrong', async () => {
    const registry = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    await expect(
      registry.call('unheard', {}, { ifUnavailable: 'wait', readinessTimeoutMs: 400 }),
    ).rejects.toMatchObject({
      code: 'READINESS_TIMEOUT',
      details: { situation: 'no worker ever registered a function of this name in this workflow' },
    });
  });

  it('is cancelled by its signal while it waits: a third kind of failure', async () => {
    const registry = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    const controller = new AbortController();
    const call = registry.call('unheard', {}, { signal: controller.signal });
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await expect(
      registry.call('unheard', {}, { signal: AbortSignal.abort(), ifUnavailable: 'fail' }),
    ).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
  });

  it('takes a contract, and the workflow of the contract, of the options, of the module', async () => {
    const where = (workflowId: string) => {
      class Where {
        @FunctionHandler({ name: 'where', workflowId })
        where(): string {
          return workflowId;
        }
      }
      return Where;
    };
    await fleet.start({ providers: [where('contract'), where('options'), where('module')] });
    const caller = await fleet.start({ options: { worker: false, workflowId: 'module' } });
    const registry = caller.get(EnhancedFunctionRegistry);
    const contract = defineFunction<object, string>({ name: 'where', workflowId: 'contract' });
    const open = defineFunction<object, string>({ name: 'where' });
    await expect(registry.call(contract, {})).resolves.toBe('contract');
    await expect(registry.call(contract, {}, { workflowId: 'options' })).resolves.toBe('options');
    await expect(registry.call(open, {})).resolves.toBe('module');
    await expect(registry.call('where')).resolves.toBe('module');
  });

  it('refuses a contract with a name that cannot be', () => {
    expect(() => defineFunction({ name: '' })).toThrow(
      expect.objectContaining({ code: 'INVALID_NAME' }),
    );
  });

  it('knows a watched function from memory', async () => {
    await fleet.start({ providers: [Calculator] });
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    const watcher = caller.get(FunctionReadinessWatcher);
    expect(watcher.isWatching('double', 'default')).toBe(false);
    await expect(registry.getInstantWorkerStatus('double', 'default')).resolves.toEqual({
      available: true,
      workers: 1,
      healthyWorkers: 1,
      isWaitingForWorker: false,
    });
    expect(watcher.isWatching('double', 'default')).toBe(true);
  });
});

describe('on a Redis whose user may not use pub/sub', () => {
  it('worker and caller work by polling, through both registries', async () => {
    const server = await startRedis();
    const admin = new Redis(server.url);
    await admin.acl('SETUSER', 'quiet', 'on', '>secret', '~*', '+@all', 'resetchannels');
    const { host } = new URL(server.url);
    const quiet = new Fleet(`redis://quiet:secret@${host}`);
    try {
      const worker = await quiet.start({ providers: [Calculator], options: FAST });
      expect(worker.get(WorkerCoordinator).state).toBe('active');
      const caller = await quiet.start({ options: { worker: false, ...FAST } });
      await expect(
        caller.get(FunctionRegistry).callFunction('double', 'default', { n: 4 }),
      ).resolves.toMatchObject({ success: true, data: 8 });
      const registry = caller.get(EnhancedFunctionRegistry);
      await expect(registry.call('double', { n: 5 })).resolves.toBe(10);
      expect(caller.get(FunctionReadinessWatcher).degraded).toBe(true);
      const later = registry.call('late');
      class Late {
        @FunctionHandler({ name: 'late' })
        late(): string {
          return 'found by polling';
        }
      }
      await quiet.start({ providers: [Late], options: FAST });
      await expect(later).resolves.toBe('found by polling');
      const plain = worker.get(FunctionRegistry);
      await plain.registerWorker('second', 'double', 'default');
      await expect(plain.getAvailableWorkers('double', 'default')).resolves.toHaveLength(2);
      await plain.markWorkerUnhealthy('second', 'double', 'default');
      await expect(plain.getAvailableWorkers('double', 'default')).resolves.toHaveLength(1);
      await expect(plain.unregisterWorker('second', 'double', 'default')).resolves.toBe(true);
    } finally {
      await quiet.close();
      admin.disconnect();
      await server.stop();
    }
  });
});
