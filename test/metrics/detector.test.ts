import { describe, expect, it } from '@jest/globals';
import { BacklogTrend, SAMPLE_INTERVAL_MS } from '../../src/metrics/backlog-trend.js';
import { BottleneckDetector } from '../../src/metrics/bottleneck-detector.js';
import type { BottleneckFinding } from '../../src/metrics/bottleneck-finding.js';
import { Alarm } from '../../src/metrics/alarm.js';
import { VITALS_INTERVAL_MS } from '../../src/metrics/vitals-reporter.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import type { FunctionVitals, Vitals, WorkerVitals } from '../../src/protocol/vitals.js';
import { Random } from '../harness/random.js';

const ref = functionRef('work', 'default');

function vitals(processId: string, fn: Omit<FunctionVitals, 'id'>): Vitals {
  return {
    type: 'vitals',
    version: 1,
    processId,
    workerId: processId,
    eventLoopLagMs: 0,
    functions: [{ id: ref.id, ...fn }],
  };
}

/** A queue in steps of 10 ms: calls come by chance, and are served as fast as there is room, but for pauses. */
class Queue {
  calls = 0;
  private ages: number[] = [];

  constructor(
    private readonly random: () => number,
    private readonly arrivalsPerSecond: () => number,
    private readonly servedPerSecond: () => number,
  ) {}

  step(now: number): void {
    const come = this.arrivalsPerSecond() / 100;
    for (let left = come; left > 0; left -= 1)
      if (this.random() < Math.min(1, left)) this.ages.push(now);
    const room = this.servedPerSecond() / 100;
    for (let left = room; left > 0 && this.ages.length > 0; left -= 1)
      if (this.random() < Math.min(1, left)) this.ages.shift();
    this.calls = this.ages.length;
  }

  oldestMs(now: number): number {
    return this.ages.length === 0 ? 0 : now - (this.ages[0] ?? now);
  }
}

/** Runs a detector on a queue; what it found, and when. */
function watch(queue: Queue, ms: number, step: (now: number) => void = () => undefined) {
  const found: { at: number; finding: BottleneckFinding }[] = [];
  let now = 0;
  const detector = new BottleneckDetector((finding) => found.push({ at: now, finding }));
  for (now = 0; now < ms; now += 10) {
    step(now);
    queue.step(now);
    if (now % VITALS_INTERVAL_MS === 0)
      detector.hear(
        vitals('a', { worker: { runs: 50, medianMs: 10, running: 1, runningMs: 5 } }),
        now,
      );
    if (now % SAMPLE_INTERVAL_MS !== 0) continue;
    const { calls } = queue;
    detector.sample(ref, { at: now, calls, waiting: calls, oldestMs: queue.oldestMs(now) });
  }
  return found;
}

describe('the detector of growing backlogs', () => {
  it.each([1, 2, 3, 4, 5])(
    'finds none in ten minutes at 80 %% of what can be served (seed %d)',
    (seed) => {
      const numbers = new Random(seed);
      const random = (): number => numbers.next();
      const queue = new Queue(
        random,
        () => 80,
        () => 100,
      );
      expect(watch(queue, 600_000)).toEqual([]);
    },
  );

  it.each([1, 2, 3])(
    'finds none in pauses of up to 800 ms, as of a busy machine (seed %d)',
    (seed) => {
      const numbers = new Random(seed);
      const random = (): number => numbers.next();
      let pausedUntil = 0;
      const queue = new Queue(
        random,
        () => 50,
        () => (pausedUntil > 0 ? 0 : 100),
      );
      const found = watch(queue, 300_000, (now) => {
        if (now >= pausedUntil) pausedUntil = 0;
        if (now % 5_000 === 0) pausedUntil = now + 200 + Math.floor(random() * 600);
      });
      expect(found).toEqual([]);
    },
  );

  it('finds none in a burst that is being worked off', () => {
    let arrivals = 100_000;
    const queue = new Queue(
      () => 0.5,
      () => arrivals,
      () => 200,
    );
    const found = watch(queue, 20_000, (now) => {
      if (now > 0) arrivals = 50;
    });
    expect(found).toEqual([]);
  });

  it.each([1.5, 2, 5])(
    'finds one that comes at %d times what is served, within two seconds',
    (factor) => {
      for (let phase = 0; phase < 500; phase += 70) {
        const numbers = new Random(phase + 1);
        const random = (): number => numbers.next();
        const onset = 10_000 + phase;
        let arrivals = 80;
        const queue = new Queue(
          random,
          () => arrivals,
          () => 100,
        );
        const found = watch(queue, 20_000, (now) => {
          if (now >= onset) arrivals = 100 * factor;
        });
        const [first] = found;
        expect(first?.finding).toMatchObject({ kind: 'backlog', state: 'began', ref });
        expect((first?.at ?? Infinity) - onset).toBeLessThan(2_000);
        expect((first?.at ?? 0) - onset).toBeGreaterThan(0);
      }
    },
  );

  it('makes nothing of samples that came late: this process, or Redis, stood still', () => {
    const trend = new BacklogTrend();
    for (let index = 0; index < 6; index += 1)
      trend.add({ at: index * 250, calls: index * 50, waiting: index * 50, oldestMs: 1_000 });
    trend.add({ at: 3_000, calls: 500, waiting: 500, oldestMs: 1_000 });
    expect(trend.isGrowing(0)).toBe(false);
    expect(trend.growthPerSecond).toBe(0);
  });
});

describe('an alarm', () => {
  it('begins with the second look, is told each second, and ends after two seconds of calm', () => {
    const alarm = new Alarm(2);
    const looks: [number, boolean, string | undefined][] = [
      [0, true, undefined],
      [250, true, 'began'],
      [500, true, undefined],
      [1_250, true, 'lasts'],
      [1_500, false, undefined],
      [2_250, false, 'lasts'],
      [2_500, true, undefined],
      [3_250, false, 'lasts'],
      [4_250, false, 'lasts'],
      [4_500, false, 'ended'],
      [5_500, false, undefined],
      [5_750, true, undefined],
    ];
    const told = looks.map(([now, isFound]) => alarm.look(isFound, now));
    expect(told).toEqual(looks.map(([, , change]) => change));
  });
});

describe('the comparison of workers', () => {
  /** Three workers that speak twice a second; `paces` are their medians. */
  function compare(
    paces: (at: number) => number[],
    runs = 30,
    stuck: (index: number) => Partial<WorkerVitals> = () => ({}),
  ): BottleneckFinding[] {
    const found: BottleneckFinding[] = [];
    const detector = new BottleneckDetector((finding) => found.push(finding));
    for (let at = 0; at < 10_000; at += VITALS_INTERVAL_MS)
      for (const [index, medianMs] of paces(at).entries())
        detector.hear(
          vitals(`w${index}`, {
            worker: { runs, medianMs, running: 1, runningMs: medianMs / 2, ...stuck(index) },
          }),
          at + index,
        );
    return found;
  }

  it.each([
    ['alike', [10, 11, 12], 30],
    ['slow together', [200, 210, 220], 30],
    ['twice as slow', [40, 80, 40], 30],
    ['slow by less than what noise is', [1, 15, 1], 30],
    ['slow, by a run or two', [10, 200, 10], 2],
    ['alone', [500], 30],
  ])('finds nothing in workers that are %s', (_, paces, runs) => {
    expect(compare(() => paces, runs)).toEqual([]);
  });

  it('finds nothing in a hiccup of half a second', () => {
    expect(compare((at) => (at === 3_000 ? [10, 400, 10] : [10, 10, 10]))).toEqual([]);
  });

  it('compares with nobody who was not heard lately', () => {
    // The fast one is gone after two seconds; the other one becomes slow three seconds later.
    const found = compare((at) => [at < 5_000 ? 10 : 400, ...(at < 2_000 ? [10] : [])]);
    expect(found).toEqual([]);
  });

  it('takes no worker for mended that ends too few runs to tell', () => {
    const found: BottleneckFinding[] = [];
    const detector = new BottleneckDetector((finding) => found.push(finding));
    for (let at = 0; at < 10_000; at += VITALS_INTERVAL_MS)
      for (const [index, medianMs] of [10, 400, 10].entries()) {
        const runs = index === 1 && at >= 4_000 ? 2 : 30;
        const worker = { runs, medianMs, running: 1, runningMs: medianMs / 2 };
        detector.hear(vitals(`w${index}`, { worker }), at + index);
      }
    expect(new Set(found.map(({ state }) => state))).toEqual(new Set(['began', 'lasts']));
  });

  it('finds the slow one among its peers', () => {
    const [first] = compare(() => [10, 200, 12]);
    expect(first).toMatchObject({
      kind: 'slow-worker',
      state: 'began',
      processId: 'w1',
      figures: { medianMs: 200, peersMedianMs: 10, peers: 2 },
    });
  });

  it.each([
    ['finds a worker of which no run ends', 0, 10, 1, true],
    ['waits for more of a worker that runs few', 0, 4, 1, false],
    ['makes nothing of long ones among others that end', 1, 10, 1, false],
    ['finds nothing where no run of anybody ends', 0, 10, 3, false],
  ])('%s', (_, runs, running, workers, isFound) => {
    const stuck = { runs, running, runningMs: 700 };
    const found = compare(
      () => [10, 10, 10],
      30,
      (index) => (index < workers ? stuck : {}),
    );
    const first = { processId: 'w0', figures: { medianMs: 700 } };
    expect(found.slice(0, 1)).toMatchObject(isFound ? [first] : []);
  });
});

describe('a detector that is fed more than it can hold', () => {
  it('says that there is no room', () => {
    const detector = new BottleneckDetector(() => undefined);
    const heard = Array.from({ length: 2_000 }, (_, index) =>
      detector.hear({ ...vitals('a', {}), functions: [{ id: `f${index}:default` }] }, index),
    );
    expect(detector.refs()).toHaveLength(200);
    expect(heard.filter((isRoom) => !isRoom)).toHaveLength(1_800);
    detector.forget(10_000);
    expect(detector.refs()).toEqual([]);
  });
});
