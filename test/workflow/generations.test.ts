import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  GenerationGoneError,
  GenerationGroup,
  WorkerCoordinator,
  WorkflowNotifier,
  type FunctionsOptions,
} from '../../src/index.js';
import { MAX_ASIDE } from '../../src/backend/limits.js';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import type { WorkflowStore } from '../../src/backend/workflow-store.js';
import { systemClock } from '../../src/common/clock.js';
import { DIRECT_READ_LIMIT } from '../../src/execution/worker/lanes.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend } from '../harness/gated-backend.js';
import { hosting, Stage } from '../harness/host.js';
import { callInGroups } from './groups.js';
import { connections, hearing } from './hearing.js';

jest.setTimeout(30_000);

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

interface Answer {
  readonly workerId: string;
  readonly version: unknown;
}

const registryOf = (app: INestApplicationContext): EnhancedFunctionRegistry =>
  app.get(EnhancedFunctionRegistry);
const save = async (app: INestApplicationContext, version: unknown): Promise<number> =>
  (await app.get(WorkflowNotifier).notifySaved('flow', version)).generation;

/** More functions than are read directly: who hosts them hears of calls through a bell. */
const MANY = Array.from({ length: DIRECT_READ_LIMIT }, (_, i) => `other${i}`);

/** A worker of `a` and `b`, and maybe others, which answer with the version that it has loaded. */
async function host(
  workerId: string,
  options: FunctionsOptions = {},
  loading: () => unknown = () => undefined,
  others: readonly string[] = [],
): Promise<INestApplicationContext> {
  let version: unknown = null;
  const answer = (): Answer => ({ workerId, version });
  const app = await fleet.start({
    options: { workerId, ...options },
    providers: [
      ...['a', 'b', ...others].map((name) => hosting({ name, workflowId: 'flow' }, answer)),
      hearing('restarting', 'flow', async ({ details }) => {
        await loading();
        version = details;
      }),
    ],
  });
  version = (await app.get(WorkflowNotifier).loadedGeneration('flow')).details;
  return app;
}

const leader = (options: FunctionsOptions = {}): Promise<INestApplicationContext> =>
  fleet.start({ options: { worker: false, ...options } });
const versionOf = async (group: GenerationGroup, name: string): Promise<unknown> =>
  (await group.call<Answer>(name)).version;

describe.each(connections(redisUrl()))('calls at one generation, on $title', ({ connection }) => {
  const options = { connection };

  it('never see half of a save and half of the one before, all through saves and restarts', async () => {
    for (const id of ['w1', 'w2', 'w3']) await host(id, options);
    const app = await leader(options);
    await save(app, 0);
    await registryOf(app).coordinateRestart('flow');
    const groups = callInGroups(registryOf(app));
    const versions = new Map<number, number>();
    for (const version of [1, 2, 3]) {
      const generation = await save(app, version);
      versions.set(generation, version);
      await registryOf(app).coordinateRestart('flow');
      await eventually('a group has seen it', () =>
        groups.seen.some((group) => group.generation === generation && group.versions.length > 0),
      );
    }
    await groups.end();
    for (const { generation, versions: answers, failures } of groups.seen) {
      for (const version of answers) expect(version).toBe(versions.get(generation) ?? 0);
      for (const code of failures) expect(code).toBe('GENERATION_GONE');
    }
  });

  it('run on the workers that have it, whichever worker takes them first', async () => {
    // Two have loaded the old one, one the new one.
    await host('old1', options);
    await host('old2', options);
    const app = await leader(options);
    const old = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    await host('new', options);
    const fresh = await registryOf(app).atGeneration('flow');
    expect(fresh.generation).toBeGreaterThan(old.generation);
    const many = Array.from({ length: 30 }, () => 'a');
    const answers = await Promise.all(many.map((name) => fresh.call<Answer>(name)));
    expect(new Set(answers.map(({ workerId }) => workerId))).toEqual(new Set(['new']));
    const others = await Promise.all(many.map((name) => old.call<Answer>(name)));
    expect(others.every(({ workerId }) => workerId.startsWith('old'))).toBe(true);
  });

  it('run on the workers that have it where these have to be woken by a bell, and the others wait for calls themselves', async () => {
    for (const id of ['old1', 'old2', 'old3']) await host(id, options);
    const app = await leader(options);
    await save(app, 'v2');
    await host('new', options, undefined, MANY);
    const fresh = await registryOf(app).atGeneration('flow');
    for (let i = 0; i < 20; i += 1) expect((await fresh.call<Answer>('a')).workerId).toBe('new');
    const many = Array.from({ length: 100 }, () => fresh.call<Answer>('a'));
    for (const { workerId } of await Promise.all(many)) expect(workerId).toBe('new');
  });

  it('wait for the restart after a save, and run there; unbound ones do not wait', async () => {
    for (const id of ['w1', 'w2']) await host(id, options);
    const app = await leader(options);
    const before = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    const after = await registryOf(app).atGeneration('flow');
    const waiting = versionOf(after, 'a');
    let isAnswered = false;
    void waiting.then(() => (isAnswered = true));
    expect(await versionOf(before, 'a')).toBeNull();
    expect(await registryOf(app).call('a', {}, { workflowId: 'flow' })).toMatchObject({
      version: null,
    });
    expect(isAnswered).toBe(false);
    await registryOf(app).coordinateRestart('flow');
    expect(await waiting).toBe('v2');
    expect(await versionOf(after, 'b')).toBe('v2');
  });

  it('that are pinned fail when no worker of it is left; those of latest move on, all of them', async () => {
    for (const id of ['w1', 'w2']) await host(id, options);
    const app = await leader(options);
    const pinned = await registryOf(app).atGeneration('flow');
    const latest = await registryOf(app).atGeneration('flow', { generation: 'latest' });
    expect(await versionOf(latest, 'a')).toBeNull();
    const generation = await save(app, 'v2');
    await registryOf(app).coordinateRestart('flow');
    // At once, and not when the wait for a worker is over.
    await expect(pinned.call('b', {}, { readinessTimeoutMs: 60_000 })).rejects.toMatchObject({
      code: 'GENERATION_GONE',
      retryable: false,
      details: { functionName: 'b', workflowId: 'flow', generation: pinned.generation },
    });
    expect(await Promise.all([versionOf(latest, 'b'), versionOf(latest, 'a')])).toEqual([
      'v2',
      'v2',
    ]);
    expect(latest.generation).toBe(generation);
    expect(pinned.generation).toBeLessThan(generation);
  });

  it('are answered by a worker of another generation, when the last one of theirs left behind the submission', async () => {
    const stage = new Stage();
    const old = await fleet.start({
      options: { ...options, workerId: 'old', concurrency: 1 },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const app = await leader(options);
    const pinned = await registryOf(app).atGeneration('flow');
    const latest = await registryOf(app).atGeneration('flow', { generation: 'latest' });
    // One runs, and keeps the others in the stream.
    const running = pinned.call('a');
    await stage.started();
    const waiting = pinned.call('a').catch((error: unknown) => error);
    const moving = latest.call<Answer>('a');
    await eventually('they are submitted', async () => {
      const calls = functionRef('a', 'flow');
      return (await app.get<Backend>(BACKEND).calls.backlog(calls)) === 3;
    });
    await save(app, 'v2');
    await host('new', options);
    const stopping = fleet.stop(old);
    await eventually('it drains', () =>
      old
        .get(WorkerCoordinator)
        .workers()
        .every(({ status }) => status === 'draining'),
    );
    stage.finishAll('finished');
    await stopping;
    expect(await running).toBe('finished');
    expect(await waiting).toMatchObject({ code: 'GENERATION_GONE' });
    expect(await moving).toEqual({ workerId: 'new', version: 'v2' });
  });
});

describe('a call that is bound to a generation', () => {
  it('that its busy workers cannot take yet waits for them, and is not passed about without end', async () => {
    const stage = new Stage();
    await fleet.start({
      options: { workerId: 'old', concurrency: 1 },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const app = await leader();
    const old = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    await host('new1');
    await host('new2');
    const first = old.call('a');
    await stage.started();
    const log = await CommandLog.start(redisUrl());
    const second = old.call('a');
    await eventually('it is put aside', async () => {
      return (await fleet.redis.exists(`${fleet.prefix}nf:{a:flow}:aside`)) === 1;
    });
    const scripts = (await log.mentioning(`${fleet.prefix}nf:{a:flow}:aside`)).length;
    log.close();
    expect(scripts).toBeLessThan(20);
    stage.runs[0]?.outcome.resolve('one');
    expect(await first).toBe('one');
    await stage.started(2);
    stage.finishAll('two');
    expect(await second).toBe('two');
  });

  it('costs a few commands a second while its workers are busy, and others are there', async () => {
    const stage = new Stage();
    await fleet.start({
      options: { workerId: 'old', concurrency: 1 },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const app = await leader();
    const old = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    for (const id of ['new1', 'new2', 'new3']) await host(id);
    const first = old.call('a');
    await stage.started();
    const aside = `${fleet.prefix}nf:{a:flow}:aside`;
    const delayed = `${fleet.prefix}nf:delayed`;
    // Each pass, and each return, is one script that has both.
    const at: number[] = [];
    let commands = 0;
    const log = await CommandLog.start(redisUrl(), (source, words) => {
      if (words.some((word) => word.includes(`${fleet.prefix}nf:{a:flow}`))) commands += 1;
      if (source !== 'lua' && words.includes(aside) && words.includes(delayed))
        at.push(performance.now());
    });
    const second = old.call('a');
    // It has met everybody by then, and waits as long as it ever does.
    await eventually('it was passed on often', () => at.length >= 26, 20_000);
    const [before, since] = [commands, at.length];
    await eventually('and some more', () => at.length >= since + 8, 20_000);
    const seconds = ((at.at(-1) ?? 0) - (at[since - 1] ?? 0)) / 1_000;
    log.close();
    // Two passes a second, and as many returns; what these scripts do included.
    expect(8 / seconds).toBeLessThan(5);
    expect((commands - before) / seconds).toBeLessThan(100);
    stage.runs[0]?.outcome.resolve('one');
    expect(await first).toBe('one');
    await stage.started(2);
    stage.finishAll('two');
    expect(await second).toBe('two');
  });

  it('is answered where no more calls are put aside, and does not go round', async () => {
    const stage = new Stage();
    await fleet.start({
      options: { workerId: 'old', concurrency: 1 },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const app = await leader();
    const old = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    await host('new');
    const first = old.call('a');
    await stage.started();
    const aside = `${fleet.prefix}nf:{a:flow}:aside`;
    const fill = "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], 'x' .. i, '') end";
    await fleet.redis.eval(fill, 1, aside, MAX_ASIDE);
    await expect(old.call('a')).rejects.toMatchObject({ code: 'BACKLOG_FULL' });
    stage.finishAll('one');
    expect(await first).toBe('one');
  });

  it('meets its worker at once among many others', async () => {
    await host('old');
    const app = await leader();
    const old = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    const others = Array.from({ length: 12 }, (_, i) => `new${i}`);
    for (const id of others) await host(id, { supervise: false });
    const delayed = `${fleet.prefix}nf:{a:flow}:delayed`;
    let delays = 0;
    const log = await CommandLog.start(redisUrl(), (_source, [name = '', key]) => {
      if (name.toLowerCase() === 'zadd' && key === delayed) delays += 1;
    });
    for (let i = 0; i < 20; i += 1)
      expect(await old.call<Answer>('a')).toMatchObject({ workerId: 'old' });
    const commands = await log.mentioning(`${fleet.prefix}nf:{a:flow}:calls`);
    log.close();
    // Passed on by each of the others once, at the most, and never put aside.
    const passes = commands.filter(({ args }) => args.includes(`${fleet.prefix}nf:{a:flow}:aside`));
    expect(passes.length).toBeLessThanOrEqual(20 * others.length);
    expect(delays).toBe(0);
  });

  it('meets its worker, which has to be woken by a bell, among others that wait at the stream itself', async () => {
    const options = { leaseMs: 1_000 };
    for (const id of ['old1', 'old2', 'old3']) await host(id, { ...options, supervise: false });
    const app = await leader(options);
    await save(app, 'v2');
    await host('new', options, undefined, MANY);
    const fresh = await registryOf(app).atGeneration('flow');
    const aside = `${fleet.prefix}nf:{a:flow}:aside`;
    let delays = 0;
    let waits = 0;
    const log = await CommandLog.start(redisUrl(), (_source, [name = '', key = '']) => {
      if (name.toLowerCase() === 'hset' && key === aside) delays += 1;
      if (name.toLowerCase() === 'blpop' && key.startsWith(fleet.prefix)) waits += 1;
    });
    for (let i = 0; i < 3; i += 1) {
      const since = waits;
      await eventually('it has waited in vain for a while', () => waits >= since + 4);
      expect(await fresh.call<Answer>('a', {}, { timeoutMs: 5_000 })).toMatchObject({
        workerId: 'new',
      });
    }
    await log.mentioning(aside);
    log.close();
    expect(delays).toBe(0);
  });

  it('does not wait for a worker that is about to leave, when newer ones are there', async () => {
    const stage = new Stage();
    const old = await fleet.start({
      options: { workerId: 'old' },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const app = await leader();
    const pinned = await registryOf(app).atGeneration('flow');
    const running = pinned.call('a');
    await stage.started();
    await save(app, 'v2');
    await host('new');
    const stopping = fleet.stop(old);
    const isDraining = async (): Promise<boolean> => {
      const { workers } = await app
        .get<Backend>(BACKEND)
        .workers.snapshot(functionRef('a', 'flow'));
      return workers.some(({ status }) => status === 'draining');
    };
    await eventually('it drains', isDraining);
    await expect(pinned.call('a')).rejects.toMatchObject({ code: 'GENERATION_GONE' });
    expect(await isDraining()).toBe(true);
    stage.finishAll('finished');
    await stopping;
    expect(await running).toBe('finished');
  });

  it('whose worker dies is handed over to another one of its generation', async () => {
    const stage = new Stage();
    const dying = await fleet.start({
      options: { workerId: 'old1' },
      providers: [stage.as({ name: 'a', workflowId: 'flow' })],
    });
    const app = await leader();
    await eventually('somebody supervises', () =>
      [app, dying].some((one) => one.get(WorkerCoordinator).isSupervisor),
    );
    const old = await registryOf(app).atGeneration('flow');
    const call = old.call<Answer>('a');
    await stage.started();
    await host('old2');
    await save(app, 'v2');
    await host('new');
    // Its connections end, and nothing is said.
    await dying.get<Backend>(BACKEND).close();
    expect((await call).workerId).toBe('old2');
    stage.finishAll();
  });

  it('says who has what when nobody has it, and that nobody is there at once when it is asked to', async () => {
    await host('w1');
    const app = await leader();
    await save(app, 'v2');
    const group = await registryOf(app).atGeneration('flow');
    const late = await group.call('a', {}, { readinessTimeoutMs: 50 }).catch((e: unknown) => e);
    expect(late).toMatchObject({ code: 'READINESS_TIMEOUT' });
    expect((late as Error).message).toContain('w1 has loaded 0');
    const nobody = group.call('misspelt', {}, { readinessTimeoutMs: 50 });
    await expect(nobody).rejects.toThrow('no worker ever registered a function of this name');
    await expect(nobody).rejects.not.toThrow('generation');
    await expect(group.call('a', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
    // Saved again before anybody had loaded it: it will not come.
    await save(app, 'v3');
    await expect(group.call('a', {}, { readinessTimeoutMs: 50 })).rejects.toMatchObject({
      code: 'GENERATION_GONE',
    });
  });

  it('comes to its worker although its caller may not hear of it, by polling', async () => {
    for (const id of ['w1', 'w2']) await host(id);
    const deaf = `deaf-${fleet.prefix.replaceAll(/\W/g, '')}`;
    await fleet.redis.acl('SETUSER', deaf, 'on', '>secret', '~*', '+@all', 'resetchannels');
    const connection = redisUrl().replace('redis://', `redis://${deaf}:secret@`);
    const app = await leader({ connection, pollIntervalMs: 20 });
    // It has looked, and waits for nothing: nothing polls.
    await registryOf(app).call('a', {}, { workflowId: 'flow' });
    await save(await leader(), 'v2');
    const group = await registryOf(app).atGeneration('flow');
    const waiting = versionOf(group, 'a');
    await registryOf(await leader()).coordinateRestart('flow');
    expect(await waiting).toBe('v2');
    await fleet.stop(app);
    await fleet.redis.acl('DELUSER', deaf);
  });

  it('and the restart that it waits for find what they wait for although all news are lost', async () => {
    for (const id of ['w1', 'w2']) await host(id);
    const gates = new GatedBackend();
    const { prefix: keyPrefix } = fleet;
    const app = await gates.start(redisUrl(), { keyPrefix, worker: false, pollIntervalMs: 20 });
    try {
      await registryOf(app).waitForWorkflow('flow');
      const arrive = gates.holdNews();
      await save(app, 'v2');
      const group = await registryOf(app).atGeneration('flow');
      const waiting = versionOf(group, 'a');
      expect((await registryOf(app).coordinateRestart('flow')).restarted).toHaveLength(2);
      expect(await waiting).toBe('v2');
      expect(gates.heldNews).toBeGreaterThan(0);
      arrive();
    } finally {
      await app.close();
    }
  });

  it('goes to a worker that was unhealthy for a while: its life tells its generation', async () => {
    // Its own process says so: the caller hears of it, and does not read it.
    const worker = registryOf(await host('w1'));
    const registry = registryOf(await leader());
    const group = await registry.atGeneration('flow');
    await group.call('a');
    const isAvailable = async (): Promise<boolean> =>
      (await registry.getInstantWorkerStatus('a', 'flow')).available;
    await worker.notifyWorkerHealth('a', 'flow', 'w1', false, 'busy');
    await eventually('it is unhealthy', async () => !(await isAvailable()));
    await expect(group.call('a', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
    await worker.notifyWorkerHealth('a', 'flow', 'w1', true);
    await eventually('it is healthy again', isAvailable);
    const answer = await group.call<Answer>('a', {}, { ifUnavailable: 'fail' });
    expect(answer.workerId).toBe('w1');
  });

  it('does not count on a worker of an older library', async () => {
    await host('w1');
    const workers = `${fleet.prefix}nf:{a:flow}:workers`;
    const { generation: _, ...older } = JSON.parse(
      (await fleet.redis.hget(workers, 'w1')) ?? '{}',
    ) as Record<string, unknown>;
    await fleet.redis.hset(workers, 'w1', JSON.stringify(older));
    const group = await registryOf(await leader()).atGeneration('flow');
    const error = await group.call('a', {}, { readinessTimeoutMs: 50 }).catch((e: unknown) => e);
    expect((error as Error).message).toContain('w1 has loaded none that it tells');
  });

  it('shares an idempotency key with calls of its generation only', async () => {
    const runs: string[] = [];
    const start = (workerId: string): Promise<unknown> =>
      fleet.start({
        options: { workerId },
        providers: [hosting({ name: 'a', workflowId: 'flow' }, () => runs.push(workerId))],
      });
    await start('old');
    const app = await leader();
    const old = await registryOf(app).atGeneration('flow');
    await save(app, 'v2');
    await start('new');
    const fresh = await registryOf(app).atGeneration('flow');
    const options = { idempotencyKey: 'k' };
    expect(await Promise.all([old.call('a', {}, options), old.call('a', {}, options)])).toEqual([
      1, 1,
    ]);
    expect(await fresh.call('a', {}, options)).toBe(2);
    expect(runs).toEqual(['old', 'new']);
    await expect(old.call('a', {}, { idempotencyKey: 'k'.repeat(256) })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('is dropped, and its caller told, when its generation was written by hand, and is none', async () => {
    const app = await host('w1');
    const calls = `${fleet.prefix}nf:{a:flow}:calls`;
    for (const payload of [
      '{"p":{},"i":null}',
      '{"p":{},"i":null,"g":"x"}',
      '{"p":{},"i":null,"g":1.5}',
    ])
      await fleet.redis.xadd(calls, '*', 'c', `2 1000  somebody id\t${payload}`);
    await eventually('they are gone', async () => (await fleet.redis.xlen(calls)) === 0);
    expect(await registryOf(app).call('a', {}, { workflowId: 'flow' })).toMatchObject({
      workerId: 'w1',
    });
  });

  it('is bound to the last save, also in a process that hears of none', async () => {
    await host('w1');
    const app = await leader();
    const other = await leader();
    // Nothing here listens to saves.
    const channel = `${fleet.prefix}workflow:saved:flow`;
    expect((await fleet.redis.pubsub('NUMSUB', channel))[1]).toBe(0);
    const before = await registryOf(app).atGeneration('flow');
    for (const version of ['v2', 'v3']) {
      const generation = await save(other, version);
      expect((await registryOf(app).atGeneration('flow')).generation).toBe(generation);
    }
    expect(before.generation).toBe(0);
  });

  it('of a contract is typed, and of this workflow', async () => {
    await host('w1');
    const a = defineFunction<{ n?: number }, Answer>({ name: 'a', workflowId: 'flow' });
    const elsewhere = defineFunction<object, unknown>({ name: 'a', workflowId: 'other' });
    const group = await registryOf(await leader()).atGeneration('flow');
    const { workerId }: Answer = await group.call(a, {});
    expect(workerId).toBe('w1');
    await expect(group.call(elsewhere, {})).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(group.call(a, {}, { generation: 3 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it.each([
    ['INVALID_NAME', '', {}],
    ['INVALID_ARGUMENT', 'flow', { generation: 'newest' }],
    ['INVALID_ARGUMENT', 'flow', { gen: 1 }],
    ['INVALID_ARGUMENT', 'flow', 7],
  ])('is refused with %s for (%j, %j)', async (code, workflowId, options) => {
    const registry = registryOf(await leader());
    await expect(registry.atGeneration(workflowId, options as never)).rejects.toMatchObject({
      code,
    });
  });

  it.each([-1, 1.5, '7', NaN])('is refused for the generation %j', async (generation) => {
    const registry = registryOf(await leader());
    const options = { workflowId: 'flow', generation } as never;
    await expect(registry.call('a', {}, options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});

describe('a group that moves on', () => {
  it('takes a call along that learns later that its generation is gone', async () => {
    let current = 1;
    const store = { current: () => Promise.resolve({ generation: current, details: 'null' }) };
    const calls: { generation: number | undefined; outcome: Deferred<unknown> }[] = [];
    const group = await GenerationGroup.begin(
      store as unknown as WorkflowStore,
      systemClock,
      'flow',
      { generation: 'latest' },
      {
        timeoutMs: 1_000,
        readinessTimeoutMs: 1_000,
        call: (_fn, _parameters, { generation }) => {
          const outcome = createDeferred<unknown>();
          calls.push({ generation, outcome });
          return outcome.promise;
        },
      },
    );
    const both = Promise.all([group.call('a'), group.call('b')]);
    current = 2;
    const gone = new GenerationGoneError('a', 'flow', 1);
    calls[0]?.outcome.reject(gone);
    await eventually('the first is called again', () => calls.length === 3);
    calls[1]?.outcome.reject(gone);
    await eventually('the second, too', () => calls.length === 4);
    calls[2]?.outcome.resolve('a');
    calls[3]?.outcome.resolve('b');
    expect(await both).toEqual(['a', 'b']);
    expect(calls.map(({ generation }) => generation)).toEqual([1, 1, 2, 2]);
    // And no further than to what was saved.
    const last = group.call('c');
    calls[4]?.outcome.reject(new GenerationGoneError('c', 'flow', 2));
    await expect(last).rejects.toBeInstanceOf(GenerationGoneError);
  });
});

describe('a process that loads a workflow', () => {
  it('is of the generation that it asked for, although another one was saved while it loaded', async () => {
    const app = await leader();
    const first = await save(app, 'v1');
    const loading = createDeferred();
    const saved = createDeferred();
    let isFirst = true;
    const worker = await host('w1', {}, async () => {
      if (!isFirst) return;
      isFirst = false;
      loading.resolve();
      await saved.promise;
    });
    const recordOf = async (): Promise<number | undefined> =>
      (await worker.get<Backend>(BACKEND).workers.find(functionRef('a', 'flow'), 'w1'))?.generation;
    expect(await recordOf()).toBe(first);
    const second = await save(app, 'v2');
    const restart = registryOf(app).coordinateRestart('flow', { allowInterruption: true });
    await loading.promise;
    const third = await save(app, 'v3');
    saved.resolve();
    await restart;
    expect(await recordOf()).toBe(second);
    await registryOf(app).coordinateRestart('flow', { only: 'outdated', allowInterruption: true });
    expect(await recordOf()).toBe(third);
  });

  it('keeps it when its session is lost, and brings it back to a Redis that was emptied', async () => {
    const app = await leader();
    const generation = await save(app, 'v1');
    await host('w1', { leaseMs: 400 });
    await fleet.redis.del(...(await fleet.keys()));
    await eventually('it is back', async () => {
      const now = await app.get(WorkflowNotifier).currentGeneration('flow');
      return now.generation === generation;
    });
    const group = await registryOf(app).atGeneration('flow');
    expect((await group.call<Answer>('a')).version).toBe('v1');
  });
});

describe('calls that are bound to nothing', () => {
  it('ask Redis for nothing more, and carry nothing more, in a workflow that was saved', async () => {
    const app = await leader();
    await save(app, 'v1');
    await host('w1');
    const registry = registryOf(app);
    await registry.call('a', {}, { workflowId: 'flow' });
    const log = await CommandLog.start(redisUrl());
    await registry.call('a', {}, { workflowId: 'flow' });
    const commands = await log.mentioning(fleet.prefix);
    log.close();
    expect(commands.filter(({ args }) => args.some((arg) => arg.includes('generation')))).toEqual(
      [],
    );
    const submitted = commands.flatMap(({ args }) => args).find((arg) => /^\d\S* \d+ /.test(arg));
    expect(submitted).toMatch(/^1 /);
    expect(submitted).toMatch(/\{"p":\{\},"i":null\}$/);
  });
});
