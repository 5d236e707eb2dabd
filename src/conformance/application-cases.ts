import assert from 'node:assert/strict';
import { isFunctionsError, type ErrorCode } from '../common/errors.js';
import { DIRECT_READ_LIMIT } from '../execution/worker/lanes.js';
import { WorkerCoordinator } from '../lifecycle/worker-coordinator.js';
import { FunctionReadinessWatcher } from '../readiness/function-readiness-watcher.js';
import { DeadLetters } from '../registry/dead-letters.js';
import { EnhancedFunctionRegistry } from '../registry/enhanced-function-registry.js';
import { applicationCases as cases, HeldRuns, hosting } from './applications.js';
import type { ConformanceCase } from './conformance-case.js';
import { atOnce, becomes, begun } from './patience.js';

/** A supervisor that has just begun gives everybody this long before it declares anybody dead. */
const DEATH_LIMIT_MS = 6_000;

const code =
  (expected: ErrorCode) =>
  (error: unknown): boolean =>
    isFunctionsError(error, expected);

export const applicationCases: readonly ConformanceCase[] = [
  ...cases('Every call settles exactly once at its caller', {
    'a call of an application gets the result, and the error, of its handler': async (apps) => {
      const add = ({ a, b }: Record<string, unknown>): number => Number(a) + Number(b);
      const fail = (): never => {
        throw new TypeError('no such thing');
      };
      await apps.start([hosting('add', add), hosting('fail', fail)]);
      const caller = await apps.caller();
      assert.equal(await caller.call('add', { a: 1, b: 2 }), 3);
      await assert.rejects(caller.call('fail'), code('HANDLER_FAILED'));
    },

    'a thousand calls at once are all answered, each with its own result': async (apps) => {
      const echo = ({ n }: Record<string, unknown>): unknown => n;
      await apps.start([hosting('echo', echo)]);
      await apps.start([hosting('echo', echo)]);
      const caller = await apps.caller();
      const numbers = Array.from({ length: 1_000 }, (_, n) => n);
      assert.deepEqual(await Promise.all(numbers.map((n) => caller.call('echo', { n }))), numbers);
    },

    'progress comes in its order, and before the result': async (apps) => {
      const count = async (_: unknown, context: { progress(n: number): void }): Promise<string> => {
        for (let n = 0; n < 20; n += 1) context.progress(n);
        await Promise.resolve();
        return 'end';
      };
      await apps.start([hosting('count', count)]);
      const told: unknown[] = [];
      const caller = await apps.caller();
      told.push(await caller.call('count', {}, { onProgress: (value) => told.push(value) }));
      assert.deepEqual(told, [...Array.from({ length: 20 }, (_, n) => n), 'end']);
    },
  }),

  ...cases('No missed wake-up', {
    'a call that waits for its worker is answered the moment there is one': async (apps) => {
      const app = await apps.start([], { worker: false });
      const waiting = begun(app.get(EnhancedFunctionRegistry).call('late'));
      const watched = begun(app.get(FunctionReadinessWatcher).waitForFunction('late', 'default'));
      await apps.start([hosting('late', () => 'there')], { workerId: 'w' });
      assert.equal(await atOnce('the call is answered', waiting), 'there');
      assert.equal((await watched).workerId, 'w');
    },

    'calls of more functions than are read directly are answered at once': async (apps) => {
      const names = Array.from({ length: DIRECT_READ_LIMIT + 4 }, (_, n) => `f${n}`);
      await apps.start(names.map((name) => hosting(name, () => name)));
      const caller = await apps.caller();
      for (const name of [names[0], names.at(-1)] as string[])
        assert.equal(await atOnce(`${name} is answered`, caller.call(name)), name);
      assert.deepEqual(await Promise.all(names.map((name) => caller.call(name))), names);
    },
  }),

  ...cases('Nobody there is its own answer', {
    'no worker, one that does not come, and a cancellation are three different errors': async (
      apps,
    ) => {
      const caller = await apps.caller();
      const fails = caller.call('none', {}, { ifUnavailable: 'fail' });
      await assert.rejects(fails, code('NO_WORKER'));
      const late = caller.call('none', {}, { readinessTimeoutMs: 50 });
      await assert.rejects(late, code('READINESS_TIMEOUT'));
      const abort = new AbortController();
      const cancelled = begun(caller.call('none', {}, { signal: abort.signal }));
      abort.abort();
      await assert.rejects(cancelled, code('CALL_CANCELLED'));
    },

    'a worker that says it is unhealthy gets no calls until it is well': async (apps) => {
      const app = await apps.start([hosting('work', () => 'done')], { workerId: 'w' });
      const caller = await apps.caller();
      assert.equal(await caller.call('work'), 'done');
      const registry = app.get(EnhancedFunctionRegistry);
      await registry.notifyWorkerHealth('work', 'default', 'w', false, 'ill');
      await becomes('the caller knows', async () => {
        const { available } = await caller.getInstantWorkerStatus('work', 'default');
        return available ? undefined : true;
      });
      const refused = caller.call('work', {}, { ifUnavailable: 'fail' });
      await assert.rejects(refused, code('NO_WORKER'));
      const waiting = begun(caller.call('work'));
      await registry.notifyWorkerHealth('work', 'default', 'w', true);
      assert.equal(await atOnce('the call that waited is answered', waiting), 'done');
    },
  }),

  ...cases('No call starts after its deadline', {
    'a call that is not finished in time fails then, and its handler is told': async (apps) => {
      const held = new HeldRuns();
      await apps.start([hosting('work', held.run)]);
      const caller = await apps.caller();
      const called = begun(caller.call('work', {}, { timeoutMs: 200 }));
      const { signal } = await held.started;
      await assert.rejects(atOnce('it fails', called), code('DEADLINE_EXCEEDED'));
      await becomes('its handler is told', () => Promise.resolve(signal.aborted || undefined));
      held.end.resolve('too late');
    },

    'a cancellation reaches the handler that runs, and a call that waits does not start': async (
      apps,
    ) => {
      const held = new HeldRuns();
      await apps.start([hosting({ name: 'work', concurrency: 1 }, held.run)]);
      const caller = await apps.caller();
      const aborts = [new AbortController(), new AbortController()];
      const calls = aborts.map(({ signal }) => begun(caller.call('work', {}, { signal })));
      const outcomes = Promise.allSettled(calls);
      const { signal } = await held.started;
      for (const abort of aborts) abort.abort();
      for (const outcome of await outcomes)
        assert.ok(outcome.status === 'rejected' && code('CALL_CANCELLED')(outcome.reason));
      await becomes('its handler is told', () => Promise.resolve(signal.aborted || undefined));
      held.end.resolve(undefined);
      assert.equal(held.contexts.length, 1);
    },
  }),

  ...cases('At least once, fenced', {
    'calls with one idempotency key run once': async (apps) => {
      const held = new HeldRuns();
      await apps.start([hosting('work', held.run)]);
      const [one, other] = [await apps.caller(), await apps.caller()];
      const options = { idempotencyKey: 'k' };
      const calls = [one, other].map((by) => begun(by.call('work', {}, options)));
      await held.started;
      held.end.resolve('once');
      assert.deepEqual(await Promise.all(calls), ['once', 'once']);
      assert.equal(await other.call('work', {}, options), 'once');
      assert.equal(held.contexts.length, 1);
    },

    'a handler that fails is tried again, and its call can be called again from the dead letters':
      async (apps) => {
        const attempts: number[] = [];
        let isWell = false;
        const run = (_: unknown, { attempt }: { attempt: number }): string => {
          attempts.push(attempt);
          if (!isWell) throw new Error('not yet');
          return 'well';
        };
        const retry = { maxAttempts: 3, backoffMs: 1 };
        const app = await apps.start([hosting({ name: 'work', retry }, run)]);
        const caller = await apps.caller();
        await assert.rejects(caller.call('work'), code('HANDLER_FAILED'));
        assert.deepEqual(attempts, [1, 2, 3]);
        const letters = app.get(DeadLetters);
        const [letter] = await letters.list('work', 'default');
        assert.equal(letter?.reason, 'RETRIES_EXHAUSTED');
        isWell = true;
        assert.equal(await letters.retryAll('work', 'default'), 1);
        await becomes('it runs', () => Promise.resolve(attempts.length === 4 || undefined));
        assert.equal(await letters.count('work', 'default'), 0);
      },

    'calls of a process that is gone run elsewhere, or are answered when they must run at most once':
      async (apps) => {
        const held = new HeldRuns();
        const lost = await apps.start([hosting('work', held.run)]);
        const caller = await apps.caller();
        const timeoutMs = 2 * DEATH_LIMIT_MS;
        const calls = [
          begun(caller.call('work', {}, { timeoutMs })),
          begun(caller.call('work', {}, { timeoutMs, delivery: 'at-most-once' })),
        ];
        const outcomes = Promise.allSettled(calls);
        await becomes('both run', () => Promise.resolve(held.contexts.length === 2 || undefined));
        const attempts: number[] = [];
        await apps.start([
          hosting('work', (_, { attempt }) => {
            attempts.push(attempt);
            return `attempt ${attempt}`;
          }),
        ]);
        await apps.vanish(lost);
        const [again, once] = await atOnce('both are settled', outcomes, DEATH_LIMIT_MS);
        held.end.resolve('too late');
        assert.deepEqual(again, { status: 'fulfilled', value: 'attempt 2' });
        assert.ok(once?.status === 'rejected' && code('WORKER_LOST')(once.reason));
        assert.deepEqual(attempts, [2]);
      },
  }),

  ...cases('Drain', {
    'a worker that is shut down finishes what runs, and its place is taken without a lost call':
      async (apps) => {
        const runs = new Map<unknown, number>();
        const work = async ({ n }: Record<string, unknown>): Promise<unknown> => {
          runs.set(n, (runs.get(n) ?? 0) + 1);
          await new Promise((resolve) => setTimeout(resolve, 2));
          return n;
        };
        let app = await apps.start([hosting('work', work)]);
        const caller = await apps.caller();
        const answers: Promise<unknown>[] = [];
        for (let turn = 0; turn < 3; turn += 1) {
          for (let n = 0; n < 100; n += 1)
            answers.push(begun(caller.call('work', { n: turn * 100 + n })));
          const next = await apps.start([hosting('work', work)]);
          await apps.stop(app);
          app = next;
        }
        const numbers = Array.from({ length: 300 }, (_, n) => n);
        assert.deepEqual(await Promise.all(answers), numbers);
        assert.deepEqual([...new Set(runs.values())], [1], 'each ran once');
        assert.equal(app.get(WorkerCoordinator).state, 'active');
      },
  }),
];
