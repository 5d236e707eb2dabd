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

  it('holds so many reports and no more, counts the others, and takes no notice of a probe', async () => {
    const view = new FleetView(new TestClock('frozen'));
    for (let i = 0; i < MAX_REPORTS + 5; i += 1) view.hear(ref, report({ processId: `p${i}` }));
    view.hear(ref, { type: 'probe' });
    const { processes, dropped } = await merged(view);
    expect([processes.length, dropped]).toEqual([MAX_REPORTS, 5]);
    view.hear(ref, report({ processId: 'p0', seq: 2, runs: 1 }));
    expect((await merged(view)).functions[0]?.runs).toBe(1);
  });
});
