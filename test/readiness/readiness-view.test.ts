import { describe, expect, it } from '@jest/globals';
import type { FunctionSnapshot } from '../../src/backend/worker-store.js';
import type { Notification } from '../../src/protocol/notification.js';
import type { WorkerRecord } from '../../src/protocol/worker-record.js';
import { ReadinessView, type Applied, type Sync } from '../../src/readiness/readiness-view.js';
import { Random } from '../harness/random.js';

/** The registry as the scripts in Redis keep it: records, and a notification for each change, in one step. */
class Registry {
  now = 1_000;
  readonly told: Notification[] = [];
  private readonly records = new Map<string, WorkerRecord>();
  private lastEpoch = 0;

  /** How far the clock goes on with a change; 0 is many changes in one millisecond. */
  constructor(private readonly tick: () => number) {}

  register(workerId: string, session: string): void {
    this.now += this.tick();
    const before = this.records.get(workerId);
    const again = before?.processId === session;
    const epoch = again
      ? before.epoch
      : Math.max(this.now, this.lastEpoch + 1, (before?.epoch ?? 0) + 1);
    this.put(
      {
        workerId,
        processId: session,
        epoch,
        seq: again ? before.seq + 1 : 1,
        status: 'ready',
        timestamp: this.now,
        definition: '',
      },
      { type: 'ready' },
    );
  }

  change(workerId: string, status: WorkerRecord['status']): void {
    const before = this.records.get(workerId);
    if (before === undefined) return;
    if (before.status === 'draining' && status !== 'draining') return;
    this.now += this.tick();
    const record: WorkerRecord = { ...before, seq: before.seq + 1, timestamp: this.now, status };
    this.put(
      record,
      status === 'draining'
        ? { type: 'shutdown', estimatedDowntimeMs: 10 }
        : { type: 'health', healthy: status === 'ready' },
    );
  }

  unregister(workerId: string): void {
    const before = this.records.get(workerId);
    if (before === undefined) return;
    this.now += this.tick();
    this.records.delete(workerId);
    this.lastEpoch = Math.max(this.lastEpoch, before.epoch);
    this.tell(
      { ...before, seq: before.seq + 1, timestamp: this.now },
      {
        type: 'offline',
        reason: 'shutdown',
      },
    );
  }

  read(): FunctionSnapshot {
    return {
      workers: [...this.records.values()],
      stale: [],
      definition: undefined,
      fingerprint: '',
      timestamp: this.now,
    };
  }

  private put(record: WorkerRecord, news: object): void {
    this.records.set(record.workerId, record);
    this.tell(record, news);
  }

  private tell({ workerId, epoch, seq, timestamp }: WorkerRecord, news: object): void {
    const base = { functionName: 'f', workflowId: 'w', workerId, epoch, seq, timestamp };
    this.told.push({ ...base, ...news } as Notification);
  }
}

const stateOf = (workers: readonly { workerId: string; status: string }[]): string[] =>
  workers.map(({ workerId, status }) => `${workerId} ${status}`).sort();

function readNow(view: ReadinessView, registry: Registry): void {
  view.applySnapshot(registry.read(), view.beginSync());
}

/** A worker's life, step by step, and what the registry says after each. */
const LIFE: readonly { step: string; act: (registry: Registry) => void; then: string[] }[] = [
  { step: 'ready', act: (r) => r.register('w', 's1'), then: ['w ready'] },
  { step: 'unhealthy', act: (r) => r.change('w', 'unhealthy'), then: ['w unhealthy'] },
  { step: 'healthy', act: (r) => r.change('w', 'ready'), then: ['w ready'] },
  { step: 'ready again', act: (r) => r.register('w', 's1'), then: ['w ready'] },
  { step: 'shutdown', act: (r) => r.change('w', 'draining'), then: ['w draining'] },
  { step: 'offline', act: (r) => r.unregister('w'), then: [] },
  { step: 'ready in a new epoch', act: (r) => r.register('w', 's1'), then: ['w ready'] },
  { step: 'ready elsewhere', act: (r) => r.register('w', 's2'), then: ['w ready'] },
];

function live(steps: number): Registry {
  const registry = new Registry(() => 1);
  for (const { act } of LIFE.slice(0, steps)) act(registry);
  return registry;
}

/** All pairs of steps, in the order in which they happen. */
const PAIRS = LIFE.flatMap((_, second) =>
  LIFE.slice(0, second).map((__, first) => ({ first, second })),
).map(({ first, second }) => ({
  first,
  second,
  firstStep: LIFE[first]?.step ?? '',
  secondStep: LIFE[second]?.step ?? '',
}));

describe('two notifications', () => {
  /** What a watch does: it reads the registry when the view does not know the worker. */
  function hear(view: ReadinessView, registry: Registry, order: readonly number[]): void {
    for (const index of order) {
      const applied = view.applyNotification(registry.told[index] as Notification);
      if (applied === 'unknown-worker') readNow(view, registry);
    }
  }

  it.each(PAIRS)(
    'end with the later one, in the order in which they happened: $firstStep, $secondStep',
    ({ first, second }) => {
      const registry = live(second + 1);
      const view = new ReadinessView();
      hear(view, registry, [first, second]);
      expect(stateOf(view.workers())).toEqual(LIFE[second]?.then);
    },
  );

  it.each(PAIRS)(
    'end with the later one, the other way round: $secondStep, $firstStep',
    ({ first, second }) => {
      const registry = live(second + 1);
      const view = new ReadinessView();
      hear(view, registry, [second, first]);
      expect(stateOf(view.workers())).toEqual(LIFE[second]?.then);
    },
  );

  it.each(PAIRS)(
    'end with the later one, the other way round, after a read before both: $secondStep, $firstStep',
    ({ first, second }) => {
      const view = new ReadinessView();
      readNow(view, live(0));
      const registry = live(second + 1);
      hear(view, registry, [second, first]);
      expect(stateOf(view.workers())).toEqual(LIFE[second]?.then);
    },
  );
});

describe('a notification and a read of the registry', () => {
  const STEPS = LIFE.map(({ step, then }, index) => ({ step, then, index }));

  /** A view that has heard everything before a step, and the registry before and after the step. */
  function before(index: number): {
    view: ReadinessView;
    old: FunctionSnapshot;
    registry: Registry;
    news: Notification;
  } {
    const view = new ReadinessView();
    readNow(view, live(index));
    const registry = live(index + 1);
    return { view, old: live(index).read(), registry, news: registry.told[index] as Notification };
  }

  it.each(STEPS)('end with the notification when the read began before it: $step', (step) => {
    const { view, old, news } = before(step.index);
    const sync = view.beginSync();
    view.applyNotification(news);
    view.applySnapshot(old, sync);
    expect(stateOf(view.workers())).toEqual(step.then);
  });

  it.each(STEPS)(
    'end with the notification when it is heard after an older read: $step',
    (step) => {
      const { view, old, news } = before(step.index);
      view.applySnapshot(old, view.beginSync());
      view.applyNotification(news);
      expect(stateOf(view.workers())).toEqual(step.then);
    },
  );

  it.each(STEPS)('agree when the read has what is heard afterwards: $step', (step) => {
    const { view, registry, news } = before(step.index);
    view.applySnapshot(registry.read(), view.beginSync());
    view.applyNotification(news);
    expect(stateOf(view.workers())).toEqual(step.then);
  });

  it.each(STEPS)('agree when the read has what is heard meanwhile: $step', (step) => {
    const { view, registry, news } = before(step.index);
    const sync = view.beginSync();
    view.applyNotification(news);
    view.applySnapshot(registry.read(), sync);
    expect(stateOf(view.workers())).toEqual(step.then);
  });

  it('end with the read when the notification is of a worker that left before it', () => {
    const registry = live(6);
    const view = new ReadinessView();
    registry.now += 1;
    readNow(view, registry);
    expect(view.applyNotification(registry.told[0] as Notification)).toBe('stale');
    expect(view.workers()).toEqual([]);
  });

  it('end with the last read when two reads overtake each other', () => {
    const view = new ReadinessView();
    const first = view.beginSync();
    const old = live(0).read();
    const second = view.beginSync();
    view.applySnapshot(live(1).read(), second);
    view.applySnapshot(old, first);
    expect(stateOf(view.workers())).toEqual(['w ready']);
  });

  it('end with the read when the notification was written by hand, from far in the future', () => {
    const view = new ReadinessView();
    const registry = live(1);
    readNow(view, registry);
    const forged: Notification = {
      ...(live(6).told[5] as Notification & { type: 'offline' }),
      epoch: Number.MAX_SAFE_INTEGER,
      timestamp: Number.MAX_SAFE_INTEGER,
    };
    expect(view.applyNotification(forged)).toBe('applied');
    readNow(view, registry);
    expect(stateOf(view.workers())).toEqual(['w ready']);
  });

  it('end with the read when the clock of Redis was set back', () => {
    const view = new ReadinessView();
    const ahead = live(0);
    ahead.now += 60_000;
    readNow(view, ahead);
    readNow(view, live(1));
    expect(stateOf(view.workers())).toEqual(['w ready']);
  });

  it('leave what was known when the read fails', () => {
    const view = new ReadinessView();
    readNow(view, live(1));
    view.abandonSync(view.beginSync());
    expect(stateOf(view.workers())).toEqual(['w ready']);
  });
});

describe('any interleaving', () => {
  const WORKERS = ['a', 'b', 'c'];

  /** Something happens in the registry. */
  function happen(random: Random, registry: Registry): void {
    const worker = random.pick(WORKERS);
    switch (random.below(6)) {
      case 0:
      case 1:
        return registry.register(worker, `s${random.below(2)}`);
      case 2:
        return registry.unregister(worker);
      case 3:
        return registry.change(worker, 'draining');
      default:
        return registry.change(worker, random.pick(['ready', 'unhealthy']));
    }
  }

  /**
   * Runs a registry and a view that follows it as a watch does: one read at a time, and another when the view
   * hears of a worker that it does not know. `inOrder` is what one connection gives.
   */
  function interleave(random: Random, registry: Registry, inOrder: boolean): ReadinessView {
    const view = new ReadinessView();
    const heard = new Set<Notification>();
    let sync: Sync | undefined;
    let taken: FunctionSnapshot | undefined;
    let wanted = true;
    const hearNext = (): void => {
      const waiting = registry.told.filter((news) => !heard.has(news));
      const news = inOrder ? waiting[0] : waiting[random.below(Math.max(1, waiting.length))];
      if (news === undefined) return;
      heard.add(news);
      const applied: Applied = view.applyNotification(news);
      if (applied === 'unknown-worker') wanted = true;
    };
    const readOn = (): void => {
      if (sync === undefined) {
        sync = view.beginSync();
        wanted = false;
      } else if (taken === undefined) {
        taken = registry.read();
      } else {
        view.applySnapshot(taken, sync);
        sync = taken = undefined;
      }
    };
    for (let step = 0; step < 40; step += 1) {
      const what = random.below(3);
      if (what === 0) happen(random, registry);
      else if (what === 1) hearNext();
      else readOn();
    }
    const open = (): boolean => heard.size < registry.told.length;
    while (open() || sync !== undefined || wanted) {
      if (open() && random.below(2) === 0) hearNext();
      else if (sync !== undefined || wanted) readOn();
    }
    return view;
  }

  it('of reads and notifications in order, many in one millisecond, ends as the registry (2,000 runs)', () => {
    for (let seed = 1; seed <= 2_000; seed += 1) {
      const random = new Random(seed);
      const registry = new Registry(() => random.below(3));
      const view = interleave(random, registry, true);
      expect({ seed, state: stateOf(view.workers()) }).toEqual({
        seed,
        state: stateOf(registry.read().workers),
      });
    }
  });

  it('of reads and notifications in any order ends as the registry (2,000 runs)', () => {
    for (let seed = 1; seed <= 2_000; seed += 1) {
      const random = new Random(seed);
      const registry = new Registry(() => 1 + random.below(3));
      const view = interleave(random, registry, false);
      expect({ seed, state: stateOf(view.workers()) }).toEqual({
        seed,
        state: stateOf(registry.read().workers),
      });
    }
  });

  it('counts what is in it', () => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const random = new Random(seed);
      const view = interleave(random, new Registry(() => 1), true);
      const workers = view.workers();
      const ready = workers.filter(({ status }) => status === 'ready');
      expect({ seed, registered: view.registered, healthy: view.healthy }).toEqual({
        seed,
        registered: workers.length,
        healthy: ready.length,
      });
      expect(view.firstHealthy()?.status).toBe(ready.length > 0 ? 'ready' : undefined);
    }
  });
});

describe('the view', () => {
  it('has not read the registry until it has', () => {
    const view = new ReadinessView();
    expect(view.synced).toBe(false);
    readNow(view, live(0));
    expect(view.synced).toBe(true);
  });

  it('asks for a read when it hears the health of a worker that it does not know', () => {
    const [, unhealthy] = live(2).told;
    expect(new ReadinessView().applyNotification(unhealthy as Notification)).toBe('unknown-worker');
  });

  it('takes a worker that says it is ready and not healthy for unhealthy', () => {
    const view = new ReadinessView();
    view.applyNotification({
      ...(live(1).told[0] as Notification & { type: 'ready' }),
      healthy: false,
    });
    expect(stateOf(view.workers())).toEqual(['w unhealthy']);
  });

  it('says why a worker is unhealthy', () => {
    const view = new ReadinessView();
    readNow(view, live(1));
    const [, unhealthy] = live(2).told;
    view.applyNotification({
      ...(unhealthy as Notification & { type: 'health' }),
      reason: 'timeout',
    });
    expect(view.workers()).toMatchObject([{ status: 'unhealthy', reason: 'timeout' }]);
  });

  it('does not keep everyone who ever left', () => {
    const registry = new Registry(() => 1);
    const view = new ReadinessView();
    for (let i = 0; i < 2_000; i += 1) {
      registry.register(`w${i}`, 's');
      registry.unregister(`w${i}`);
    }
    for (const news of registry.told) view.applyNotification(news);
    const remembered = registry.told
      .filter(({ type }) => type === 'ready')
      .filter((ready) => view.applyNotification(ready) === 'stale');
    expect(remembered.length).toBeLessThanOrEqual(256);
    expect(remembered.length).toBeGreaterThan(0);
  });
});
