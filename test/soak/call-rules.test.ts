import { describe, expect, it } from '@jest/globals';
import { Tale } from './tale.js';

const expectSaid = (tale: Tale, text: string): void => {
  const violations = tale.violations();
  expect(violations).toHaveLength(1);
  expect(violations[0]).toContain(text);
};

/** Each rule finds out the one thing that is wrong with a small history. */
describe('the checker of the soak, of calls', () => {
  it('finds nothing wrong with a fleet that is well', () => {
    const tale = new Tale().call({ t: 100 }).call({ t: 200, who: 'caller-2.1' });
    expect(tale.end().violations()).toEqual([]);
  });

  it.each<[string, (tale: Tale) => Tale]>([
    ['never settled', (tale) => tale.call({ t: 100, neverSettles: true })],
    [
      'settled 2 times',
      (tale) =>
        tale
          .call({ t: 100 })
          .tell(150, 'caller-1.1', { e: 'settled', id: 'call-1', run: 'call-1-run-1' }),
    ],
    [
      'after its limit',
      (tale) => tale.fault('kill-worker', 0, 10, 'worker-1').call({ t: 100, tookMs: 9_000 }),
    ],
    [
      'failed with HTTP_500',
      (tale) => tale.fault('flushall', 90).call({ t: 100, end: { code: 'HTTP_500' } }),
    ],
    ['its result is of no run', (tale) => tale.call({ t: 100, end: { run: 'other' } })],
    [
      'which ended after attempt 2 began',
      (tale) =>
        tale.fault('kill-worker', 90, 95, 'worker-2').call({
          ...{ t: 100, tookMs: 300, end: { run: 'call-1-run-1' } },
          runs: [
            { t: 110, ms: 100 },
            { t: 150, ms: 20 },
          ],
        }),
    ],
    [
      'at-most-once and ran 2 times',
      (tale) =>
        tale.fault('kill-worker', 90, 95, 'worker-2').call({
          ...{ t: 100, tookMs: 300, made: { delivery: 'at-most-once' } },
          runs: [{ t: 110 }, { t: 150 }],
        }),
    ],
    ["by its worker's clock", (tale) => tale.call({ t: 100, runs: [{ t: 105, leftMs: -100 }] })],
    [
      "by its caller's clock",
      (tale) =>
        tale.fault('kill-worker', 90, 95, 'worker-2').call({
          ...{ t: 100, tookMs: 2_000, made: { impatient: true } },
          ...{ end: { code: 'DEADLINE_EXCEEDED' }, runs: [{ t: 5_000 }] },
        }),
    ],
    [
      'took 5000 ms while nothing was wrong',
      (tale) => tale.call({ t: 100, tookMs: 5_000, made: { timeoutMs: 9_000 } }),
    ],
    [
      'ran 2 times instead of 1 while nothing was wrong',
      (tale) => tale.call({ t: 100, tookMs: 300, runs: [{ t: 110 }, { t: 150 }] }),
    ],
    [
      'key k ran 2 times',
      (tale) => tale.call({ t: 100, made: { key: 'k' } }).call({ t: 110, made: { key: 'k' } }),
    ],
  ])('says "%s"', (text, wrong) => {
    expectSaid(wrong(new Tale()).end(), text);
  });

  it.each([
    [900, 0],
    [1_200, 1],
  ])('lets a call with a circuit wait for its record first: %d ms, %d said', (lateMs, said) => {
    const times = { timeoutMs: 400, readinessTimeoutMs: 500 };
    const late = { t: 100, tookMs: lateMs + 950, runs: [{ t: 1_000 + lateMs }] };
    const tale = new Tale().fault('kill-worker', 90, 95, 'worker-2');
    tale.call({ ...late, made: { kind: 'fused', impatient: true, ...times } });
    const violations = tale.end().violations();
    expect(violations.filter((text) => text.includes("by its caller's clock"))).toHaveLength(said);
  });

  it('knows who was closing', () => {
    expectSaid(new Tale().call({ t: 100, end: { code: 'CLOSED' } }), 'its caller was not closing');
  });

  it('names what keeps a process alive that was closed', () => {
    const tale = new Tale().end();
    tale.tell(0, 'caller-3.1', { e: 'booted', pid: 9 });
    tale.tell(10, 'caller-3.1', { e: 'closed', resources: ['Timeout'] });
    expectSaid(tale.tell(5_000, 'storm', { e: 'exited', process: 'caller-3.1' }), 'with Timeout');
  });

  it('knows a run that nobody called', () => {
    const start = { run: 'r', id: 'nobody', callId: 'c', attempt: 1, worker: 'w', leftMs: 1 };
    const tale = new Tale().tell(10, 'worker-1.1', { e: 'start', ...start });
    expectSaid(tale.end(), 'which nobody called');
  });
});
