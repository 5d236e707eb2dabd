import { describe, expect, it } from '@jest/globals';
import { processId, Tale, WALL_MS, type Told } from './tale.js';
import type { CircuitRecorded } from './history.js';

/** A call of the function with a circuit. */
function fused(t: number, told: Partial<Told> = {}): Told {
  const made = { kind: 'fused', fn: 'fused', timeoutMs: 400, readinessTimeoutMs: 2_000 };
  return { ...told, t, made: { ...made, impatient: true } };
}

function refused(t: number, retryAfterMs = 300, told: Partial<Told> = {}): Told {
  return fused(t, { tookMs: 1, ...told, end: { code: 'CIRCUIT_OPEN', retryAfterMs } });
}

/** The storm in which the function fails from 10 000 to 15 000; it opens, is tried twice, and is closed. */
class CircuitTale extends Tale {
  private generation = 0;

  record(t: number, state: CircuitRecorded['state'], more: Partial<CircuitRecorded> = {}): this {
    this.generation += 1;
    const { generation = this.generation } = more;
    return this.tell(t, 'storm', { e: 'record', state, ...more, generation });
  }

  open(t: number): this {
    return this.record(t, 'open', { retryAt: WALL_MS + t + 800 });
  }

  probe(t: number, pid = 101): this {
    return this.record(t, 'half-open', { prober: processId(pid), retryAt: WALL_MS + t + 2_000 });
  }

  broken(openedAt = 11_300, closedAt = 16_200): this {
    const times = { from: 10_000, periodMs: 50_000, brokenMs: 5_000, to: 20_000 };
    this.tell(0, 'storm', { e: 'fuse', ...times });
    for (let t = 10_050; t < 18_000; t += 50)
      if (t < openedAt || t > closedAt)
        this.call(fused(t, t < 15_000 ? { end: { code: 'FUSED' } } : {}));
    return this;
  }

  /** As it should be. */
  well(): this {
    this.broken().open(11_300).call(refused(12_000));
    this.probe(12_150).call(fused(12_150, { end: { code: 'FUSED' } }));
    this.open(12_200).call(refused(12_900, 100));
    return this.probe(15_500).call(fused(15_500)).record(15_520, 'closed');
  }
}

const found = (tale: Tale): string[] => tale.end().violations();
const expectSaid = (tale: Tale, text: string): void => {
  const violations = found(tale);
  expect(violations).toHaveLength(1);
  expect(violations[0]).toContain(text);
};

describe('the checker of the soak, of circuits', () => {
  it('finds nothing wrong with a circuit that opens, probes and closes', () => {
    // Its second opening is long over when it is tried: nobody was refused since.
    expect(found(new CircuitTale().well())).toEqual([]);
  });

  it.each<[string, (tale: CircuitTale) => Tale]>([
    [
      'ran while the circuit was open, and was no probe',
      (tale) => tale.well().call(fused(13_500, { end: { code: 'FUSED' } })),
    ],
    [
      'ran while the circuit was open, and was no probe',
      // Beside the probe, of another caller.
      (tale) =>
        tale
          .well()
          .open(40_000)
          .probe(40_900)
          .call(fused(40_900, { tookMs: 900, end: { code: 'FUSED' } }))
          .call(fused(40_950, { who: 'caller-2.1', end: { code: 'FUSED' } })),
    ],
    [
      'ran while the circuit was open, and was no probe',
      // Two of the one that has the probe.
      (tale) =>
        tale
          .well()
          .open(40_000)
          .probe(40_900)
          .call(fused(40_900, { tookMs: 900, end: { code: 'FUSED' } }))
          .call(fused(40_950, { end: { code: 'FUSED' } })),
    ],
    [
      'was refused and ran',
      (tale) => tale.well().call(refused(11_700, 50, { runs: [{ t: 11_705 }] })),
    ],
    ['to try again in 9000 ms', (tale) => tale.well().call(refused(12_950, 9_000))],
    [
      'was refused after 1500 ms',
      (tale) => tale.open(11_300).call(refused(11_900, 100, { tookMs: 1_500 })),
    ],
    ['after the circuit was closed', (tale) => tale.well().call(refused(17_000))],
    ['after the time to try again', (tale) => tale.well().call(refused(14_500, 0))],
    [
      'ms after its end',
      (tale) =>
        tale
          .well()
          .open(40_000)
          .probe(40_900, 555)
          .tell(30_000, 'caller-3.1', { e: 'booted', pid: 555 })
          .tell(41_000, 'storm', { e: 'exited', process: 'caller-3.1' })
          .call(refused(43_900, 100)),
    ],
    [
      'ms after a probe began',
      (tale) => tale.well().open(40_000).probe(40_900).call(refused(48_000, 100)),
    ],
    [
      'a second probe began 2500 ms after one of caller-1.1',
      (tale) => tale.well().open(40_000).probe(40_900).probe(43_400, 102).record(43_500, 'closed'),
    ],
    [
      'a second probe began 500 ms after one of caller-3.1',
      (tale) =>
        tale
          .well()
          .tell(30_000, 'caller-3.1', { e: 'booted', pid: 555 })
          .open(40_000)
          .probe(40_900, 555)
          .tell(41_000, 'storm', { e: 'exited', process: 'caller-3.1' })
          .probe(41_400)
          .record(41_500, 'closed'),
    ],
    ['it did not open within', (tale) => tale.broken(20_000)],
    [
      'it was still open',
      (tale) => {
        for (let t = 15_010; t < 18_000; t += 50) tale.call(refused(t, 100));
        return tale.broken(11_300, 18_000).record(11_300, 'open', { retryAt: WALL_MS + 40_000 });
      },
    ],
    ['under 1, after', (tale) => tale.well().record(60_000, 'closed', { generation: 1 })],
    [
      'decided by itself at 30000 without a reason',
      (tale) =>
        tale
          .well()
          .tell(30_000, 'caller-1.1', { e: 'alone' })
          .tell(30_100, 'caller-1.1', { e: 'shared' }),
    ],
    [
      'decided by itself for 20000 ms',
      (tale) =>
        tale
          .well()
          .fault('client-kill', 29_990)
          .tell(30_000, 'caller-1.1', { e: 'alone' })
          .tell(50_000, 'caller-1.1', { e: 'shared' }),
    ],
    [
      'to its end',
      (tale) => tale.well().fault('client-kill', 29_990).tell(30_000, 'caller-1.1', { e: 'alone' }),
    ],
  ])('says "%s"', (text, wrong) => {
    expectSaid(wrong(new CircuitTale()), text);
  });

  it('does not blame who is refused for the probe that begins in that moment', () => {
    // Nobody called until long after the time to try again; then two calls at once.
    const tale = new CircuitTale()
      .well()
      .open(40_000)
      .call(refused(60_000, 1_900, { tookMs: 60 }));
    tale.probe(60_050).call(fused(60_001, { tookMs: 100, runs: [{ t: 60_060 }] }));
    expect(found(tale.record(60_100, 'closed'))).toEqual([]);
  });

  it('does not blame who could not know', () => {
    const tale = new CircuitTale().well().fault('redis-freeze-long', 13_300, 13_400);
    expect(found(tale.call(fused(13_500, { end: { code: 'FUSED' } })))).toEqual([]);
  });
});
