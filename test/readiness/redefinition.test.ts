import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { EnhancedFunctionRegistry, type ParameterDefinition } from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend, type HeldCall } from '../harness/gated-backend.js';
import { hosting } from '../harness/host.js';

/** Polling may not help: what is shown here, notifications and the reads that they cause do alone. */
const NO_POLLING = { pollIntervalMs: 60_000 };

let fleet: Fleet;
let gates: GatedBackend;
let caller: INestApplicationContext;
let registry: EnhancedFunctionRegistry;

beforeEach(async () => {
  fleet = new Fleet();
  gates = new GatedBackend();
  caller = await gates.start(redisUrl(), {
    keyPrefix: fleet.prefix,
    worker: false,
    ...NO_POLLING,
  });
  registry = caller.get(EnhancedFunctionRegistry);
  await startWorker('old');
  await registry.call('work', { old: 1 });
});
afterEach(async () => {
  await caller.close();
  await fleet.close();
});

/** A worker whose function takes one parameter, of this name. */
async function startWorker(parameter: string): Promise<void> {
  const parameters: ParameterDefinition[] = [{ name: parameter, type: 'number' }];
  await fleet.start({ providers: [hosting({ name: 'work', parameters }, () => 'done')] });
}

/** One turn of the event loop: what was asked for before has been asked. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The caller has heard of a worker with another definition, and its read stands still. */
async function hearOf(parameter: string, stage: 'before' | 'after'): Promise<HeldCall> {
  const held = gates.hold('workers.snapshot', stage);
  await startWorker(parameter);
  await held.reached;
  return held;
}

describe('a call, when a worker came with another definition,', () => {
  it.each(['before', 'after'] as const)(
    'is checked against that definition, %s Redis has answered what it is',
    async (stage) => {
      const held = await hearOf('new', stage);
      const outcome = registry.call('work', { new: 1 });
      held.release();
      await expect(outcome).resolves.toBe('done');
      await expect(registry.call('work', { old: 1 })).rejects.toMatchObject({
        code: 'INVALID_PARAMETERS',
      });
    },
  );

  it('is checked against the newest of two that were heard during one read', async () => {
    const held = await hearOf('new', 'after');
    const news = gates.holdNews();
    await startWorker('newest');
    await eventually('the news are on their way', () => gates.heldNews > 0);
    news();
    const outcome = registry.call('work', { newest: 1 });
    held.release();
    await expect(outcome).resolves.toBe('done');
  });

  it('needs no read that began after the one that brought the definition', async () => {
    const held = await hearOf('new', 'after');
    const first = registry.call('work', { new: 1 });
    await turn();
    const next = gates.hold('workers.snapshot', 'after');
    held.release();
    await next.reached;
    // The read that the first call asked for stands still, and the definition is known.
    await expect(registry.call('work', { new: 1 })).resolves.toBe('done');
    next.release();
    await expect(first).resolves.toBe('done');
  });

  it('waits for the first read that begins after it, not for those that others ask for later', async () => {
    const held = await hearOf('new', 'after');
    const outcome = registry.call('work', { new: 1 });
    await turn();
    const second = gates.hold('workers.snapshot', 'after');
    held.release();
    await second.reached;
    const news = gates.holdNews();
    await startWorker('newest');
    await eventually('the news are on their way', () => gates.heldNews > 0);
    news();
    const third = gates.hold('workers.snapshot', 'after');
    second.release();
    await third.reached;
    await expect(outcome).resolves.toBe('done');
    third.release();
  });

  it('goes on when its worker comes, before it is read what the function is defined as', async () => {
    const order: string[] = [];
    const waiting = registry.waitForFunction('later', 'default').then(() => order.push('released'));
    await registry.getInstantWorkerStatus('later', 'default');
    const held = gates.hold('workers.snapshot', 'before');
    const reading = held.reached.then(() => order.push('read'));
    const parameters: ParameterDefinition[] = [{ name: 'new', type: 'number' }];
    await fleet.start({ providers: [hosting({ name: 'later', parameters }, () => 'done')] });
    await Promise.all([waiting, reading]);
    expect(order).toEqual(['released', 'read']);
    held.release();
    await expect(registry.call('later', { new: 1 })).resolves.toBe('done');
  });

  it('waits no longer than readinessTimeoutMs for what it is defined as', async () => {
    const held = await hearOf('new', 'before');
    await expect(
      registry.call('work', { new: 1 }, { readinessTimeoutMs: 50 }),
    ).rejects.toMatchObject({ code: 'READINESS_TIMEOUT' });
    held.release();
    await expect(registry.call('work', { new: 1 })).resolves.toBe('done');
  });

  it('is cancelled by its signal while it waits for what it is defined as', async () => {
    const held = await hearOf('new', 'before');
    const cancel = new AbortController();
    const outcome = registry.call('work', { new: 1 }, { signal: cancel.signal });
    outcome.catch(() => undefined);
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await expect(
      registry.call('work', { new: 1 }, { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    expect(getEventListeners(cancel.signal, 'abort')).toEqual([]);
    held.release();
  });
});
