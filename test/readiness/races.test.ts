import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionReadinessWatcher,
  NotificationManager,
  type WorkerInfo,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend, type GatedCall, type Stage } from '../harness/gated-backend.js';
import { killSubscribers } from '../harness/kill-subscribers.js';

/** Neither polling nor its safety net may help: what is shown here, notifications and reads do alone. */
const NO_POLLING = { pollIntervalMs: 60_000 };
const FN = ['resize', 'media'] as const;

let redis: StartedRedis;
let fleet: Fleet;
let gates: GatedBackend;
let caller: INestApplicationContext;
let watcher: FunctionReadinessWatcher;
let workers: EnhancedFunctionRegistry;

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  fleet = new Fleet(redis.url);
  gates = new GatedBackend();
  caller = await gates.start(redis.url, {
    keyPrefix: fleet.prefix,
    worker: false,
    ...NO_POLLING,
  });
  watcher = caller.get(FunctionReadinessWatcher);
  // Nor may its heartbeat, which tells its health every now and then.
  const worker = await fleet.start({ options: { leaseMs: 60_000 } });
  workers = worker.get(EnhancedFunctionRegistry);
});
afterEach(async () => {
  await caller.close();
  await fleet.close();
});

/** Where in the hand-shake of a watch the world changes. */
type Moment = readonly [title: string, call: GatedCall | undefined, stage: Stage];

const moments: readonly Moment[] = [
  ['before the watch subscribes', 'bus.subscribe', 'before'],
  ['between the subscription and its acknowledgement', 'bus.subscribe', 'after'],
  ['between the acknowledgement and the read', 'workers.snapshot', 'before'],
  ['while the read is under way', 'workers.snapshot', 'after'],
  ['after the read', undefined, 'after'],
];

/** Whether the news are delivered before, or only after, the call that was held goes on. */
const deliveries = ['at once', 'late'] as const;

const table = moments.flatMap(([title, call, stage]) =>
  deliveries.map((delivery) => ({ title, call, stage, delivery })),
);
type Row = (typeof table)[number];

interface Wait {
  readonly outcome: Promise<WorkerInfo>;
  /** Who it was released with, once it was. */
  worker(): WorkerInfo | undefined;
}

function wait(): Wait {
  const outcome = watcher.waitForFunction(...FN, 15_000);
  let released: WorkerInfo | undefined;
  outcome.then(
    (worker) => (released = worker),
    () => undefined,
  );
  return { outcome, worker: () => released };
}

/** Starts a wait, stops the watch at the row's moment, changes the world, and lets everything go on. */
async function race({ call, stage, delivery }: Row, change: () => Promise<unknown>): Promise<Wait> {
  const held = call === undefined ? undefined : gates.hold(call, stage);
  const waiting = wait();
  if (held === undefined) await eventually('the watch is live', isLive);
  await held?.reached;
  const deliver = gates.holdNews();
  const subscribed = call !== 'bus.subscribe' || stage === 'after';
  await change();
  if (subscribed) await eventually('the news are on their way', () => gates.heldNews > 0);
  if (delivery === 'at once') deliver();
  held?.release();
  if (delivery === 'late') {
    await eventually('the hand-shake is over', isLive);
    deliver();
  }
  return waiting;
}

/** The hand-shake is over. Looking must not help it: a question to the watcher could start another read. */
function isLive(): boolean {
  return gates.answered('workers.snapshot') > 0;
}

describe('a waiter', () => {
  it.each(table)(
    'is released by a worker that becomes ready $title, news $delivery',
    async (row) => {
      const waiting = await race(row, () => workers.registerWorker('w1', ...FN));
      await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
    },
  );

  it.each(table)(
    'is released by a worker that left before and comes back $title, news $delivery',
    async (row) => {
      const first = await workers.registerWorker('w1', ...FN);
      await workers.unregisterWorker('w1', ...FN);
      const waiting = await race(row, () => workers.registerWorker('w1', ...FN));
      const released = await waiting.outcome;
      expect(released).toMatchObject({ workerId: 'w1' });
      expect(released.epoch).toBeGreaterThan(first.epoch);
    },
  );

  it.each(table)(
    'is released with the last of three lives that a worker has $title, news $delivery',
    async (row) => {
      const waiting = await race(row, async () => {
        for (const last of [false, false, true]) {
          await workers.registerWorker('w1', ...FN);
          if (!last) await workers.unregisterWorker('w1', ...FN);
        }
      });
      await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
      const [record] = await workers.getAvailableWorkers(...FN);
      await eventually('memory knows the last life', async () => {
        const { epoch } = await watcher.waitForFunction(...FN, 0);
        return epoch === record?.epoch;
      });
    },
  );

  it.each(table.filter(({ call }) => call !== undefined))(
    'is not released by a worker that leaves $title, news $delivery, unless the read still saw it',
    async (row) => {
      await workers.registerWorker('w1', ...FN);
      const waiting = await race(row, () => workers.unregisterWorker('w1', ...FN));
      const sawIt =
        row.call === 'workers.snapshot' && row.stage === 'after' && row.delivery === 'late';
      await eventually('the hand-shake is over', isLive);
      await eventually('memory knows that it left', async () => {
        const status = await caller.get(EnhancedFunctionRegistry).getInstantWorkerStatus(...FN);
        return status.workers === 0;
      });
      expect(waiting.worker()?.workerId).toBe(sawIt ? 'w1' : undefined);
      await workers.registerWorker('w2', ...FN);
      await expect(waiting.outcome).resolves.toMatchObject({ workerId: sawIt ? 'w1' : 'w2' });
    },
  );

  it.each(table)(
    'is released by a worker that was unhealthy and is healthy $title, news $delivery',
    async (row) => {
      await workers.registerWorker('w1', ...FN);
      await workers.markWorkerUnhealthy('w1', ...FN);
      const waiting = await race(row, () => workers.updateWorkerHealth('w1', ...FN, true));
      await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
    },
  );
});

describe('a waiter whose subscriber is killed', () => {
  it.each(table.filter(({ call }) => call !== undefined))(
    'is released by a worker that becomes ready $title anew, news $delivery',
    async ({ call, stage, delivery }) => {
      const waiting = wait();
      await eventually('the watch is live', isLive);
      const held = gates.hold(call ?? 'bus.subscribe', stage);
      await killSubscribers(fleet.redis);
      await held.reached;
      const deliver = gates.holdNews();
      await workers.registerWorker('w1', ...FN);
      if (delivery === 'at once') deliver();
      held.release();
      if (delivery === 'late') {
        await eventually(
          'it is connected',
          () => caller.get(NotificationManager).state === 'connected',
        );
        deliver();
      }
      await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
    },
  );

  it('is released by a worker whose ready was told while nobody could hear it', async () => {
    const manager = caller.get(NotificationManager);
    const waiting = wait();
    await eventually('the watch is live', isLive);
    const lost = new Promise<void>((resolve) => {
      manager.on('disconnected', () => resolve());
    });
    const resubscribing = gates.hold('bus.subscribe', 'before');
    await killSubscribers(fleet.redis);
    await lost;
    await resubscribing.reached;
    await workers.registerWorker('w1', ...FN);
    expect(waiting.worker()).toBeUndefined();
    resubscribing.release();
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
  });
});

describe('a read that fails', () => {
  it('is made good by the next one, and the waiter is released', async () => {
    const held = gates.hold('workers.snapshot', 'before');
    const waiting = wait();
    await held.reached;
    // The connection for commands breaks under the read; the worker is ready before it is read again.
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await eventually('the worker could register', async () => {
      await workers.registerWorker('w1', ...FN);
    });
    held.release();
    await expect(waiting.outcome).resolves.toMatchObject({ workerId: 'w1' });
  });
});
