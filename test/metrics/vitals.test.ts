import { describe, expect, it } from '@jest/globals';
import { loadHistograms } from '../../src/metrics/histograms.js';
import { ProcessMeter } from '../../src/metrics/process-meter.js';
import { VITALS_INTERVAL_MS, VitalsReporter } from '../../src/metrics/vitals-reporter.js';
import { TestClock } from '../../src/testing/test-clock.js';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the vitals of a process', () => {
  it.each([
    ['end with the first that nobody receives', () => Promise.resolve(0), 4, 1],
    ['go on behind one that could not be told', () => Promise.reject(new Error('away')), 6, 0],
  ])('%s', async (_, fourth, expected, unheard) => {
    const clock = new TestClock('frozen');
    let told = 0;
    let ends = 0;
    const publish = (): Promise<number> => {
      told += 1;
      return told === 4 ? fourth() : Promise.resolve(1);
    };
    const process = {
      processId: 'p.1',
      workerId: 'w',
      eventLoopLagMs: () => 0,
      starts: () => new Map(),
    };
    const report = { subjects: () => [] };
    const reporter = new VitalsReporter(
      { publish } as never,
      clock,
      process as never,
      report as never,
      'nf:vitals',
      () => (ends += 1),
    );
    reporter.start(new ProcessMeter(await loadHistograms(), clock, 1));
    for (let turn = 0; turn < 6; turn += 1) {
      clock.tick(VITALS_INTERVAL_MS);
      await settled();
    }
    expect([told, ends]).toEqual([expected, unheard]);
    reporter.stop();
  });
});
