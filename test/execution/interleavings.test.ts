import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import type { Backend } from '../../src/backend/backend.js';
import type { CallReader, CallStreams, RawCall } from '../../src/backend/call-streams.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { BACKEND, KEYS } from '../../src/backend/tokens.js';
import {
  BackendUnavailableError,
  CallCancelledError,
  EnhancedFunctionRegistry,
  FunctionLifecycleNotifier,
  WorkerCoordinator,
  type FunctionsOptions,
} from '../../src/index.js';
import type { Keys } from '../../src/protocol/keys.js';
import { Fleet, redisUrl, rootModule } from '../harness/apps.js';
import { condemnAll } from '../harness/condemn.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { Stage } from '../harness/host.js';

type Gate = 'connecting' | 'before' | 'after';

/** A real reader whose reads stand still, before Redis sees them or before the worker sees their answer. */
class ReadGate {
  private gate: { where: Gate; reached: Deferred<void>; open: Deferred<void> } | undefined;

  /**
   * Holds the next look whether it is connected, the next read that waits for calls (`before`), or the next answer
   * that brings some (`after`).
   */
  hold(where: Gate): { reached: Promise<void>; release: () => void } {
    const gate = { where, reached: createDeferred(), open: createDeferred() };
    this.gate = gate;
    return { reached: gate.reached.promise, release: () => gate.open.resolve() };
  }

  /** How many releases from now on do not reach Redis. */
  lostReleases = 0;
  /** Whether writing fails in the same tick, as on a connection that has just ended. */
  refusing = false;
  refused = 0;
  /** How often a read that did not end was broken off. */
  resets = 0;
  /** How many answers that bring calls are lost on their way, with the connection. */
  lostAnswers = 0;

  wrap(backend: Backend): Backend {
    const { calls } = backend;
    const openReader = (consumer: string): CallReader =>
      this.wrapReader(calls.openReader(consumer));
    const release: CallStreams['release'] = (...args) => {
      if (this.lostReleases === 0) return calls.release(...args);
      this.lostReleases -= 1;
      return Promise.reject(new BackendUnavailableError('release', backend.address));
    };
    const conclude: CallStreams['conclude'] = (outcomes, consumer) =>
      this.refuses() ? this.unsent(backend) : calls.conclude(outcomes, consumer);
    const submit: CallStreams['submit'] = (submissions, terms) =>
      this.refuses() ? this.unsent(backend) : calls.submit(submissions, terms);
    const port = overriding(calls, { openReader, release, conclude, submit });
    return overriding(backend, { calls: port });
  }

  /** Gives up refusing at some point: a loop that starves the event loop would never let the test end it. */
  private refuses(): boolean {
    if (!this.refusing || this.refused >= 2_000) return false;
    this.refused += 1;
    return true;
  }

  private unsent(backend: Backend): Promise<never> {
    return Promise.reject(new BackendUnavailableError('writing', backend.address));
  }

  private wrapReader(reader: CallReader): CallReader {
    const read: CallReader['read'] = async (refs, count, blockMs) => {
      if (blockMs > 0) await this.pass('before');
      const found: RawCall[] = await reader.read(refs, count, blockMs);
      if (found.length > 0 && this.lostAnswers > 0) {
        this.lostAnswers -= 1;
        reader.reset();
        throw new BackendUnavailableError('XREADGROUP', 'the test');
      }
      if (found.length > 0) await this.pass('after');
      return found;
    };
    const whenConnected = async (): Promise<void> => {
      await reader.whenConnected();
      await this.pass('connecting');
    };
    const reset = (): void => {
      this.resets += 1;
      reader.reset();
    };
    return overriding(reader, { read, whenConnected, reset });
  }

  private async pass(where: Gate): Promise<void> {
    const gate = this.gate;
    if (gate?.where !== where) return;
    this.gate = undefined;
    gate.reached.resolve();
    await gate.open.promise;
  }
}

function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      if (name in own) return own[name as keyof T];
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function'
        ? (value as (...args: unknown[]) => unknown).bind(target)
        : value;
    },
  });
}

let fleet: Fleet;
let gate: ReadGate;
const apps: INestApplicationContext[] = [];

beforeEach(() => {
  fleet = new Fleet();
  gate = new ReadGate();
});
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  await fleet.close();
});

async function startGated(providers: Type<unknown>[], options: FunctionsOptions = {}) {
  const module = await Test.createTestingModule({
    imports: [rootModule({ keyPrefix: fleet.prefix, ...options }, { providers })],
  })
    .overrideProvider(BACKEND)
    .useFactory({
      factory: (keys: Keys) => gate.wrap(new RedisBackend(redisUrl(), keys)),
      inject: [KEYS],
    })
    .compile();
  const app = await module.init();
  apps.push(app);
  return app;
}

const calls = (name: string): string => `${fleet.prefix}nf:{${name}:default}:calls`;

const submit = (name: string, callId: string): Promise<string | null> =>
  fleet.redis.xadd(calls(name), '*', ...['c', `1 60000  nobody ${callId}\t{"p":{},"i":null}`]);

const ids = (stage: Stage): string[] => stage.runs.map(({ callId }) => callId);

describe('calls that one read brings beyond the free places', () => {
  /** One place, taken by `a`; `b` is delivered and waits for it. */
  async function withPrefetched() {
    const stage = new Stage();
    // A short lease, so that the next waiting read comes soon.
    const options = { concurrency: 1, leaseMs: 1_000 };
    const app = await startGated([stage.as('a'), stage.as('b')], options);
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.waitForFunction('b', 'default', 10_000);
    const held = gate.hold('before');
    await held.reached;
    const abort = new AbortController();
    const first = registry.call('a', {});
    const second = registry.call('b', {}, { signal: abort.signal });
    const refused = second.catch((error: unknown) => error);
    await eventually('both are in their streams', async () => {
      expect(await fleet.redis.xlen(calls('a'))).toBe(1);
      expect(await fleet.redis.xlen(calls('b'))).toBe(1);
    });
    held.release();
    await stage.started();
    expect(stage.runs.map(({ context }) => context.functionName)).toEqual(['a']);
    expect(await fleet.redis.xpending(calls('b'), 'workers')).toContain(1);
    return { app, stage, abort, first, second, refused };
  }

  it('wait for a place and start when it frees', async () => {
    const { stage, first, second } = await withPrefetched();
    stage.runs[0]?.outcome.resolve(1);
    (await stage.started(2)).outcome.resolve(2);
    await expect(Promise.all([first, second])).resolves.toEqual([1, 2]);
    expect(stage.peak).toBe(1);
  });

  it('never start when they are cancelled meanwhile', async () => {
    const { stage, abort, first, refused } = await withPrefetched();
    abort.abort();
    expect(await refused).toBeInstanceOf(CallCancelledError);
    await eventually('its entry is gone', async () => (await fleet.redis.xlen(calls('b'))) === 0);
    stage.runs[0]?.outcome.resolve(1);
    await first;
    await fleet.redis.ping();
    expect(stage.runs).toHaveLength(1);
  });

  it('are handed back by a drain and run elsewhere, as their first attempt', async () => {
    const { app, stage, first, second } = await withPrefetched();
    const drained = app.get(WorkerCoordinator).drain();
    const other = new Stage();
    await fleet.start({ providers: [other.as('b')] });
    const run = await other.started();
    expect(run.context.attempt).toBe(1);
    run.outcome.resolve('elsewhere');
    await expect(second).resolves.toBe('elsewhere');
    stage.finishAll('here');
    await expect(first).resolves.toBe('here');
    await expect(drained).resolves.toEqual({ finished: 1, handedBack: 1 });
  });

  it('are handed back when their function becomes unhealthy', async () => {
    const { app, stage, first, second } = await withPrefetched();
    await app.get(FunctionLifecycleNotifier).forFunction('b').notifyUnhealthy('timeout');
    const other = new Stage();
    await fleet.start({ providers: [other.as('b')] });
    (await other.started()).outcome.resolve('elsewhere');
    await expect(second).resolves.toBe('elsewhere');
    stage.finishAll('here');
    await expect(first).resolves.toBe('here');
  });
});

describe('a connection that has ended, and is not known to have', () => {
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  };

  it('lets the event loop turn while a call cannot be written, which is written in the end', async () => {
    const stage = new Stage();
    const registry = (await startGated([stage.as('work')])).get(EnhancedFunctionRegistry);
    await registry.waitForFunction('work', 'default', 10_000);
    gate.refusing = true;
    const call = registry.call('work');
    await turns();
    gate.refusing = false;
    expect(gate.refused).toBeLessThan(100);
    (await stage.started()).outcome.resolve('in the end');
    await expect(call).resolves.toBe('in the end');
  });

  it('lets the event loop turn while an outcome cannot be written, which is written in the end', async () => {
    const stage = new Stage();
    const registry = (await startGated([stage.as('work')])).get(EnhancedFunctionRegistry);
    const call = registry.call('work');
    const { outcome } = await stage.started();
    gate.refusing = true;
    outcome.resolve('in the end');
    await eventually('it was tried', () => gate.refused > 0);
    await turns();
    gate.refusing = false;
    expect(gate.refused).toBeLessThan(100);
    await expect(call).resolves.toBe('in the end');
  });
});

describe('a call that Redis delivered into a connection that was lost', () => {
  const finished = (): Promise<void> =>
    eventually('nothing is left', async () =>
      expect(await fleet.redis.xlen(calls('work'))).toBe(0),
    );

  it('is found on the next connection and runs, once, as its first attempt', async () => {
    const stage = new Stage();
    await startGated([stage.as('work')]);
    gate.lostAnswers = 1;
    await submit('work', 'lost');
    const run = await stage.started();
    expect(gate.lostAnswers).toBe(0);
    expect([run.callId, run.context.attempt]).toEqual(['lost', 1]);
    run.outcome.resolve(1);
    await finished();
    expect(ids(stage)).toEqual(['lost']);
  });

  it('is found while another one runs, which is not started again', async () => {
    const stage = new Stage();
    await startGated([stage.as('work')]);
    await submit('work', 'runs');
    await stage.started();
    gate.lostAnswers = 1;
    await submit('work', 'lost');
    await stage.started(2);
    stage.finishAll();
    await finished();
    expect(ids(stage)).toEqual(['runs', 'lost']);
  });

  it('is found when the server served the old connection after the new one was made', async () => {
    const stage = new Stage();
    await startGated([stage.as('work')], { leaseMs: 1_000 });
    gate.lostAnswers = 1;
    await submit('work', 'first');
    (await stage.started()).outcome.resolve(1);
    const held = gate.hold('before');
    await held.reached;
    // What the server does when it has not noticed yet: it delivers to this consumer, into nowhere.
    await submit('work', 'second');
    const consumers = await fleet.redis.xinfo('CONSUMERS', calls('work'), 'workers');
    const [[, consumer]] = consumers as [[string, string]];
    await fleet.redis.xreadgroup(
      ...(['GROUP', 'workers', consumer, 'STREAMS', calls('work'), '>'] as const),
    );
    held.release();
    const run = await stage.started(2);
    expect([run.callId, run.context.attempt]).toEqual(['second', 1]);
    run.outcome.resolve(1);
    await finished();
  });
});

describe('calls that a read brings after it was decided not to take any', () => {
  /** An answer with a call is on its way to the worker while `decide` is carried out. */
  async function withAnswerUnderWay() {
    const stage = new Stage();
    const app = await startGated([stage.as('work')]);
    const held = gate.hold('after');
    await submit('work', 'under-way');
    await held.reached;
    return { stage, app, held };
  }

  async function expectRunsElsewhere(stage: Stage): Promise<void> {
    const other = new Stage();
    await fleet.start({ providers: [other.as('work')] });
    const run = await other.started();
    expect([run.callId, run.context.attempt]).toEqual(['under-way', 1]);
    run.outcome.resolve(1);
    expect(ids(stage)).toEqual([]);
    await eventually('nothing is left', async () => (await fleet.redis.xlen(calls('work'))) === 0);
  }

  it('are handed back, not started, after notifyUnhealthy', async () => {
    const { stage, app, held } = await withAnswerUnderWay();
    await app.get(FunctionLifecycleNotifier).notifyUnhealthy('timeout');
    held.release();
    await expectRunsElsewhere(stage);
  });

  it('are handed back in the end when Redis was lost while they were handed back', async () => {
    const { stage, app, held } = await withAnswerUnderWay();
    await app.get(FunctionLifecycleNotifier).notifyUnhealthy('timeout');
    gate.lostReleases = 3;
    held.release();
    await expectRunsElsewhere(stage);
    expect(gate.lostReleases).toBe(0);
  });

  it('are handed back, not started, by a drain', async () => {
    const { stage, app, held } = await withAnswerUnderWay();
    const drained = app.get(WorkerCoordinator).drain();
    await eventually('the shutdown is told', async () => {
      const records = await fleet.redis.hvals(`${fleet.prefix}nf:{work:default}:workers`);
      expect(records).toEqual([expect.stringContaining('"draining"')]);
    });
    // The worker's own answer was written before this one's.
    await fleet.redis.ping();
    held.release();
    await drained;
    await expectRunsElsewhere(stage);
  });

  it('are handed back, not started, by coordinateShutdown', async () => {
    const { stage, app, held } = await withAnswerUnderWay();
    const { workerId } = app.get(WorkerCoordinator);
    const registry = app.get(EnhancedFunctionRegistry);
    const ended = registry.coordinateShutdown('work', 'default', workerId);
    await eventually('it drains', () =>
      expect(app.get(WorkerCoordinator).workers()[0]?.status).toBe('draining'),
    );
    held.release();
    await ended;
    await expectRunsElsewhere(stage);
  });

  it('are started once when the worker is healthy again before they come', async () => {
    const { stage, app, held } = await withAnswerUnderWay();
    const notifier = app.get(FunctionLifecycleNotifier);
    await notifier.notifyUnhealthy('timeout');
    await notifier.notifyHealthy();
    held.release();
    (await stage.started()).outcome.resolve(1);
    await eventually('nothing is left', async () => (await fleet.redis.xlen(calls('work'))) === 0);
    expect(ids(stage)).toEqual(['under-way']);
  });

  it('are the next owner’s when the lease is lost before they come', async () => {
    const { stage, app, held } = await withAnswerUnderWay();
    const lost = createDeferred();
    app.get(WorkerCoordinator).on('lost', () => lost.resolve());
    await condemnAll(fleet);
    await lost.promise;
    held.release();
    const run = await stage.started();
    expect([run.callId, run.context.attempt]).toEqual(['under-way', 2]);
    run.outcome.resolve(1);
    await eventually('nothing is left', async () => (await fleet.redis.xlen(calls('work'))) === 0);
    expect(ids(stage)).toEqual(['under-way']);
  });
});

describe('a drain that begins between two reads', () => {
  it('has no further one to wait for', async () => {
    const stage = new Stage();
    const app = await startGated([stage.as('work')]);
    await app.get(EnhancedFunctionRegistry).waitForFunction('work', 'default', 10_000);
    const held = gate.hold('connecting');
    await submit('work', 'last');
    (await stage.started()).outcome.resolve(1);
    await held.reached;
    const drained = app.get(WorkerCoordinator).drain();
    await eventually('the shutdown is told', async () => {
      const records = await fleet.redis.hvals(`${fleet.prefix}nf:{work:default}:workers`);
      expect(records).toEqual([expect.stringContaining('"draining"')]);
    });
    // The worker's own answer was written before this one's.
    await fleet.redis.ping();
    held.release();
    await drained;
    expect(gate.resets).toBe(0);
  });
});
