import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { BacklogFullError, EnhancedFunctionRegistry } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { hosting, Stage } from '../harness/host.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

describe('a function with maxBacklog', () => {
  async function full(): Promise<{ registry: EnhancedFunctionRegistry; stage: Stage }> {
    const stage = new Stage();
    const worker = stage.as({ name: 'work', concurrency: 1 });
    await fleet.start({ providers: [worker] });
    const caller = await fleet.start({ options: { worker: false, maxBacklog: 5 } });
    const registry = caller.get(EnhancedFunctionRegistry);
    return { registry, stage };
  }

  it('takes that many calls, waiting and running, and refuses the next with its own error', async () => {
    const { registry, stage } = await full();
    const calls = times(5, () => registry.call('work'));
    await stage.started();
    const refused = await registry.call('work').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(BacklogFullError);
    expect(refused).toMatchObject({
      code: 'BACKLOG_FULL',
      retryable: true,
      details: { functionName: 'work', workflowId: 'default', backlog: 5, maxBacklog: 5 },
    });
    for (let run = 1; run <= 5; run += 1) (await stage.started(run)).outcome.resolve(run);
    await expect(Promise.all(calls)).resolves.toEqual([1, 2, 3, 4, 5]);
  });

  it('counts the calls of one tick one by one', async () => {
    const { registry, stage } = await full();
    await registry.waitForFunction('work', 'default', 10_000);
    const results = Promise.allSettled(times(8, () => registry.call('work')));
    for (let run = 1; run <= 5; run += 1) (await stage.started(run)).outcome.resolve(run);
    const settled = await results;
    expect(settled.filter(({ status }) => status === 'rejected')).toHaveLength(3);
    expect(stage.runs).toHaveLength(5);
  });

  it('takes calls again as soon as one is settled', async () => {
    const { registry, stage } = await full();
    const calls = times(5, () => registry.call('work'));
    (await stage.started()).outcome.resolve('first');
    await expect(calls[0]).resolves.toBe('first');
    const next = registry.call('work');
    for (let run = 2; run <= 6; run += 1) (await stage.started(run)).outcome.resolve(run);
    await expect(next).resolves.toBe(6);
    await Promise.all(calls);
  });

  it('does not keep other functions from being called', async () => {
    const { registry, stage } = await full();
    await fleet.start({ providers: [hosting('other', () => 'other')] });
    const calls = times(5, () => registry.call('work'));
    await stage.started();
    await expect(registry.call('other')).resolves.toBe('other');
    for (let run = 1; run <= 5; run += 1) (await stage.started(run)).outcome.resolve(run);
    await Promise.all(calls);
  });

  it('says it in the outcome of callFunctionWithInstantReadiness, too', async () => {
    const { registry, stage } = await full();
    const calls = times(5, () => registry.call('work'));
    await stage.started();
    await expect(
      registry.callFunctionWithInstantReadiness('work', 'default', {}),
    ).resolves.toMatchObject({ success: false, error: { code: 'BACKLOG_FULL', retryable: true } });
    for (let run = 1; run <= 5; run += 1) (await stage.started(run)).outcome.resolve(run);
    await Promise.all(calls);
  });
});
