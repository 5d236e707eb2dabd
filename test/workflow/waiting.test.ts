import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  NotificationManager,
  WorkflowNotReadyError,
} from '../../src/index.js';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { connections } from './hearing.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const fn = (name: string): unknown => hosting({ name, workflowId: 'flow' }, () => name);
const registryOf = (app: INestApplicationContext): EnhancedFunctionRegistry =>
  app.get(EnhancedFunctionRegistry);
const failed = (wait: Promise<unknown>): Promise<unknown> =>
  wait.then(
    () => 'ready',
    (error: unknown) => error,
  );

describe.each(connections(redisUrl()))('waiting for a workflow, on $title', ({ connection }) => {
  const host = (names: string[], workerId = 'w'): Promise<INestApplicationContext> =>
    fleet.start({ options: { connection, workerId }, providers: names.map(fn) });
  const caller = async (): Promise<EnhancedFunctionRegistry> =>
    registryOf(await fleet.start({ options: { connection, worker: false } }));

  it('resolves at once when all of its functions are ready', async () => {
    await host(['a', 'b']);
    const { workflowId, workers } = await (await caller()).waitForWorkflow('flow');
    expect(workflowId).toBe('flow');
    expect(workers.map(({ functionName, workerId }) => [functionName, workerId])).toEqual([
      ['a', 'w'],
      ['b', 'w'],
    ]);
  });

  it('resolves the moment the last of them is, those that were unknown before included', async () => {
    const registry = await caller();
    const known = registry.waitForWorkflow('flow', { functions: ['a', 'b'] });
    const unknown = registry.waitForWorkflow('flow');
    await host(['a'], 'w1');
    // The first one is all there is of the workflow.
    expect((await unknown).workers.map(({ functionName }) => functionName)).toEqual(['a']);
    let isReady = false;
    void known.then(() => (isReady = true));
    await registry.waitForFunction('a', 'flow');
    expect(isReady).toBe(false);
    await host(['b'], 'w2');
    expect((await known).workers.map(({ workerId }) => workerId)).toEqual(['w1', 'w2']);
  });

  it('that is cancelled ends at once, with its reason', async () => {
    const options = { connection, worker: false, pollIntervalMs: 60_000 };
    const app = await fleet.start({ options });
    const registry = registryOf(app);
    const { workers } = app.get<Backend>(BACKEND);
    const reads = jest.spyOn(workers, 'functions');
    const isWaiting: [functions: string[] | undefined, waits: () => Promise<boolean>][] = [
      [undefined, () => Promise.resolve(reads.mock.calls.length === 2)],
      [
        ['a'],
        () => registry.getInstantWorkerStatus('a', 'flow').then((one) => one.isWaitingForWorker),
      ],
    ];
    for (const [functions, waits] of isWaiting) {
      const abort = new AbortController();
      const wait = { functions, signal: abort.signal, timeoutMs: 60_000 };
      const waiting = failed(registry.waitForWorkflow('flow', wait));
      await eventually('it waits', waits);
      // Behind the answer to its last read.
      await workers.functions('elsewhere');
      abort.abort(new Error('enough'));
      const cancelled = { code: 'CALL_CANCELLED', cause: { message: 'enough' } };
      expect(await waiting).toMatchObject(cancelled);
      expect(await failed(registry.waitForWorkflow('flow', wait))).toMatchObject(cancelled);
    }
  });

  it('says which functions are not ready, and why', async () => {
    const worker = await host(['a', 'b', 'c']);
    await fleet.stop(await host(['gone'], 'other'));
    await registryOf(worker).notifyWorkerHealth('b', 'flow', 'w', false, 'no disk');
    const registry = await caller();
    const error = await failed(registry.waitForWorkflow('flow', { timeoutMs: 100 }));
    expect(error).toBeInstanceOf(WorkflowNotReadyError);
    expect(error).toMatchObject({
      code: 'WORKFLOW_NOT_READY',
      retryable: true,
      functions: [
        { functionName: 'b', situation: 'w is unhealthy (no disk)' },
        { functionName: 'gone', situation: 'it is registered, and no worker is there now' },
      ],
    });
    const unknown = await failed(registry.waitForWorkflow('nowhere', { timeoutMs: 100 }));
    expect(unknown).toMatchObject({ code: 'WORKFLOW_NOT_READY', functions: [] });
    expect((unknown as Error).message).toContain('No function of it was ever registered');
  });
});

describe('a wait for a workflow', () => {
  const start = async (): Promise<INestApplicationContext> =>
    fleet.start({ options: { worker: false, pollIntervalMs: 60_000 } });

  it.each(['before', 'after'])(
    'misses no function that is registered %s the definitions are read, although nothing polls',
    async (order) => {
      const app = await start();
      const { workers } = app.get<Backend>(BACKEND);
      const read = workers.functions.bind(workers);
      let reads = 0;
      jest.spyOn(workers, 'functions').mockImplementation(async (id) => {
        reads += 1;
        // The read behind the subscription: nothing but that can tell of a name that nobody knows.
        if (reads !== 2) return read(id);
        if (order === 'before') await fleet.start({ providers: [fn('a')] });
        const found = await read(id);
        if (order === 'after') {
          await fleet.start({ providers: [fn('a')] });
          // The news of it have come before the answer to the read.
          await eventually('it was told', () => app.get(NotificationManager).stats().received > 0);
        }
        return found;
      });
      const { workers: ready } = await registryOf(app).waitForWorkflow('flow');
      expect(ready.map(({ functionName }) => functionName)).toEqual(['a']);
    },
  );

  it('goes on when a function is lost again before the last one is ready', async () => {
    const registry = registryOf(await start());
    const first = await fleet.start({ options: { workerId: 'w1' }, providers: [fn('a')] });
    const waiting = registry.waitForWorkflow('flow', { functions: ['a', 'b'] });
    let isReady = false;
    void waiting.then(() => (isReady = true));
    await registry.waitForFunction('a', 'flow');
    await fleet.stop(first);
    await fleet.start({ options: { workerId: 'w2' }, providers: [fn('b')] });
    await registry.waitForFunction('b', 'flow');
    expect((await registry.getInstantWorkerStatus('a', 'flow')).available).toBe(false);
    expect(isReady).toBe(false);
    await fleet.start({ options: { workerId: 'w3' }, providers: [fn('a')] });
    expect((await waiting).workers.map(({ workerId }) => workerId)).toEqual(['w3', 'w2']);
  });

  it('waits for a function that was defined while it waited', async () => {
    const app = await start();
    const registry = registryOf(app);
    await registry.registerFunction({ name: 'a', workflowId: 'flow' });
    const waiting = registry.waitForWorkflow('flow');
    await eventually('it waits', () =>
      registry.getInstantWorkerStatus('a', 'flow').then((one) => one.isWaitingForWorker),
    );
    await registry.registerFunction({ name: 'b', workflowId: 'flow' });
    await fleet.start({ options: { workerId: 'w1' }, providers: [fn('a')] });
    await eventually('it waits for the other', () =>
      registry.getInstantWorkerStatus('b', 'flow').then((one) => one.isWaitingForWorker),
    );
    await fleet.start({ options: { workerId: 'w2' }, providers: [fn('b')] });
    expect((await waiting).workers).toHaveLength(2);
  });

  it('polls without pub/sub, and waits through an outage of Redis', async () => {
    const proxy = await TcpProxy.start(redisUrl());
    const app = await fleet.start({
      options: { connection: proxy.url, worker: false, pollIntervalMs: 20 },
    });
    proxy.refuse();
    await eventually('it is away', () => app.get(NotificationManager).state !== 'connected');
    const unreadable = await failed(
      registryOf(app).waitForWorkflow('flow', { timeoutMs: 100, functions: ['a'] }),
    );
    expect(unreadable).toMatchObject({
      code: 'WORKFLOW_NOT_READY',
      cause: { code: 'BACKEND_UNAVAILABLE' },
    });
    const waiting = registryOf(app).waitForWorkflow('flow', { timeoutMs: 20_000 });
    await fleet.start({ providers: [fn('a')] });
    proxy.accept();
    expect((await waiting).workers).toHaveLength(1);
    await fleet.stop(app);
    await proxy.close();
  });

  it('releases what it held', async () => {
    const app = await start();
    await failed(registryOf(app).waitForWorkflow('flow', { timeoutMs: 20 }));
    await eventually(
      'its pattern is gone',
      () => app.get(NotificationManager).stats().patterns === 0,
    );
  });

  it.each([
    ['INVALID_NAME', '', {}],
    ['INVALID_NAME', 'flow', { functions: [''] }],
    ['INVALID_ARGUMENT', 'flow', { functions: [] }],
    ['INVALID_ARGUMENT', 'flow', { functions: 'a' }],
    ['INVALID_ARGUMENT', 'flow', { timeoutMs: -1 }],
    ['INVALID_ARGUMENT', 'flow', { timeout: 1 }],
    ['INVALID_ARGUMENT', 'flow', { signal: {} }],
    ['INVALID_ARGUMENT', 'flow', 7],
  ])('is refused with %s for (%j, %j)', async (code, workflowId, options) => {
    const registry = registryOf(await start());
    await expect(registry.waitForWorkflow(workflowId, options as never)).rejects.toMatchObject({
      code,
    });
  });
});
