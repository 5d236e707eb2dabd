import { afterEach, describe, expect, it } from '@jest/globals';
import { EnhancedFunctionRegistry, FunctionLifecycleNotifier } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';

describe('a worker that leaves and comes back', () => {
  const fleet = new Fleet();
  afterEach(() => fleet.close());

  it('begins each life with a higher epoch, in one session of one process too', async () => {
    const worker = (await fleet.start()).get(EnhancedFunctionRegistry);
    const epochs: number[] = [];
    for (let life = 0; life < 5; life += 1) {
      const { epoch } = await worker.registerWorkerWithInstantNotification('w', 'f', 'default');
      epochs.push(epoch);
      await worker.unregisterWorkerWithNotification('w', 'f', 'default');
    }
    expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => a - b));
  });

  it('is ready again for a caller that heard it leave', async () => {
    const caller = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    const worker = (await fleet.start()).get(EnhancedFunctionRegistry);
    await caller.getInstantWorkerStatus('f', 'default');
    for (let life = 0; life < 5; life += 1) {
      await worker.registerWorkerWithInstantNotification('w', 'f', 'default');
      await expect(caller.waitForFunction('f', 'default', 2_000)).resolves.toMatchObject({
        workerId: 'w',
      });
      await worker.unregisterWorkerWithNotification('w', 'f', 'default');
    }
  });

  it('is ready again under another process that joined before the one it left', async () => {
    const caller = (await fleet.start({ options: { worker: false } })).get(
      EnhancedFunctionRegistry,
    );
    const older = (await fleet.start()).get(EnhancedFunctionRegistry);
    const newer = (await fleet.start()).get(EnhancedFunctionRegistry);
    await caller.getInstantWorkerStatus('f', 'default');
    await newer.registerWorkerWithInstantNotification('w', 'f', 'default');
    await caller.waitForFunction('f', 'default', 2_000);
    await newer.unregisterWorkerWithNotification('w', 'f', 'default');
    await older.registerWorkerWithInstantNotification('w', 'f', 'default');
    await expect(caller.waitForFunction('f', 'default', 2_000)).resolves.toMatchObject({
      workerId: 'w',
    });
  });
});

describe('a worker that is leaving', () => {
  const fleet = new Fleet();
  afterEach(() => fleet.close());

  it('stays so for everybody when its health changes', async () => {
    const app = await fleet.start();
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.getInstantWorkerStatus('f', 'default');
    await registry.registerWorkerWithInstantNotification('w', 'f', 'default');
    const notifier = app.get(FunctionLifecycleNotifier).forFunction('f', 'default', 'w');
    await notifier.notifyShuttingDown(2_000);
    await notifier.notifyHealthy();
    await notifier.notifyUnhealthy('timeout');
    await expect(registry.waitForFunction('f', 'default', 100)).rejects.toMatchObject({
      details: { situation: 'w is draining' },
    });
  });
});
