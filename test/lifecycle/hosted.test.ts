import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { EnhancedFunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { Stage } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';

// A process is started in it, on machines that do other things too.
jest.setTimeout(60_000);

let fleet: Fleet;
beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

describe('what a session hosts', () => {
  it('stays as short as its functions, however many workers come and go', async () => {
    const app = await fleet.start({ options: { workerId: 'own' } });
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.registerWorker('stays', 'f-0', 'default');
    for (let n = 0; n < 40; n += 1) {
      await registry.registerWorker(`w-${n}`, `f-${n % 2}`, 'default');
      await registry.unregisterWorker(`w-${n}`, `f-${n % 2}`, 'default');
    }
    const key = (await fleet.keys()).find((name) => name.endsWith(':hosted')) ?? '';
    const members = (await fleet.redis.smembers(key)).map((text) => JSON.parse(text) as unknown);
    expect(members).toHaveLength(3);
    expect(members).toEqual(
      expect.arrayContaining([
        ['f-0:default', 'stays'],
        ['f-0:default', ''],
        ['f-1:default', ''],
      ]),
    );
  });

  it('includes calls of a worker that was unregistered: they run elsewhere when its process dies', async () => {
    const stage = new Stage();
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    await eventually('the caller supervises', () => caller.get(WorkerCoordinator).isSupervisor);
    const process = TestProcess.start('worker.ts', {
      REDIS_URL: redisUrl(),
      KEY_PREFIX: fleet.prefix,
      WORKER_ID: 'w',
    });
    try {
      await process.message('ready', 30_000);
      const outcome = registry.call('held');
      await process.message('started');
      // By another process: the worker's own one goes on, and has a call that no record tells of.
      await registry.unregisterWorker('w', 'held', 'default');
      await fleet.start({ providers: [stage.as('held')] });
      process.kill('SIGKILL');
      const again = await stage.started();
      expect(again.context.attempt).toBe(2);
      again.outcome.resolve('again');
      await expect(outcome).resolves.toBe('again');
    } finally {
      await process.destroy();
    }
  });
});
