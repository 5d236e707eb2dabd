import { describe, expect, it } from '@jest/globals';
import type { Count, Measured } from './history.js';
import { readCounts } from './scraper.js';
import { processId, Tale, WALL_MS } from './tale.js';

const LISTENER = 'listener-1.1';

/** What the first caller, the second and the worker have counted at a time. */
function counts(t: number, calls: number, runs: number, more: Partial<Count> = {}): Count[] {
  const head = { fn: 'work', since: WALL_MS + 1_000, at: WALL_MS + t };
  return [
    { ...head, process: processId(101), calls, runs: 0, ...more },
    { ...head, process: processId(102), calls: 0, runs: 0 },
    { ...head, process: processId(103), calls: 0, runs },
  ];
}

/** A call each second for a minute, at 500 ms; a listener that was told of them in time. */
class MetricsTale extends Tale {
  constructor() {
    super();
    this.tell(900, LISTENER, { e: 'booted', pid: 104, wallMs: WALL_MS + 900 });
    this.tell(1_000, LISTENER, { e: 'listening' });
    for (let t = 1_500; t < 60_000; t += 1_000) this.call({ t });
  }

  watch(from = 2_000, to = 60_000): this {
    for (let t = from; t < to; t += 1_000)
      this.view(t, counts(t, Math.floor(t / 1_000) - 1, Math.floor(t / 1_000) - 1));
    return this.tell(to, LISTENER, { e: 'deaf' });
  }

  view(t: number, seen: Count[], more: Partial<Measured> = {}): this {
    return this.tell(t, LISTENER, { e: 'measured', via: 'watch', ...more, counts: seen });
  }
}

const expectSaid = (tale: Tale, ...texts: string[]): void => {
  const violations = tale.end().violations();
  expect(violations).toHaveLength(texts.length);
  for (const [index, text] of texts.entries()) expect(violations[index]).toContain(text);
};

describe('the checker of the soak, of metrics', () => {
  it('finds nothing wrong with what was counted right', () => {
    expectSaid(
      new MetricsTale()
        .watch()
        .tell(60_000, 'storm', { e: 'silence', from: 60_000, published: [] }),
    );
  });

  it.each<[string, (tale: MetricsTale) => Tale]>([
    [
      '9 calls and 0 runs were counted, and there were 10 to 10',
      (tale) => tale.view(11_000, counts(11_000, 9, 10), { via: 'snapshot' }),
    ],
    [
      '11 calls and 0 runs were counted, and there were 10 to 10',
      (tale) => tale.view(11_000, counts(11_000, 11, 10), { via: 'snapshot' }),
    ],
    [
      '0 calls and 9 runs were counted',
      (tale) => tale.view(11_000, counts(11_000, 10, 9), { via: 'snapshot' }),
    ],
    [
      '0 calls and 11 runs were counted',
      (tale) => tale.view(11_000, counts(11_000, 10, 11), { via: 'snapshot' }),
    ],
    [
      '11 calls and 0 runs were counted',
      (tale) => {
        const scraped = { fn: 'work', process: 'caller-1.1', since: 0, at: WALL_MS + 11_000 };
        return tale.view(11_000, [{ ...scraped, calls: 11, runs: 0 }], {
          via: 'scrape',
          tookMs: 20,
        });
      },
    ],
    [
      'nobody knows the process',
      (tale) =>
        tale.view(11_000, [{ ...(counts(11_000, 10, 10)[0] as Count), process: processId(9) }], {
          via: 'snapshot',
        }),
    ],
    [
      '3 reports were published',
      (tale) =>
        tale.tell(60_000, 'storm', { e: 'silence', from: 52_000, published: ['a', 'a', 'b'] }),
    ],
    [
      'could not listen at 70000: BACKEND_REFUSED',
      (tale) =>
        tale
          .fault('flushall', 69_900)
          .tell(70_000, LISTENER, { e: 'deaf', code: 'BACKEND_REFUSED' }),
    ],
    [
      'could not listen at 70000: BACKEND_UNAVAILABLE',
      (tale) => tale.tell(70_000, LISTENER, { e: 'deaf', code: 'BACKEND_UNAVAILABLE' }),
    ],
  ])('says "%s"', (text, wrong) => {
    expectSaid(wrong(new MetricsTale().watch()), text);
  });

  it('says what went backwards', () => {
    const tale = new MetricsTale().watch();
    tale.view(30_100, counts(30_000, 29, 29, { calls: 28, at: WALL_MS + 30_050 }), {
      via: 'snapshot',
    });
    expectSaid(
      tale,
      'went from 29 calls and 0 runs to 28 and 0',
      '28 calls and 0 runs were counted',
    );
  });

  it('says who was not seen, and when nothing was told', () => {
    const unseen = new MetricsTale().watch(2_000, 10_000);
    unseen.tell(10_000, LISTENER, { e: 'listening' });
    unseen.view(14_000, counts(14_000, 13, 13).slice(0, 2));
    expectSaid(unseen.tell(14_001, LISTENER, { e: 'deaf' }), 'did not see worker-1.1 at 14000');
    const still = new MetricsTale().watch(2_000, 10_000).tell(10_000, LISTENER, { e: 'listening' });
    expectSaid(still.tell(20_000, LISTENER, { e: 'deaf' }), 'was told nothing from 10000 to 20000');
    const gap = new MetricsTale().watch(2_000, 10_000).tell(10_000, LISTENER, { e: 'listening' });
    gap.view(11_000, counts(11_000, 10, 10)).view(15_000, counts(15_000, 14, 14));
    expectSaid(gap.tell(15_001, LISTENER, { e: 'deaf' }), 'was told nothing from 11000 to 15000');
  });

  it('knows what nobody can say exactly', () => {
    const tale = new MetricsTale().watch();
    // A run of a session that was declared dead is nobody's any more.
    tale.tell(5_507, 'worker-1.1', { e: 'lost' });
    tale.view(11_000, counts(11_000, 10, 9), { via: 'snapshot' });
    expectSaid(tale);
  });

  it('knows that a call whose group moved on was made once more', () => {
    const tale = new MetricsTale().watch();
    tale.call({ t: 7_700, made: { fn: 'plan' }, end: { moves: 1 } });
    const [plan] = counts(11_000, 2, 0, { fn: 'plan' }) as [Count];
    expectSaid(tale.view(11_000, [plan], { via: 'snapshot' }));
    tale.view(12_000, [{ ...plan, calls: 3, at: plan.at + 1_000 }], { via: 'snapshot' });
    expect(tale.violations()).toHaveLength(1);
  });

  it('reads a scrape', () => {
    const text = [
      '# TYPE nestjs_functions_calls_total counter',
      'nestjs_functions_calls_total{function="work",workflow="default"} 12',
      'nestjs_functions_run_duration_seconds_count{function="work",workflow="default"} 7',
      'nestjs_functions_run_duration_seconds_count{function="bell-1",workflow="default"} 7',
    ].join('\n');
    expect(readCounts(text, 'worker-2.1', 5)).toEqual([
      { fn: 'work', process: 'worker-2.1', since: 0, at: 5, calls: 12, runs: 7 },
    ]);
  });
});
