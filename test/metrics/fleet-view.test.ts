import { describe, expect, it } from '@jest/globals';
import { FleetView, FORGET_MS, MAX_REPORTS } from '../../src/metrics/fleet-view.js';
import { loadHistograms } from '../../src/metrics/histograms.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import type { LatencyRecord, MetricsNotification } from '../../src/protocol/metrics.js';
import { TestClock } from '../../src/testing/test-clock.js';

const ref = functionRef('work', 'default');
const nothing: LatencyRecord = { count: 0, sumMs: 0, p50Ms: 0, p99Ms: 0, maxMs: 0, hdr: '' };

function report(more: Partial<MetricsNotification> & { runs?: number }): MetricsNotification {
  const { runs = 0, ...others } = more;
  const counts = { runs, errors: {}, retries: 0, handOvers: 0, running: 0, queued: 0 };
  return {
    type: 'metrics',
    version: 1,
    functionName: 'work',
    workflowId: 'default',
    workerId: 'w',
    processId: 'p',
    epoch: 1,
    seq: 1,
    timestamp: 1_000,
    eventLoopLagMs: 0,
    worker: { ...counts, queue: nothing, run: nothing },
    ...others,
  };
}

async function merged(view: FleetView) {
  return view.merge(await loadHistograms(), 0);
}

describe('the view of the fleet', () => {
  it('keeps the newest report of each process: the higher epoch, then the higher seq', async () => {
    const orders: [number, number, number][][] = [
      [
        [1, 2, 20],
        [1, 1, 10],
      ],
      [
        [2, 1, 20],
        [1, 9, 90],
      ],
      [
        [1, 9, 90],
        [2, 1, 20],
      ],
      [
        [1, 1, 10],
        [1, 2, 20],
        [1, 2, 99],
      ],
    ];
    for (const packets of orders) {
      const view = new FleetView(new TestClock('frozen'));
      for (const [epoch, seq, runs] of packets) view.hear(ref, report({ epoch, seq, runs }));
      expect((await merged(view)).functions).toMatchObject([{ runs: 20 }]);
    }
  });

  it('counts reports that are lost, and those that come too late, and goes on with the newest', async () => {
    const view = new FleetView(new TestClock('frozen'));
    const heard = async () => {
      const { lost, dropped, functions } = await merged(view);
      return [functions[0]?.runs, lost, dropped];
    };
    view.hear(ref, report({ seq: 5, runs: 5 }));
    expect(await heard()).toEqual([5, 0, 0]);
    view.hear(ref, report({ seq: 9, runs: 9 }));
    expect(await heard()).toEqual([9, 3, 0]);
    view.hear(ref, report({ seq: 8, runs: 8 }));
    expect(await heard()).toEqual([9, 3, 1]);
    // It measures anew: nothing is missing in between.
    view.hear(ref, report({ epoch: 2, seq: 3, runs: 1 }));
    view.hear(ref, report({ processId: 'other', seq: 7, worker: undefined } as never));
    expect(await heard()).toEqual([1, 3, 1]);
  });

  it('has a rate of what two reports of one epoch differ in', async () => {
    const view = new FleetView(new TestClock('frozen'));
    view.hear(ref, report({ runs: 100 }));
    expect((await merged(view)).functions[0]?.runsPerSecond).toBe(0);
    view.hear(ref, report({ seq: 2, timestamp: 3_000, runs: 150 }));
    expect((await merged(view)).functions[0]?.runsPerSecond).toBe(25);
    view.hear(ref, report({ epoch: 2, timestamp: 4_000, runs: 3 }));
    expect((await merged(view)).functions[0]).toMatchObject({ runs: 3, runsPerSecond: 0 });
  });

  it('takes the backlog of who asked last, for all ask the same Redis', async () => {
    const view = new FleetView(new TestClock('frozen'));
    const backlogs: [string, number, number][] = [
      ['p', 2_000, 7],
      ['q', 1_000, 9],
    ];
    for (const [processId, timestamp, calls] of backlogs) {
      const plain = report({ processId, timestamp });
      const worker = { ...plain.worker, backlog: { calls, waiting: 0, oldestMs: 0 } };
      view.hear(ref, { ...plain, worker });
    }
    expect((await merged(view)).functions[0]?.backlog).toMatchObject({ calls: 7 });
  });

  it('forgets a process that is not heard for five seconds', async () => {
    const clock = new TestClock('frozen');
    const view = new FleetView(clock);
    view.hear(ref, report({}));
    clock.tick(FORGET_MS);
    view.hear(ref, report({ processId: 'other' }));
    expect((await merged(view)).processes).toHaveLength(2);
    clock.tick(1);
    expect((await merged(view)).processes.map(({ processId }) => processId)).toEqual(['other']);
  });

  it('holds so many reports and no more, and counts the others', async () => {
    const view = new FleetView(new TestClock('frozen'));
    for (let i = 0; i < MAX_REPORTS + 5; i += 1) view.hear(ref, report({ processId: `p${i}` }));
    const { processes, dropped } = await merged(view);
    expect([processes.length, dropped]).toEqual([MAX_REPORTS, 5]);
    view.hear(ref, report({ processId: 'p0', seq: 2, runs: 1 }));
    expect((await merged(view)).functions[0]?.runs).toBe(1);
  });
});
