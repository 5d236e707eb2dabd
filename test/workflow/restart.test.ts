import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionReadinessWatcher,
  NotificationManager,
  WorkerCoordinator,
  WorkflowNotifier,
  type FunctionsOptions,
  type RestartOptions,
  type RestartProgress,
  type WorkflowEvent,
  type WorkflowNotification,
} from '../../src/index.js';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CapturedLog } from '../harness/captured-log.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { connections, hearing } from './hearing.js';

jest.setTimeout(30_000);

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

interface Host {
  readonly app: INestApplicationContext;
  readonly reloads: WorkflowEvent[];
}

const NAMES = ['a', 'b'];

/** A worker of the workflow, and what its `restarting` handler was told. */
async function host(
  workerId: string,
  options: FunctionsOptions = {},
  reload: (event: WorkflowEvent) => unknown = () => undefined,
): Promise<Host> {
  const reloads: WorkflowEvent[] = [];
  const app = await fleet.start({
    options: { workerId, ...options },
    providers: [
      ...NAMES.map((name) => hosting({ name, workflowId: 'flow' }, () => workerId)),
      hearing('restarting', 'flow', (event) => {
        reloads.push(event);
        return reload(event);
      }),
    ],
  });
  return { app, reloads };
}

const registryOf = (app: INestApplicationContext): EnhancedFunctionRegistry =>
  app.get(EnhancedFunctionRegistry);
const backendOf = (app: INestApplicationContext): Backend => app.get<Backend>(BACKEND);
const processOf = ({ app }: Host): string => app.get(WorkerCoordinator).sessionId;

async function leader(options: FunctionsOptions = {}): Promise<INestApplicationContext> {
  return fleet.start({ options: { worker: false, ...options } });
}

const leadKey = (): string => `${fleet.prefix}nf:workflow:{flow}:restart`;

/** Takes the lead away from whoever has it. */
const takeLead = (): Promise<unknown> =>
  fleet.redis.set(
    leadKey(),
    JSON.stringify({ restartId: 'other', holder: 'somebody' }),
    'PX',
    60_000,
  );

/** What is left of a restart of these workers, as its leader writes it. */
const restOf = (workers: readonly object[]): string =>
  JSON.stringify({
    ...{ total: 1, generation: 0, timeoutMs: 1_000, allowInterruption: true },
    ...{ processId: 'p.1', workers, healthy: [['a', 1]] },
  });

const failed = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (error: unknown) => error,
  );

/** Sends a process an order under a lead that holds, and waits until it has heard it. */
async function orderByHand(worker: Host, restartId: unknown): Promise<void> {
  const { bus } = backendOf(worker.app);
  const heard = createDeferred();
  const listening = await worker.app
    .get(NotificationManager)
    .subscribe('behind', () => heard.resolve());
  const packet = JSON.stringify({
    pattern: 'control',
    data: { type: 'restart', restartId, workflowId: 'flow' },
  });
  const lead = JSON.stringify({ restartId, holder: 'somebody' });
  await fleet.redis.set(leadKey(), lead, 'PX', 60_000);
  await bus.publish(`${fleet.prefix}nf:process:${processOf(worker)}`, packet);
  await bus.publish(`${fleet.prefix}behind`, packet);
  await heard.promise;
  await listening.unsubscribe();
}

/** The least healthy workers that a function had while it was looked at, by a view that hears of every change. */
async function watchLeast(app: INestApplicationContext): Promise<() => number> {
  const watcher = app.get(FunctionReadinessWatcher);
  let least = Infinity;
  for (const name of NAMES) {
    const { view } = await watcher.watchSynced(functionRef(name, 'flow'));
    const look = (): void => void (least = Math.min(least, view.healthy));
    const channels = ['function:ready', 'function:shutdown', 'function:offline'];
    await app.get(NotificationManager).subscribeAll(
      channels.map((head) => `${head}:${name}:flow`),
      look,
    );
  }
  return () => least;
}

describe.each(connections(redisUrl()))('a restart of a workflow, on $title', ({ connection }) => {
  it('restarts its processes in turn, while calls go on, and no function is without a worker', async () => {
    const hosts: Host[] = [];
    for (const id of ['w1', 'w2', 'w3']) hosts.push(await host(id, { connection }));
    const app = await leader({ connection });
    const news: WorkflowNotification[] = [];
    const notifier = app.get(WorkflowNotifier);
    for (const type of ['restarting', 'ready'] as const)
      await notifier.listen(type, 'flow', (one) => news.push(one));
    const { generation } = await notifier.notifySaved('flow', { version: 7 });
    const least = await watchLeast(app);
    const records = await backendOf(app).workers.snapshot(functionRef('a', 'flow'));
    const progress: RestartProgress[] = [];
    let stop = false;
    const answers: Promise<unknown>[] = [];
    const calling = (async () => {
      while (!stop) {
        for (const name of NAMES)
          answers.push(registryOf(app).call(name, {}, { workflowId: 'flow' }));
        await Promise.allSettled(answers.slice(-2));
      }
    })();
    const report = await registryOf(app).coordinateRestart('flow', {
      onProgress: (one) => progress.push(one),
    });
    stop = true;
    await calling;
    for (const answer of answers) expect(['w1', 'w2', 'w3']).toContain(await answer);
    expect(answers.length).toBeGreaterThan(6);
    expect(least()).toBe(2);
    // Each was back before the next one's turn.
    const processes = hosts.map(processOf).sort();
    expect(report).toMatchObject({ workflowId: 'flow', generation, restarted: processes });
    expect(progress.map(({ phase, processId, done }) => [phase, processId, done])).toEqual(
      processes.flatMap((id, index) => [
        ['restarting', id, index],
        ['ready', id, index + 1],
      ]),
    );
    expect(progress[0]).toMatchObject({ functions: ['a', 'b'], total: 3, workflowId: 'flow' });
    for (const { reloads } of hosts)
      expect(reloads).toEqual([
        {
          type: 'restarting',
          workflowId: 'flow',
          generation,
          details: { version: 7 },
          source: 'restart',
          timestamp: expect.any(Number),
        },
      ]);
    const after = await backendOf(app).workers.snapshot(functionRef('a', 'flow'));
    for (const record of after.workers) {
      const before = records.workers.find(({ workerId }) => workerId === record.workerId);
      expect(before).toMatchObject({ generation: 0 });
      expect(record).toMatchObject({ generation, status: 'ready' });
      expect(record.epoch).toBeGreaterThan(before?.epoch ?? Infinity);
    }
    await eventually('it is told', () => news.length === 2);
    expect(news.map(({ type, details }) => [type, details])).toEqual([
      ['restarting', { restartId: expect.any(String), processes: 3 }],
      ['ready', { restartId: expect.any(String), processes: 3 }],
    ]);
  });

  it('restarts as many processes at once as may be away', async () => {
    const all = createDeferred();
    let reloading = 0;
    const reload = async (): Promise<void> => {
      reloading += 1;
      if (reloading === 2) all.resolve();
      await all.promise;
    };
    for (const id of ['w1', 'w2', 'w3']) await host(id, { connection }, reload);
    const app = await leader({ connection });
    const least = await watchLeast(app);
    const report = await registryOf(app).coordinateRestart('flow', { maxUnavailable: 2 });
    expect(report.restarted).toHaveLength(3);
    expect(least()).toBe(1);
  });

  it('of which fewer remain than may be away leaves each function one worker', async () => {
    for (const id of ['w1', 'w2']) await host(id, { connection });
    const app = await leader({ connection });
    const least = await watchLeast(app);
    await registryOf(app).coordinateRestart('flow', { maxUnavailable: 5 });
    expect(least()).toBe(1);
  });

  it('is refused when a function has one process only, unless interruption is allowed', async () => {
    const only = await host('w1', { connection });
    const app = await leader({ connection });
    await expect(registryOf(app).coordinateRestart('flow')).rejects.toMatchObject({
      code: 'RESTART_REFUSED',
      details: { functions: ['a', 'b'] },
    });
    expect(only.reloads).toEqual([]);
    await registryOf(app).waitForWorkflow('flow');
    const answer = createDeferred<unknown>();
    await registryOf(app).coordinateRestart('flow', {
      allowInterruption: true,
      onProgress: ({ phase }) => {
        if (phase === 'restarting')
          answer.resolve(registryOf(app).call('a', {}, { workflowId: 'flow' }));
      },
    });
    expect(only.reloads).toHaveLength(1);
    expect(await answer.promise).toBe('w1');
  });

  it('has one leader at a time', async () => {
    const gate = createDeferred();
    const hosts: Host[] = [];
    for (const id of ['w1', 'w2']) hosts.push(await host(id, { connection }, () => gate.promise));
    const [one, other] = [await leader({ connection }), await leader({ connection })];
    const first = registryOf(one).coordinateRestart('flow');
    await eventually('it reloads', () => hosts.some(({ reloads }) => reloads.length > 0));
    await expect(registryOf(other).coordinateRestart('flow')).rejects.toMatchObject({
      code: 'RESTART_IN_PROGRESS',
      retryable: true,
      details: { holder: one.get(WorkerCoordinator).processId },
    });
    gate.resolve();
    expect((await first).restarted).toHaveLength(2);
    expect((await registryOf(other).coordinateRestart('flow')).restarted).toHaveLength(2);
  });

  it('stops when a process cannot load: that one works as it did, and the others are left alone', async () => {
    const fail = (): never => {
      throw new Error('no such version.');
    };
    const hosts: Host[] = [];
    for (const id of ['w1', 'w2']) hosts.push(await host(id, { connection }, fail));
    const app = await leader({ connection });
    await app.get(WorkflowNotifier).notifySaved('flow');
    const error = await failed(registryOf(app).coordinateRestart('flow'));
    expect(error).toMatchObject({ code: 'RESTART_FAILED' });
    expect((error as Error).message).toContain('no such version. When');
    expect(hosts.map(({ reloads }) => reloads.length).sort()).toEqual([0, 1]);
    await eventually('both work as they did', async () => {
      const { workers } = await backendOf(app).workers.snapshot(functionRef('a', 'flow'));
      expect(workers.map(({ status, generation }) => [status, generation])).toEqual([
        ['ready', 0],
        ['ready', 0],
      ]);
    });
    // The lead was given back.
    await expect(registryOf(app).coordinateRestart('flow')).rejects.toMatchObject({
      code: 'RESTART_FAILED',
    });
  });
});

describe('a restart', () => {
  it('does not run the handlers of a worker for what others restart, and those of a caller once', async () => {
    const heard: WorkflowEvent[] = [];
    const hosts = [await host('w1'), await host('w2')];
    const app = await fleet.start({
      options: { worker: false },
      providers: [hearing('restarting', 'flow', (event) => heard.push(event))],
    });
    await app.get(WorkflowNotifier).notifyRestarting('flow', 'by hand');
    await registryOf(app).coordinateRestart('flow');
    await eventually('the caller heard both', () => heard.length === 2);
    expect(heard.map(({ source }) => source)).toEqual(['news', 'news']);
    expect(hosts.map(({ reloads }) => reloads.map(({ source }) => source))).toEqual([
      ['restart'],
      ['restart'],
    ]);
  });

  it('restarts what is outdated only, when asked to', async () => {
    const hosts = [await host('w1'), await host('w2')];
    const app = await leader();
    await app.get(WorkflowNotifier).notifySaved('flow');
    const late = await host('w3');
    const report = await registryOf(app).coordinateRestart('flow', { only: 'outdated' });
    expect(report.restarted).toEqual(hosts.map(processOf).sort());
    expect(late.reloads).toEqual([]);
    const again = await registryOf(app).coordinateRestart('flow', { only: 'outdated' });
    expect(again.restarted).toEqual([]);
  });

  it('lets running calls finish before it loads anew', async () => {
    const stage = new Stage();
    const order: string[] = [];
    const handler = async (...args: Parameters<Stage['handle']>): Promise<unknown> => {
      const value = await stage.handle(...args);
      order.push('call');
      return value;
    };
    const worker = await fleet.start({
      options: { workerId: 'w1' },
      providers: [
        hosting({ name: 'a', workflowId: 'flow' }, handler),
        hearing('restarting', 'flow', () => order.push('load')),
      ],
    });
    const app = await leader();
    const call = registryOf(app).call('a', {}, { workflowId: 'flow' });
    const run = await stage.started();
    const restart = registryOf(app).coordinateRestart('flow', { allowInterruption: true });
    await eventually('it drains', () =>
      worker
        .get(WorkerCoordinator)
        .workers()
        .every(({ status }) => status === 'draining'),
    );
    run.outcome.resolve('finished');
    expect(await call).toBe('finished');
    await restart;
    expect(order).toEqual(['call', 'load']);
  });

  it('is led by a worker itself, which comes last', async () => {
    const hosts = [await host('w1'), await host('w2'), await host('w3')];
    const [first] = [...hosts].sort((one, other) => (processOf(one) < processOf(other) ? -1 : 1));
    const own = processOf(first!);
    const { restarted } = await registryOf(first!.app).coordinateRestart('flow');
    expect(restarted).toHaveLength(3);
    expect(restarted.at(-1)).toBe(own);
  });

  it('that its leader cannot leave to others, because it lost the lead, does not end its process', async () => {
    await host('w1');
    const { app } = await host('w2', { restart: 'exit' });
    const end = jest.spyOn(process, 'kill').mockReturnValue(true);
    try {
      const { workflows } = backendOf(app);
      const leave = workflows.leaveRestart.bind(workflows);
      jest.spyOn(workflows, 'leaveRestart').mockImplementation(async (...left) => {
        await takeLead();
        return leave(...left);
      });
      const error = await failed(registryOf(app).coordinateRestart('flow'));
      expect(error).toMatchObject({ code: 'RESTART_FAILED' });
      expect((error as Error).message).toContain('lost the lead');
      expect(end).not.toHaveBeenCalled();
      expect(await fleet.redis.get(leadKey())).toContain('somebody');
    } finally {
      end.mockRestore();
    }
  });

  it.each([
    ['no JSON', 'x'],
    ['not whole', '{"processId":"p.1","workers":[],"healthy":[],"total":1,"generation":0}'],
    ['of an impossible function', restOf([{ functionName: '', workerId: 'w', epoch: 1 }])],
    ['of a worker without a name', restOf([{ functionName: 'a', epoch: 1 }])],
  ])('of which somebody left a rest that is %s is given up, with a word', async (_, rest) => {
    const { app, reloads } = await host('w1');
    const lead = JSON.stringify({ restartId: 'one', holder: 'somebody', session: '', rest });
    await fleet.redis.set(leadKey(), lead, 'PX', 60_000);
    const log = new CapturedLog();
    try {
      const packet = { pattern: 'control', data: { type: 'restart-left', workflowId: 'flow' } };
      const channel = `${fleet.prefix}nf:process:${app.get(WorkerCoordinator).sessionId}`;
      await fleet.redis.publish(channel, JSON.stringify(packet));
      await eventually('it is over', async () => (await fleet.redis.exists(leadKey())) === 0);
    } finally {
      log.release();
    }
    expect(log.of('warn', 'WORKFLOW')).toEqual([expect.stringContaining('cannot be read')]);
    expect(reloads).toEqual([]);
  });

  it('orders again when an order is lost, and an order that comes twice is one restart', async () => {
    const hosts = [await host('w1'), await host('w2')];
    const app = await leader();
    const { workflows } = backendOf(app);
    const send = workflows.orderRestart.bind(workflows);
    let lost = 0;
    jest.spyOn(workflows, 'orderRestart').mockImplementation(async (id, order) => {
      lost += 1;
      if (lost === 1) return true;
      await send(id, order);
      return send(id, order);
    });
    await registryOf(app).coordinateRestart('flow');
    expect(hosts.map(({ reloads }) => reloads.length)).toEqual([1, 1]);
    // Once more, by hand, when all is done: it is not even looked at.
    const [worker] = hosts as [Host];
    const restartId = jest.mocked(workflows.orderRestart).mock.calls[0]?.[1].restartId;
    const asked = jest.spyOn(backendOf(worker.app).workflows, 'leadsRestart');
    await orderByHand(worker, restartId);
    expect(asked).not.toHaveBeenCalled();
  });

  it('serves the order of another leader, which comes while it drains already, with one restart', async () => {
    const stage = new Stage();
    const reloads: WorkflowEvent[] = [];
    const app = await fleet.start({
      options: { workerId: 'w1' },
      providers: [
        stage.as({ name: 'a', workflowId: 'flow' }),
        hearing('restarting', 'flow', (event) => reloads.push(event)),
      ],
    });
    const statuses = (): string[] =>
      app
        .get(WorkerCoordinator)
        .workers()
        .map(({ status }) => status);
    const call = registryOf(await leader()).call('a', {}, { workflowId: 'flow' });
    const run = await stage.started();
    const asked = jest.spyOn(backendOf(app).workflows, 'leadsRestart');
    await orderByHand({ app, reloads }, 'one');
    await eventually('it drains', () => statuses()[0] === 'draining');
    await orderByHand({ app, reloads }, 'two');
    expect(asked).toHaveBeenCalledTimes(1);
    run.outcome.resolve('finished');
    expect(await call).toBe('finished');
    await eventually('it is back', () => statuses()[0] === 'ready');
    expect(reloads).toHaveLength(1);
  });

  it('that nobody leads is not obeyed: who may cancel calls can send any order', async () => {
    const worker = await host('w1');
    const { bus } = backendOf(worker.app);
    const asked = jest.spyOn(backendOf(worker.app).workflows, 'leadsRestart');
    const data = { type: 'restart', restartId: 'forged', workflowId: 'flow' };
    const packet = JSON.stringify({ pattern: 'control', data });
    await bus.publish(`${fleet.prefix}nf:process:${processOf(worker)}`, packet);
    await eventually('it has looked', () => asked.mock.results.length === 1);
    expect(await asked.mock.results[0]?.value).toBe(false);
    await registryOf(worker.app).call('a', {}, { workflowId: 'flow' });
    expect(worker.reloads).toEqual([]);
    expect(worker.app.get(WorkerCoordinator).workers()).toMatchObject([
      { status: 'ready' },
      { status: 'ready' },
    ]);
  });

  it('ends when a process does not obey, as one of an older library', async () => {
    const hosts = [await host('w1'), await host('w2')];
    const app = await leader();
    jest.spyOn(backendOf(app).workflows, 'orderRestart').mockResolvedValue(true);
    const error = await failed(registryOf(app).coordinateRestart('flow', { timeoutMs: 50 }));
    expect(error).toMatchObject({ code: 'RESTART_FAILED' });
    expect((error as Error).message).toContain('an older version of this library');
    expect(hosts.map(({ reloads }) => reloads.length)).toEqual([0, 0]);
  });

  it('sees by the registry that a process could not load, when it cannot say so', async () => {
    const fail = (): never => {
      throw new Error('no such version');
    };
    for (const id of ['w1', 'w2']) {
      const { app } = await host(id, {}, fail);
      // Its word to the leader is lost.
      jest.spyOn(backendOf(app).bus, 'publish').mockResolvedValue(0);
    }
    const app = await leader();
    await app.get(WorkflowNotifier).notifySaved('flow');
    const error = await failed(registryOf(app).coordinateRestart('flow'));
    expect((error as Error).message).toContain('without having loaded the last save');
  });

  it('ends before its next process when it loses the lead', async () => {
    const hosts: Host[] = [];
    for (const id of ['w1', 'w2']) hosts.push(await host(id, {}, takeLead));
    const error = await failed(registryOf(await leader()).coordinateRestart('flow'));
    expect(error).toMatchObject({ code: 'RESTART_FAILED' });
    expect((error as Error).message).toContain('lost the lead');
    expect(hosts.map(({ reloads }) => reloads.length).sort()).toEqual([0, 1]);
    // What it gives back is not the other one's.
    expect(await fleet.redis.exists(leadKey())).toBe(1);
  });

  it('ends when it loses the lead, although a process still loads', async () => {
    const gate = createDeferred();
    const hosts: Host[] = [];
    const hold = async (): Promise<void> => {
      await takeLead();
      await gate.promise;
    };
    for (const id of ['w1', 'w2']) hosts.push(await host(id, {}, hold));
    const restart = registryOf(await leader()).coordinateRestart('flow');
    await expect(restart).rejects.toMatchObject({ code: 'RESTART_FAILED' });
    gate.resolve();
    expect(hosts.map(({ reloads }) => reloads.length).sort()).toEqual([0, 1]);
  });

  it('keeps the lead for as long as it lasts', async () => {
    const gate = createDeferred();
    for (const id of ['w1', 'w2']) await host(id, {}, () => gate.promise);
    const restart = registryOf(await leader()).coordinateRestart('flow');
    const leftMs = (): Promise<number> => fleet.redis.pttl(leadKey());
    await eventually('it leads', async () => (await leftMs()) > 0);
    let before = Infinity;
    const isKept = async (): Promise<boolean> => {
      const now = await leftMs();
      const grew = now > before;
      before = now;
      return grew;
    };
    await eventually('it is kept', isKept, 5_000);
    gate.resolve();
    expect((await restart).restarted).toHaveLength(2);
    expect(await fleet.redis.exists(leadKey())).toBe(0);
  });

  it('that is cancelled ends before its next process', async () => {
    const abort = new AbortController();
    const hosts: Host[] = [];
    for (const id of ['w1', 'w2', 'w3'])
      hosts.push(await host(id, {}, () => abort.abort(new Error('enough'))));
    const restart = registryOf(await leader()).coordinateRestart('flow', { signal: abort.signal });
    await expect(restart).rejects.toMatchObject({
      code: 'CALL_CANCELLED',
      cause: { message: 'enough' },
    });
    expect(hosts.map(({ reloads }) => reloads.length).sort()).toEqual([0, 0, 1]);
    // What was under way comes to its end.
    await eventually('all are back', async () => {
      const { workers } = await backendOf(hosts[0]!.app).workers.snapshot(functionRef('a', 'flow'));
      return workers.filter(({ status }) => status === 'ready').length === 3;
    });
  });

  it('waits for another worker before the next process, when one was lost meanwhile', async () => {
    const hosts: Host[] = [];
    let lost: Host | undefined;
    // While the first one loads, the one that is left is closed.
    const lose = async (): Promise<void> => {
      if (lost !== undefined) return;
      lost = hosts.find(({ reloads }) => reloads.length === 0);
      await fleet.stop(lost!.app);
    };
    for (const id of ['w1', 'w2']) hosts.push(await host(id, {}, lose));
    const app = await leader();
    const restart = registryOf(app).coordinateRestart('flow');
    let isDone = false;
    void restart.then(() => (isDone = true)).catch(() => undefined);
    await eventually('one is lost', () => lost !== undefined);
    await eventually('the first is back', async () => {
      const { workers } = await backendOf(app).workers.snapshot(functionRef('a', 'flow'));
      return workers.length === 1 && workers[0]?.status === 'ready';
    });
    expect(isDone).toBe(false);
    await host('w3');
    expect((await restart).restarted).toHaveLength(2);
  });

  it('goes on when the process that loads is closed, and another one is started', async () => {
    const hosts: Host[] = [];
    let closing: Promise<void> | undefined;
    const close = async (): Promise<void> => {
      if (closing !== undefined) return;
      const { app } = hosts.find(({ reloads }) => reloads.length > 0) as Host;
      closing = fleet.stop(app);
      await eventually('it closes', () => app.get(WorkerCoordinator).state !== 'active');
    };
    for (const id of ['w1', 'w2']) hosts.push(await host(id, {}, close));
    const log = new CapturedLog();
    try {
      const restart = registryOf(await leader()).coordinateRestart('flow');
      await eventually('it is closing', () => closing !== undefined);
      await closing;
      await host('w3');
      expect((await restart).restarted).toHaveLength(2);
    } finally {
      log.release();
    }
    expect(log.of('error', 'WORKFLOW')).toEqual([]);
  });

  it('of a workflow without workers is done at once', async () => {
    const app = await leader();
    const log = new CapturedLog();
    try {
      expect((await registryOf(app).coordinateRestart('nothing')).restarted).toEqual([]);
    } finally {
      log.release();
    }
    // Its name may be misspelt.
    expect(log.of('warn', 'WORKFLOW')).toEqual([expect.stringContaining('workflow nothing')]);
  });

  it('says in the log of a process that it loads nothing anew', async () => {
    const providers = [
      hosting({ name: 'a', workflowId: 'flow' }, () => 1),
      // Of another workflow: the module's.
      hearing('restarting', undefined, () => undefined),
    ];
    await fleet.start({ options: { workerId: 'w1' }, providers });
    const app = await leader();
    const log = new CapturedLog();
    try {
      await registryOf(app).coordinateRestart('flow', { allowInterruption: true });
    } finally {
      log.release();
    }
    expect(log.of('warn', 'WORKFLOW')).toEqual([
      expect.stringContaining("@OnWorkflowEvent('restarting', 'flow')"),
    ]);
  });

  it.each<[string, RestartOptions]>([
    ['maxUnavailable', { maxUnavailable: 0 }],
    ['maxUnavailable', { maxUnavailable: 1.5 }],
    ['timeoutMs', { timeoutMs: -1 }],
    ['only', { only: 'some' as never }],
    ['allowInterruption', { allowInterruption: 1 as never }],
    ['signal', { signal: {} as never }],
    ['onProgress', { onProgress: 'x' as never }],
    ['options.max', { max: 1 } as never],
    ['options', 7 as never],
  ])('is refused for a wrong %s', async (argument, options) => {
    const registry = registryOf(await leader());
    await expect(registry.coordinateRestart('flow', options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      details: { argument },
    });
    expect(await fleet.keys()).not.toContain(leadKey());
  });
});
