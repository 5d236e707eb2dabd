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
import type { INestApplicationContext } from '@nestjs/common';
import {
  DeadLetters,
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionLifecycleNotifier,
  FunctionsMetrics,
  NotificationManager,
  WorkerCoordinator,
  WorkflowNotifier,
} from '../../src/index.js';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { DIRECT_READ_LIMIT } from '../../src/execution/worker/lanes.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { OFFICE_LEASES } from '../../src/lifecycle/office-candidate.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { createUser, lessened, rulesOf, wordsOf, type AclBlock } from '../harness/acl.js';
import { AclFleet, PASSWORD, USERS } from '../harness/acl-fleet.js';
import { AclUsage, RECORDED_PREFIX } from '../harness/acl-usage.js';
import { CommandLog } from '../harness/command-log.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';
import { hearing } from '../workflow/hearing.js';

jest.setTimeout(120_000);

let redis: StartedRedis;
let usage: AclUsage;
let fleet: AclFleet;
let processes: TestProcess[];

beforeAll(async () => {
  redis = await startRedis();
  usage = await AclUsage.start(redis.url);
});
afterAll(async () => {
  usage.close();
  await redis.stop();
});

beforeEach(async () => {
  fleet = await AclFleet.on(redis);
  fleet.onStarted = () => usage.settle();
  processes = [];
});

afterEach(async () => {
  await usage.settle();
  await Promise.all(processes.map((process) => process.destroy()));
  await fleet.close();
});

/** A pool that nobody reads, with as many tokens as a bell keeps: who rings adds one and takes one away. */
async function addFullPool(functionName: string): Promise<void> {
  const pool = `${fleet.prefix}nf:pool:{full}`;
  const tokens = Array.from({ length: 16 }, () => '1');
  await fleet.redis.sadd(fleet.key(functionName, 'bells'), pool);
  await fleet.redis.del(`${pool}:due`);
  await fleet.redis.rpush(`${pool}:wake`, ...tokens);
}

async function expectNoRefusal(): Promise<void> {
  expect(await fleet.refusals()).toEqual([]);
}

/** The code of what a call fails with; looked at now, so that the failure may come before it is awaited. */
function codeOf(call: Promise<unknown> | undefined): Promise<unknown> {
  return Promise.resolve(call).then(
    () => 'no failure',
    (error: { code?: unknown }) => error.code,
  );
}

describe('a fleet whose users have the rules of docs/security.md', () => {
  afterEach(async () => {
    await fleet.close();
    await expectNoRefusal();
  });

  it('calls, waits for readiness, tells progress, and answers with results and errors', async () => {
    const registry = await fleet.caller();
    const waiting = registry.call('work', { n: 1 });
    const seen: unknown[] = [];
    const worker = await fleet.startAs('worker', [
      hosting('work', (input, context) => {
        context.progress('half');
        return input;
      }),
      hosting('fail', () => {
        throw new FunctionError('NO', 'no');
      }),
    ]);
    await expect(waiting).resolves.toEqual({ n: 1 });
    // In one tick, as calls of several functions are written together.
    const both = [registry.call('work', { n: 3 }), registry.call('fail')];
    expect(await Promise.allSettled(both)).toMatchObject([
      { value: { n: 3 } },
      { reason: { code: 'NO' } },
    ]);
    await addFullPool('work');
    const onProgress = (value: unknown): unknown => seen.push(value);
    await expect(registry.call('work', { n: 2 }, { onProgress })).resolves.toEqual({ n: 2 });
    expect(seen).toEqual(['half']);
    await expect(registry.call('fail')).rejects.toMatchObject({ code: 'NO' });
    expect((await registry.getAvailableFunctions()).length).toBe(2);
    await worker
      .get(EnhancedFunctionRegistry)
      .registerFunction({ name: 'later', workflowId: 'default' });
    await expect(
      worker.get(EnhancedFunctionRegistry).unregisterFunction('later', 'default'),
    ).resolves.toBe(true);
    await fleet.stop(worker);
    await expect(registry.call('work', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
  });

  it('hears of health, and cancels calls that wait and calls that run', async () => {
    const stage = new Stage();
    const registry = await fleet.caller();
    const worker = await fleet.startAs('worker', [stage.as({ name: 'work', concurrency: 1 })]);
    const abort = new AbortController();
    const { signal } = abort;
    const running = registry.call('work', {}, { signal });
    const run = await stage.started();
    const waiting = registry.call('work', {}, { signal });
    abort.abort();
    await expect(running).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await expect(waiting).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('the run is aborted', () => run.context.signal.aborted);
    stage.finishAll();
    const notifier = worker.get(FunctionLifecycleNotifier).forFunction('work');
    await notifier.notifyUnhealthy('tired');
    await eventually('the caller knows', async () => {
      const status = await registry.getInstantWorkerStatus('work', 'default');
      return status.healthyWorkers === 0;
    });
    await notifier.notifyHealthy();
    await eventually('the stream is empty', async () => {
      return (await fleet.redis.xlen(fleet.key('work', 'calls'))) === 0;
    });
  });

  it('shares calls by an idempotency key, answers from the result, and cancels one of those who share', async () => {
    const stage = new Stage();
    const [one, two] = [await fleet.caller(), await fleet.caller()];
    await fleet.startAs('worker', [stage.as('work')]);
    const abort = new AbortController();
    const options = { idempotencyKey: 'k' };
    const shared = [
      one.call('work', {}, options),
      two.call('work', {}, options),
      two.call('work', {}, { ...options, signal: abort.signal }),
    ];
    const left = codeOf(shared[2]);
    const run = await stage.started();
    const once = `${fleet.prefix}nf:{work:default}:once:k`;
    await eventually('all share it', async () => (await fleet.redis.hlen(once)) === 5);
    abort.abort();
    expect(await left).toBe('CALL_CANCELLED');
    run.outcome.resolve('once');
    await expect(Promise.all(shared.slice(0, 2))).resolves.toEqual(['once', 'once']);
    await expect(two.call('work', {}, options)).resolves.toBe('once');
    expect(stage.runs).toHaveLength(1);
    const alone = new AbortController();
    const cancelled = codeOf(
      one.call('work', {}, { idempotencyKey: 'other', signal: alone.signal }),
    );
    await stage.started(2);
    alone.abort();
    expect(await cancelled).toBe('CALL_CANCELLED');
    await eventually('its key is free', async () => {
      return (await fleet.redis.exists(fleet.key('work', 'once:other'))) === 0;
    });
    stage.finishAll();
  });

  it('runs failed calls again, buries them, and an operator lists, retries and removes them', async () => {
    await fleet.startAs('supervisor');
    let broken = true;
    const seen: unknown[] = [];
    await fleet.startAs('worker', [
      hosting({ name: 'work', retry: { maxAttempts: 2, backoffMs: 1 } }, (input) => {
        if (broken) throw new Error('broken');
        seen.push(input);
      }),
    ]);
    const registry = await fleet.caller();
    for (const n of [1, 2])
      await expect(registry.call('work', { n })).rejects.toMatchObject({ code: 'HANDLER_FAILED' });
    broken = false;
    const letters = (await fleet.startAs('operator')).get(DeadLetters);
    const [first, second] = await letters.list('work', 'default');
    await addFullPool('work');
    await expect(letters.retry('work', 'default', first!.id)).resolves.toBe(true);
    await letters.remove('work', 'default', second!.id);
    await expect(letters.count('work', 'default')).resolves.toBe(0);
    await eventually('it ran', () => seen.length === 1);
    // A call that is cancelled while it waits for its next attempt.
    broken = true;
    const abort = new AbortController();
    const slow = hosting({ name: 'slow', retry: { maxAttempts: 2, backoffMs: 60_000 } }, () => {
      throw new Error('later');
    });
    await fleet.startAs('worker', [slow]);
    const later = registry.call('slow', {}, { signal: abort.signal });
    const aside = `${fleet.prefix}nf:{slow:default}:aside`;
    await eventually('it waits', async () => (await fleet.redis.hlen(aside)) === 1);
    // Looked at before its time: the supervisor notes anew when it is due.
    const delayed = `${fleet.prefix}nf:delayed`;
    await fleet.redis.zadd(delayed, 1, 'slow:default');
    await eventually('it was looked at', async () => {
      return Number(await fleet.redis.zscore(delayed, 'slow:default')) > 1;
    });
    abort.abort();
    await expect(later).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('it is gone', async () => (await fleet.redis.hlen(aside)) === 0);
  });

  it('drains: what runs finishes, what does not is handed back to another worker', async () => {
    const stage = new Stage();
    const registry = await fleet.caller();
    const worker = await fleet.startAs('worker', [stage.as('work')], { drainTimeoutMs: 1_000 });
    const calls = [registry.call('work', { n: 1 }), registry.call('work', { n: 2 })];
    await stage.started(2);
    await addFullPool('work');
    const stopping = fleet.stop(worker);
    stage.runs[0]!.outcome.resolve('finished');
    await stopping;
    await fleet.startAs('worker', [hosting('work', () => 'elsewhere')]);
    expect((await Promise.all(calls)).sort()).toEqual(['elsewhere', 'finished']);
    stage.finishAll();
  });

  it('hands the calls of a killed worker over, at-most-once calls answered, by a user that only supervises', async () => {
    const supervisor = await fleet.startAs('supervisor');
    await eventually('it supervises', () => supervisor.get(WorkerCoordinator).isSupervisor);
    // The process of the tests counts its runs in a key of its own.
    await fleet.grant('worker', `(+hincrby ~${fleet.prefix}runs)`);
    const startProcess = (id: string): TestProcess => {
      const env = {
        REDIS_URL: fleet.urlOf('worker'),
        KEY_PREFIX: fleet.prefix,
        SUPERVISE: 'false',
      };
      const worker = TestProcess.start('worker.ts', { ...env, WORKER_ID: id });
      processes.push(worker);
      return worker;
    };
    // As if it hosted so many functions that it hears of them by a bell.
    const joinPool = async (workerId: string): Promise<void> => {
      const workers = fleet.key('held', 'workers');
      const record = JSON.parse((await fleet.redis.hget(workers, workerId)) ?? '{}') as object;
      const pool = `${fleet.prefix}nf:pool:{own}`;
      await fleet.redis.hset(workers, workerId, JSON.stringify({ ...record, pool }));
      await fleet.redis.sadd(fleet.key('held', 'bells'), pool);
    };
    const registry = await fleet.caller();
    const first = startProcess('first');
    await first.message('ready', 30_000);
    const timeoutMs = 90_000;
    const call = registry.call('held', {}, { timeoutMs, idempotencyKey: 'k' });
    const delivery = 'at-most-once';
    const once = registry.call('held', {}, { timeoutMs, delivery, idempotencyKey: 'once' });
    const lost = codeOf(once);
    await eventually('both run', async () => (await fleet.redis.hlen(`${fleet.prefix}runs`)) === 2);
    await startProcess('second').message('ready', 30_000);
    await addFullPool('held');
    await joinPool('first');
    // As if it had been given another one.
    const { processId = '' } = JSON.parse(
      (await fleet.redis.hget(fleet.key('held', 'workers'), 'first')) ?? '{}',
    ) as { processId?: string };
    const own = { '#': 2, '1-1': 'held:default\t1 60000   given\t{"p":{},"i":null}' };
    const inbox = `${fleet.prefix}nf:process:{${processId}}:inbox`;
    await fleet.redis.hset(inbox, own);
    first.kill('SIGKILL');
    await expect(call).resolves.toEqual({ workerId: 'second', attempt: 2 });
    expect(await lost).toBe('WORKER_LOST');
    await eventually('all is handed over', async () => (await fleet.redis.exists(inbox)) === 0);
    const poisoned = registry.call('poison', {}, { timeoutMs });
    await eventually(
      'the second is gone',
      async () => {
        const workers = await fleet.redis.hkeys(`${fleet.prefix}nf:{poison:default}:workers`);
        return workers.length === 0;
      },
      30_000,
    );
    const gone = codeOf(poisoned);
    // Each takes it as soon as it is there, and dies of it.
    for (const id of ['third', 'fourth']) startProcess(id);
    expect(await gone).toBe('MAX_DELIVERIES');
    await eventually(
      'the dead are forgotten',
      async () => {
        return (await fleet.redis.keys(`${fleet.prefix}nf:process:*:grave`)).length === 4;
      },
      30_000,
    );
  });

  it('saves a workflow, hears of it, waits for it and restarts it, also after Redis was emptied', async () => {
    const heard: unknown[] = [];
    const director = await fleet.startAs('director');
    const notifier = director.get(WorkflowNotifier);
    const host = (workerId: string): Promise<INestApplicationContext> =>
      fleet.startAs(
        'worker',
        [
          hosting('work', () => 'done'),
          hearing('restarting', undefined, () => heard.push('restarting')),
        ],
        { workerId },
      );
    await notifier.notifySaved('default', 'first');
    const workers = [await host('one'), await host('two')];
    const caller = await fleet.startAs('caller', [
      hearing('saved', undefined, ({ details }) => heard.push(details)),
      hearing('ready', undefined, () => heard.push('ready')),
    ]);
    const registry = caller.get(EnhancedFunctionRegistry);
    await registry.waitForWorkflow('default');
    const { generation } = await notifier.notifySaved('default', 'second');
    await director.get(EnhancedFunctionRegistry).coordinateRestart('default');
    await notifier.notifyStopped('default');
    const group = await registry.atGeneration('default');
    await expect(group.call('work')).resolves.toBe('done');
    // Bound to one that nobody has any more: whoever reads it says so.
    const gone = registry.call('work', {}, { generation: generation - 1 });
    await expect(gone).rejects.toMatchObject({ code: 'GENERATION_GONE' });
    // So does the worker that reads such a call.
    const call = { callId: 'bound', replyTo: '', ttlMs: 60_000, sentAt: undefined, again: false };
    const terms = { delivery: 'at-least-once', idempotencyKey: undefined, bound: true } as const;
    const payload = '{"p":{},"i":null,"g":1}';
    const { calls } = caller.get<Backend>(BACKEND);
    const ref = functionRef('work', 'default');
    await calls.submit([{ ref, ...call, ...terms, payload }], { maxBacklog: 10 });
    await eventually('it is answered', async () => (await calls.backlog(ref)) === 0);
    await eventually('all is heard', () => heard.includes('ready') && heard.includes('second'));
    expect(heard.filter((one) => one === 'restarting')).toHaveLength(2);
    // The lead of one that died, and is renewed.
    const { workflows } = director.get<Backend>(BACKEND);
    const lease = { restartId: 'r', holder: 'h', session: '' };
    await workflows.beginRestart('default', lease, 60_000);
    await expect(workflows.beginRestart('default', lease, 60_000)).resolves.toEqual(lease);
    await expect(workflows.keepRestart('default', 'r', 60_000)).resolves.toBe(true);
    await workflows.endRestart('default', 'r');
    await fleet.redis.flushall();
    await eventually('its generation comes back', async () => {
      return (await notifier.currentGeneration('default')).generation === generation;
    });
    await fleet.stop(workers[0]!);
  });

  it('reads many functions by their bell', async () => {
    const names = Array.from({ length: DIRECT_READ_LIMIT + 2 }, (_, index) => `f${index}`);
    const registry = (await fleet.startAs('caller')).get(EnhancedFunctionRegistry);
    const host = (): Promise<INestApplicationContext> =>
      fleet.startAs(
        'worker',
        names.map((name) => hosting(name, () => name)),
      );
    const first = await host();
    await host();
    expect(await Promise.all(names.map((name) => registry.call(name)))).toEqual(names);
    const many = Array.from({ length: 300 }, () => registry.call('f1'));
    await expect(Promise.all(many)).resolves.toHaveLength(300);
    await fleet.stop(first);
    expect(await Promise.all(names.map((name) => registry.call(name)))).toEqual(names);
    const given = (): Promise<number> => fleet.callCount('blpop');
    const before = await given();
    await eventually('it waits, and is given a call', async () => {
      await registry.call('f1');
      return (await given()) > before;
    });
  });

  it('is given calls, takes them again over a new connection, back from who cancels, and hands them back', async () => {
    const names = Array.from({ length: DIRECT_READ_LIMIT + 2 }, (_, index) => `f${index}`);
    const stage = new Stage();
    const registry = await fleet.caller();
    const worker = await fleet.startAs(
      'worker',
      [...names.map((name) => hosting(name, () => name)), stage.as('held')],
      { drainTimeoutMs: 100 },
    );
    const { sessionId } = worker.get(WorkerCoordinator);
    const inbox = `${fleet.prefix}nf:process:{${sessionId}}:inbox`;
    // Whose session is gone has no inbox, and is passed over.
    const [pool = ''] = await fleet.redis.smembers(fleet.key('held', 'bells'));
    const offerGhost = (): Promise<unknown> =>
      fleet.redis.zadd(`${pool}:offers`, Date.now() + 500.5, 'ghost');
    const giveHeld = async (signal?: AbortSignal): Promise<void> => {
      for (;;) {
        await offerGhost();
        const call = registry.call('held', {}, { timeoutMs: 60_000, ...(signal && { signal }) });
        call.catch(() => undefined);
        await stage.started(stage.runs.length + 1);
        const lines = await fleet.redis.hvals(inbox);
        if (lines.some((line) => line.startsWith('held:'))) return;
        stage.finishAll();
        await call;
      }
    };
    const cancel = new AbortController();
    await giveHeld(cancel.signal);
    cancel.abort();
    await eventually(
      'its worker hears of it',
      () => stage.runs.at(-1)?.context.signal.aborted === true,
    );
    stage.finishAll();
    await eventually('it is settled', async () => (await fleet.redis.hlen(inbox)) === 1);
    await giveHeld();
    const looked = await fleet.callCount('hgetall');
    await fleet.redis.client('KILL', 'USER', 'worker');
    await eventually('it looks at its inbox', async () => {
      return (await fleet.callCount('hgetall')) > looked;
    });
    await fleet.stop(worker);
    expect(await fleet.redis.exists(inbox)).toBe(0);
    expect(await fleet.redis.xlen(fleet.key('held', 'calls'))).toBe(1);
  });

  it('gives calls of many functions by who hosts and calls', async () => {
    const names = Array.from({ length: DIRECT_READ_LIMIT + 2 }, (_, index) => `f${index}`);
    const user = { name: 'both', password: PASSWORD, prefix: fleet.prefix };
    await createUser(fleet.redis, user, ['Every process', 'Hosting', 'Calling']);
    await fleet.startAs(
      'worker',
      names.map((name) => hosting(name, () => name)),
    );
    const options = { connection: fleet.urlOf('both'), supervise: false };
    const app = await fleet.start({ providers: [hosting('own', () => 'own')], options });
    const registry = app.get(EnhancedFunctionRegistry);
    const before = await fleet.callCount('zrange');
    for (let turn = 0; turn < 3; turn += 1)
      expect(await Promise.all(names.map((name) => registry.call(name)))).toEqual(names);
    // Refused once, it would not be asked for again.
    expect((await fleet.callCount('zrange')) - before).toBeGreaterThanOrEqual(3);
  });

  it('gives a bound call that is passed on to a worker of its generation, which waits for a bell', async () => {
    const names = Array.from({ length: DIRECT_READ_LIMIT + 2 }, (_, index) => `f${index}`);
    await fleet.startAs('worker', [hosting('f0', () => 'old')], { workerId: 'old' });
    const director = await fleet.startAs('director');
    await director.get(WorkflowNotifier).notifySaved('default', 'second');
    await fleet.startAs(
      'worker',
      names.map((name) => hosting(name, () => 'new')),
      { workerId: 'new' },
    );
    const group = await (await fleet.caller()).atGeneration('default');
    let given = 0;
    // By who passes it on, as what is pending; who calls gives what begins with a tab.
    const isPassed = (name: string, key: string, text: string): boolean =>
      name.toLowerCase() === 'rpush' && key.endsWith(':given') && text.startsWith('f0:');
    const log = await CommandLog.start(redis.url, (source, [name = '', key = '', text = '']) => {
      if (source === 'lua' && isPassed(name, key, text)) given += 1;
    });
    await eventually('one was given', async () => {
      // Nobody offers when it comes, so the other worker gets it first.
      const offers = (await fleet.keys()).filter((key) => key.endsWith(':offers'));
      if (offers.length > 0) await fleet.redis.del(...offers);
      await expect(group.call('f0')).resolves.toBe('new');
      return given > 0;
    });
    log.close();
    await fleet.redis.acl('LOG', 'RESET');
  });

  it('tells health to those who listen, and leaves a function out whose key holds something else', async () => {
    const work = [hosting('work', () => 'done'), hosting('broken', () => 'done')];
    const worker = await fleet.startAs('worker', work, { leaseMs: 400 });
    const registry = await fleet.caller();
    await expect(registry.call('work')).resolves.toBe('done');
    const health: unknown[] = [];
    const caller = await fleet.startAs('caller');
    await caller
      .get(NotificationManager)
      .subscribe('worker:health:work:default', ({ data }) => health.push(data));
    await eventually('it is heard', () => health.length > 0);
    await fleet.redis.set(fleet.key('broken', 'calls'), 'not a stream');
    await expect(registry.call('work')).resolves.toBe('done');
    await fleet.stop(worker);
  });

  it('measures for those who watch, finds bottlenecks, and finds who does not say that he watches', async () => {
    const supervisor = await fleet.startAs('supervisor');
    await eventually('it supervises', () => supervisor.get(WorkerCoordinator).isSupervisor);
    await fleet.startAs('worker', [hosting('work', () => 'done')], { leaseMs: 400 });
    const registry = await fleet.caller();
    const metrics = (await fleet.startAs('watcher')).get(FunctionsMetrics);
    const runs: number[] = [];
    const kinds: string[] = [];
    const watches = [
      metrics.watch().subscribe(({ functions: [work] }) => runs.push(work?.runs ?? 0)),
      metrics.bottlenecks().subscribe(({ kind }) => kinds.push(kind)),
    ];
    await eventually('it is measured', () => runs.includes(0));
    const starved = codeOf(registry.call('zone', {}, { readinessTimeoutMs: 4_000 }));
    await eventually('the runs are told', async () => {
      await registry.call('work');
      return runs.some((count) => count > 0);
    });
    await eventually('the starved caller is found', () => kinds.includes('starved-caller'));
    for (const watch of watches) watch.unsubscribe();
    expect(await starved).toBe('READINESS_TIMEOUT');
    const stock = fleet.redis.duplicate();
    let heard = 0;
    stock.on('pmessage', () => (heard += 1));
    const log = await CommandLog.start(redis.url);
    await stock.psubscribe(`${fleet.prefix}function:metrics:*`);
    await eventually('it is served', () => heard > 2, 20_000);
    await stock.punsubscribe();
    await stock.psubscribe(`${fleet.prefix}function:bottleneck:*`);
    await eventually(
      'it is asked for all kinds of listeners',
      async () => (await log.mentioning(`${fleet.prefix}function:bottleneck:%2A`)).length > 0,
      30_000,
    );
    log.close();
    stock.disconnect();
  });

  it('counts, opens, probes and closes circuits, and hears of it', async () => {
    let broken = true;
    await fleet.startAs('worker', [
      hosting('work', () => {
        if (broken) throw new Error('broken');
        return 'done';
      }),
    ]);
    const circuit = { minimumCalls: 4, windowMs: 1_000, openMs: 50 };
    const start = (): Promise<INestApplicationContext> => fleet.startAs('breaker', [], { circuit });
    const leaving = await start();
    const [one, two] = [leaving, await start()].map((app) => app.get(EnhancedFunctionRegistry)) as [
      EnhancedFunctionRegistry,
      EnhancedFunctionRegistry,
    ];
    const both = [one, two];
    await eventually('it is open', async () => {
      const codes = await Promise.all(both.map((registry) => codeOf(registry.call('work'))));
      return codes.includes('CIRCUIT_OPEN');
    });
    broken = false;
    await eventually('it is closed', async () => {
      const codes = await Promise.all(both.map((registry) => codeOf(registry.call('work'))));
      return codes.every((code) => code === 'no failure');
    });
    await one.getCircuit('work').open('by hand');
    await eventually('the other one hears', () => two.getCircuit('work').state === 'open');
    await two.getCircuit('work').close();
    await eventually('both know', () => one.getCircuit('work').state === 'closed');
    await one.call('work');
    await one.getCircuit('work').counts();
    await fleet.stop(leaving);
    await eventually('who left is forgotten', async () => {
      await two.call('work');
      return (await two.getCircuit('work').counts()).callers === 1;
    });
    await two.getCircuit('work').reset();
  });

  it('supervises in an office of two, others ask for it, and in another database than the first', async () => {
    const first = await fleet.startAs('supervisor');
    await eventually('it supervises', () => first.get(WorkerCoordinator).isSupervisor);
    const second = await fleet.startAs('supervisor');
    const deputy = `${fleet.prefix}nf:deputy`;
    await eventually('it has a deputy', async () => (await fleet.redis.exists(deputy)) === 1);
    const log = await CommandLog.start(redis.url);
    const third = await fleet.startAs('supervisor');
    const asked = async (name: string): Promise<boolean> =>
      (await log.mentioning(deputy)).some((command) => command.name === name);
    await eventually('its deputy keeps its office', () => asked('getex'), 20_000);
    await eventually('the third asks for it', () => asked('exists'), 20_000);
    log.close();
    // What a process does only when it doubts that an office is held.
    const asker = third.get<Backend>(BACKEND);
    await expect(asker.fleet.elect('nobody', OFFICE_LEASES)).resolves.toBe('none');
    await usage.settle();
    await fleet.stop(third);
    await fleet.stop(first);
    await eventually('the deputy follows', () => second.get(WorkerCoordinator).isSupervisor);
    expect(await fleet.redis.exists(deputy)).toBe(0);
    const connection = `${fleet.urlOf('operator')}/1`;
    const operator = await fleet.startAs('operator', [], { connection });
    await expect(operator.get(DeadLetters).count('work', 'default')).resolves.toBe(0);
  });

  it('comes back after its group was destroyed, its sessions condemned, its connections killed, and Redis emptied', async () => {
    const stage = new Stage();
    const registry = await fleet.caller();
    await fleet.startAs('supervisor');
    const host = (): Promise<INestApplicationContext> =>
      fleet.startAs('worker', [stage.as('work')], { leaseMs: 1_500 });
    await host();
    const worker = await host();
    const answered = async (faults: () => Promise<unknown>): Promise<void> => {
      const count = stage.runs.length;
      const running = registry.call('work', { n: 1 });
      await stage.started(count + 1);
      await faults();
      const later = registry.call('work', { n: 2 }, { timeoutMs: 60_000 });
      await eventually('it is run', () => stage.runs.length >= count + 2, 30_000);
      const finish = setInterval(() => stage.finishAll(), 20);
      await expect(running).resolves.toBe('done');
      await expect(later).resolves.toBe('done');
      clearInterval(finish);
    };
    const { redis: admin } = fleet;
    const looked = await fleet.callCount('xinfo|groups');
    await answered(() => admin.xgroup('DESTROY', fleet.key('work', 'calls'), 'workers'));
    await eventually('it was looked for calls that lost their group', async () => {
      return (await fleet.callCount('xinfo|groups')) > looked;
    });
    await answered(() => admin.client('KILL', 'TYPE', 'PUBSUB'));
    await answered(() => admin.client('KILL', 'USER', 'worker'));
    const { sessionId } = worker.get(WorkerCoordinator);
    await answered(() => condemnAll(fleet));
    await eventually('it has another session', () => {
      return !['', sessionId].includes(worker.get(WorkerCoordinator).sessionId);
    });
    await answered(() => admin.flushall());
  });
});

/** MONITOR does not tell of these: acl-refused.test.ts shows what becomes of a process that lacks them. */
const ADMINISTRATIVE = new Set(['+client|unblock', '+client|kill', '+client|list']);

/** Of what the fleets above did. */
describe('the rules of docs/security.md', () => {
  /** What the roles were seen to do that they may not do with these rules. */
  async function refused(
    words: readonly string[],
    commands: readonly string[][],
  ): Promise<string[]> {
    const admin = fleet.redis;
    await admin.call('ACL', 'SETUSER', 'trial', 'reset', ...words);
    const trials = admin.pipeline();
    for (const command of commands) trials.call('ACL', 'DRYRUN', 'trial', ...command);
    const answers = (await trials.exec()) ?? [];
    return answers.flatMap(([error, answer], index) =>
      error === null && answer === 'OK' ? [] : [(commands[index] ?? []).join(' ').slice(0, 100)],
    );
  }

  it('allow nothing that no process was seen to need', async () => {
    const samples = await usage.samples();
    const user = { name: 'trial', password: PASSWORD, prefix: RECORDED_PREFIX };
    const roles = Object.entries<readonly AclBlock[]>(USERS).map(([role, blocks]) => ({
      blocks,
      // The process of the tests counts its runs in a key of its own.
      commands: (samples.get(role) ?? []).filter(
        ([name, key = '']) => name !== 'hincrby' || key.endsWith(':inbox'),
      ),
    }));
    for (const { blocks, commands } of roles) {
      const words = wordsOf(blocks.map((block) => rulesOf(block, user)));
      expect(await refused(words, commands)).toEqual([]);
    }
    const unused: string[] = [];
    for (const block of new Set(Object.values(USERS).flat())) {
      const mine = roles.filter(({ blocks }) => blocks.includes(block));
      for (const { without, rules } of lessened(rulesOf(block, user))) {
        if (ADMINISTRATIVE.has(without)) continue;
        let needed = false;
        for (const { blocks, commands } of mine) {
          const others = blocks.filter((other) => other !== block);
          const words = wordsOf([...others.map((other) => rulesOf(other, user)), rules]);
          needed ||= (await refused(words, commands)).length > 0;
        }
        if (!needed) unused.push(`${block}: ${without}`);
      }
    }
    expect(unused).toEqual([]);
  });
});
