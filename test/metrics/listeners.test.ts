import { describe, expect, it } from '@jest/globals';
import { TestClock } from '../../src/testing/test-clock.js';
import { Latencies, loadHistograms } from '../../src/metrics/histograms.js';
import {
  ALL,
  BOTTLENECKS,
  HOLD_MS,
  Listeners,
  MAX_NAMED,
  parseAnnouncement,
} from '../../src/metrics/listeners.js';
import { FunctionMeter } from '../../src/metrics/function-meter.js';
import { MetricsPublisher } from '../../src/metrics/metrics-publisher.js';
import { MAX_MEASURED, ProcessMeter } from '../../src/metrics/process-meter.js';
import { PROBED_AT_ONCE, StockListeners } from '../../src/metrics/stock-listeners.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Keys } from '../../src/protocol/keys.js';

const said = (subjects: string[], vitals = false) =>
  ({ type: 'listening', from: 'p', subjects, vitals }) as const;

describe('what is known of listeners', () => {
  it('holds for three seconds after the last word of it', () => {
    const listeners = new Listeners();
    listeners.announced(said(['a:x']), 0);
    expect(listeners.isHeard('a:x', HOLD_MS - 1)).toBe(true);
    expect(listeners.isHeard('b:x', 0)).toBe(false);
    expect(listeners.isAnyHeard(HOLD_MS - 1)).toBe(true);
    expect(listeners.isHeard('a:x', HOLD_MS)).toBe(false);
    expect(listeners.isAnyHeard(HOLD_MS)).toBe(false);
  });

  it('is told on when it was found, and not while others tell it', () => {
    const listeners = new Listeners();
    listeners.found('a:x', 0);
    expect(listeners.untold(0)).toEqual(['a:x']);
    listeners.announced(said(['a:x']), 10);
    expect(listeners.untold(20)).toEqual([]);
    listeners.found('a:x', 2_000);
    expect(listeners.untold(2_000)).toEqual(['a:x']);
    listeners.found(ALL, 2_000);
    expect(listeners.untold(2_000)).toEqual(['a:x', ALL]);
    listeners.announced(said([ALL]), 2_100);
    expect(listeners.untold(2_200)).toEqual([]);
    listeners.found(BOTTLENECKS, 2_200);
    expect(listeners.untold(2_200)).toEqual([BOTTLENECKS]);
    expect(listeners.untold(10_000)).toEqual([]);
  });

  it('of metrics and of bottlenecks is told apart', () => {
    const listeners = new Listeners();
    listeners.announced(said([BOTTLENECKS]), 0);
    expect([listeners.areBottlenecksHeard(1), listeners.isHeard('a:x', 1)]).toEqual([true, false]);
    const others = new Listeners();
    others.announced(said([ALL]), 0);
    expect([others.areBottlenecksHeard(1), others.isHeard('a:x', 1)]).toEqual([false, true]);
  });

  it.each(['a:x', ALL])('that was found is over when nobody receives a publish: %s', (subject) => {
    const listeners = new Listeners();
    listeners.found(subject, 0, 60_000);
    listeners.announced(said(['b:x']), 0);
    listeners.missed('a:x');
    expect([listeners.isHeard('a:x', 1), listeners.isHeard('b:x', 1)]).toEqual([false, true]);
  });

  it('keeps its bounds whatever is announced', () => {
    const listeners = new Listeners();
    for (let i = 0; i < 50_000; i += 1) listeners.announced(said([`f${i}:x`]), 0);
    expect(listeners.untold(0)).toEqual([]);
    const names = Array.from({ length: 60_000 }, (_, i) => listeners.isHeard(`f${i}:x`, 0));
    expect(names.filter(Boolean).length).toBeLessThanOrEqual(10_000);
  });

  it('of vitals does not make anybody publish metrics', () => {
    const listeners = new Listeners();
    listeners.announced(said([], true), 0);
    expect([listeners.areVitalsHeard(1), listeners.isAnyHeard(1)]).toEqual([true, false]);
  });

  it.each([
    null,
    7,
    'all',
    {},
    { type: 'listening', subjects: [ALL] },
    { type: 'listening', from: 'p', subjects: ALL },
    { type: 'listening', from: 'p', subjects: [7] },
    { type: 'listening', from: 'p', subjects: Array.from({ length: MAX_NAMED + 1 }, () => 'a') },
    { type: 'shouting', from: 'p', subjects: [ALL] },
  ])('is not taken from a foreign message: %j', (data) => {
    expect(parseAnnouncement(data)).toBeUndefined();
  });
});

describe('the search for subscribers that do not say so', () => {
  /** One question and its answer: as if somebody subscribed to all that was asked for. */
  async function search(receivers: (channel: string) => number) {
    const probed: string[] = [];
    const bus = {
      publish: (channel: string) => Promise.resolve((probed.push(channel), receivers(channel))),
    };
    const listeners = new Listeners();
    const hosted = Array.from({ length: 300 }, (_, i) => functionRef(`f${i}`, 'w'));
    const clock = new TestClock('frozen');
    const nothing = (): void => undefined;
    const keys = new Keys('p:');
    const stock = new StockListeners(
      bus as never,
      keys,
      clock,
      listeners,
      () => hosted,
      1,
      nothing,
    );
    await stock.heard(stock.channels());
    return { probed, listeners };
  }

  it('costs a dozen messages where there are patterns of anybody, and finds nobody', async () => {
    const { probed, listeners } = await search(() => 0);
    expect(probed.slice(0, 2)).toEqual([
      'p:function:metrics:%2A:%2A',
      'p:function:bottleneck:%2A:%2A',
    ]);
    expect(probed).toHaveLength(2 + PROBED_AT_ONCE);
    expect(listeners.isAnyHeard(0)).toBe(false);
  });

  it('ends with the first two where a pattern is for all', async () => {
    const { probed, listeners } = await search(() => 1);
    expect(probed).toHaveLength(2);
    expect([listeners.isAllHeard(0), listeners.areBottlenecksHeard(0)]).toEqual([true, true]);
  });
});

describe('a process of more functions than are told of at once', () => {
  const refs = Array.from({ length: 250 }, (_, i) => functionRef(`f${i}`, 'w'));
  const keys = new Keys('p:');
  const clock = new TestClock('frozen');

  it('asks for each of them in turn', () => {
    const stock = new StockListeners(
      {} as never,
      keys,
      clock,
      new Listeners(),
      () => refs,
      1,
      () => undefined,
    );
    const turns = [1, 2, 3].map(() => stock.channels());
    expect(turns.map((channels) => channels.length)).toEqual([200, 200, 200]);
    expect(new Set(turns.flat()).size).toBe(500);
  });

  it('publishes each of them in turn', async () => {
    const published: string[][] = [];
    const library = await loadHistograms();
    const subjects = refs.map((ref) => ({ meter: new FunctionMeter(ref, library) }));
    const report = {
      subjects: () => subjects,
      write: (_: unknown, some: typeof subjects) => {
        published.push(some.map(({ meter }) => meter.ref.id));
        return Promise.resolve([]);
      },
    };
    const listeners = new Listeners();
    listeners.announced(said([ALL]), 0);
    const frozen = { elapsed: () => 0 } as never;
    const publisher = new MetricsPublisher({} as never, keys, frozen, listeners, report as never);
    for (let turn = 1; turn <= 3; turn += 1) await publisher.publish({} as never);
    expect(published.map((ids) => ids.length)).toEqual([100, 100, 100]);
    expect(new Set(published.flat()).size).toBe(250);
  });
});

describe('a meter', () => {
  const meterOn = async (clock: TestClock): Promise<ProcessMeter> =>
    new ProcessMeter(await loadHistograms(), clock, 1);
  const call = (meter: ProcessMeter, name: string): Promise<string> =>
    meter.follow({ callId: name, ref: functionRef(name, 'w') }, '{}', () => {
      meter.sent(name);
      return Promise.resolve('done');
    });

  it('measures a thousand of 100,000 functions, counts the others, and makes room of idle ones', async () => {
    const clock = new TestClock('frozen');
    const meter = await meterOn(clock);
    for (let i = 0; i < 100_000; i += 1) await call(meter, `f${i}`);
    expect(meter.all()).toHaveLength(MAX_MEASURED);
    expect(meter.unmeasured).toBe(100_000 - MAX_MEASURED);
    const ref = functionRef('one too many', 'w');
    const run = { code: undefined, kind: 'settle', attempt: 1, failures: 0 };
    meter.ended(ref, { ...run, startedAt: meter.started(ref, 1) });
    expect(meter.unmeasured).toBe(100_000 - MAX_MEASURED + 1);
    clock.tick(61_000);
    await call(meter, 'later');
    expect(meter.all().map(({ ref }) => ref.functionName)).toEqual(['later']);
  });

  it('counts the codes that handlers choose up to a bound', async () => {
    const meter = await meterOn(new TestClock('frozen'));
    const ref = functionRef('work', 'w');
    for (let i = 0; i < 1_000; i += 1) {
      const run = { startedAt: undefined, kind: 'settle', attempt: 1, failures: 0 };
      meter.ended(ref, { ...run, code: `CODE_${i}${'x'.repeat(i)}` });
    }
    const counts = meter.all()[0]?.runErrors.toRecord() ?? {};
    expect(Object.keys(counts)).toHaveLength(33);
    expect(counts['OTHER']).toBe(968);
    expect(Object.values(counts).reduce((sum, count) => sum + count, 0)).toBe(1_000);
  });

  it('has nothing under way once a call is over, had it a worker or not', async () => {
    const meter = await meterOn(new TestClock('frozen'));
    await call(meter, 'work');
    const ref = functionRef('work', 'w');
    const failing = meter.follow({ callId: 'none', ref }, '{}', () =>
      Promise.reject(new Error('no worker')),
    );
    const [fn] = meter.all();
    expect([fn?.waiting, fn?.pending]).toEqual([1, 0]);
    await expect(failing).rejects.toThrow('no worker');
    expect([fn?.waiting, fn?.pending, fn?.calls]).toEqual([0, 0, 2]);
    expect([fn?.wait.count, fn?.roundTrip.count]).toEqual([2, 1]);
    expect(fn?.callErrors.toRecord()).toEqual({ UNKNOWN: 1 });
  });

  it('counts a hand-over once, when the call is over, and a retry when it is ordered', async () => {
    const meter = await meterOn(new TestClock('frozen'));
    const ref = functionRef('work', 'w');
    const run = { startedAt: undefined, code: undefined };
    meter.ended(ref, { ...run, kind: 'retry', attempt: 2, failures: 0 });
    meter.ended(ref, { ...run, kind: 'settle', attempt: 4, failures: 1 });
    expect(meter.all()[0]).toMatchObject({ runs: 2, retries: 1, handOvers: 2 });
  });
});

describe('latencies', () => {
  it('are merged bucket by bucket, also when they have travelled', async () => {
    const library = await loadHistograms();
    const all = new Latencies(library);
    const merged = new Latencies(library);
    for (const process of [0, 1, 2]) {
      const own = new Latencies(library);
      for (let i = 1; i <= 1_000; i += 1) {
        const ms = 0.1 * i * (process + 1);
        own.record(ms);
        all.record(ms);
      }
      merged.add(Latencies.decode(library, own.encode(), own.sumMs) as Latencies);
    }
    const { maxMs, ...summary } = merged.summary();
    expect(all.summary()).toMatchObject(summary);
    expect(maxMs / all.summary().maxMs).toBeCloseTo(1, 1);
    expect(merged.summary().p50Ms).toBeGreaterThan(0);
    expect(merged.countsUpTo([50, 100, 400])).toEqual(all.countsUpTo([50, 100, 400]));
    expect(merged.countsUpTo([400])).toEqual([3_000]);
    const within = merged.countsUpTo([100.9])[0] ?? 0;
    expect(Math.abs(within - (1_000 + 500 + 333))).toBeLessThan(20);
    const few = new Latencies(library);
    for (const ms of [1, 1, 1, 20, 20, 500]) few.record(ms);
    expect(few.countsUpTo([0.5, 2, 10, 30, 1_000])).toEqual([0, 3, 3, 5, 6]);
  });

  it('longer than an hour, negative, or none count at the ends', async () => {
    const latencies = new Latencies(await loadHistograms());
    for (const ms of [-5, NaN, 0, 1e12]) latencies.record(ms);
    expect(latencies.count).toBe(4);
    expect(latencies.summary().maxMs).toBeGreaterThan(3_500_000);
    expect(latencies.percentileMs(50)).toBe(0);
  });
});
