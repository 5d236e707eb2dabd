import { describe, expect, it } from '@jest/globals';
import type { GroupSeen } from './history.js';
import { Tale, WALL_MS, type Told } from './tale.js';

/** Two saves, by Redis's clock, and what they said. */
const FIRST = WALL_MS + 1_000;
const SECOND = WALL_MS + 20_000;

function flow(t: number, end: Told['end'] = {}, kind = 'flow'): Told {
  const made = { kind, fn: 'plan', impatient: kind !== 'flow' };
  return { t, made, end };
}

function group(generation: number, answers: GroupSeen['answers'], movesOn = false): GroupSeen {
  return { e: 'group', generation, movesOn, answers };
}

const answer = (
  bound: number,
  generation = bound,
): { bound: number; generation: number; version: null } => ({ bound, generation, version: null });

class FlowTale extends Tale {
  save(t: number, version: number, heardBy = ['caller-1.1', 'caller-2.1']): this {
    const generation = WALL_MS + t;
    this.tell(t, 'caller-1.1', { e: 'saved', generation, version, isLast: false });
    for (const who of heardBy) this.tell(t + 1, who, { e: 'heard', generation });
    return this;
  }

  restart(from: number, to: number, code?: string): this {
    this.tell(from, 'caller-1.1', { e: 'restart', id: `${from}` });
    return this.tell(to, 'caller-1.1', { e: 'restarted', id: `${from}`, code });
  }

  /** As it should be. */
  well(): this {
    this.save(1_000, 1).restart(1_100, 3_000).save(20_000, 2).restart(20_100, 23_000);
    this.call(flow(500, { generation: 0, version: null }));
    this.call(flow(4_000, { generation: FIRST, version: 1 }));
    this.call(flow(21_000, { generation: FIRST, version: 1 }));
    this.call(flow(24_000, { generation: SECOND, version: 2 }, 'bound'));
    this.tell(24_500, 'caller-2.1', group(SECOND, [answer(SECOND), answer(SECOND)]));
    return this.tell(25_000, 'caller-2.1', group(FIRST, [answer(FIRST), answer(SECOND)], true));
  }
}

const expectSaid = (tale: Tale, text: string): void => {
  const violations = tale.end().violations();
  expect(violations).toHaveLength(1);
  expect(violations[0]).toContain(text);
};

describe('the checker of the soak, of workflows', () => {
  it('finds nothing wrong with saves and restarts that go well', () => {
    expect(new FlowTale().well().end().violations()).toEqual([]);
  });

  it.each([
    ['while Redis stood still, and until a save was made then', 27_000, []],
    ['before that', 26_000, ['caller-3.1 did not hear of the save']],
  ])('knows of a process that came up %s', (_when, bootedAt, expected) => {
    const tale = new FlowTale().fault('redis-freeze-long', 26_500, 30_000);
    tale.tell(bootedAt, 'caller-3.1', { e: 'booted', pid: 9 }).well();
    const violations = tale.save(30_005, 3).end().violations();
    expect(violations.map((text) => /caller-3.1 did not hear of the save/.exec(text)?.[0])).toEqual(
      expected,
    );
  });

  it.each<[string, (tale: FlowTale) => Tale]>([
    [
      `is bound to ${SECOND} and was answered by ${FIRST}`,
      (tale) =>
        tale.tell(30_000, 'caller-1.1', group(SECOND, [answer(SECOND), answer(SECOND, FIRST)])),
    ],
    [
      `was bound to ${FIRST}, and then to ${SECOND}`,
      (tale) => tale.tell(30_000, 'caller-1.1', group(FIRST, [answer(FIRST), answer(SECOND)])),
    ],
    [
      `went back from ${SECOND} to ${FIRST}`,
      (tale) => tale.tell(30_000, 'caller-1.1', group(SECOND, [answer(FIRST)], true)),
    ],
    [
      'before its worker had loaded anything',
      (tale) => tale.call(flow(30_000, { generation: -1 }, 'bound')),
    ],
    [
      'was seen without what its save said',
      (tale) => tale.call(flow(30_000, { generation: SECOND, version: null })),
    ],
    [
      'was seen as version 1, and as 2',
      (tale) => tale.call(flow(30_000, { generation: SECOND, version: 1 })),
    ],
    [
      `heard of the save ${FIRST} after ${SECOND}`,
      (tale) => tale.tell(30_000, 'caller-1.1', { e: 'heard', generation: FIRST }),
    ],
    [
      `heard of the save ${SECOND} after ${SECOND}`,
      (tale) => tale.tell(30_000, 'caller-1.1', { e: 'heard', generation: SECOND }),
    ],
    ['caller-2.1 did not hear of the save', (tale) => tale.save(30_000, 3, ['caller-1.1'])],
    [
      'caller-2.1 did not hear of the save',
      (tale) => tale.fault('client-kill', 29_990, 30_010).save(30_000, 3, ['caller-1.1']),
    ],
    ['never ended', (tale) => tale.tell(30_000, 'caller-1.1', { e: 'restart', id: 'x' })],
    [
      'led by caller-1.1, took 80000 ms',
      (tale) => tale.fault('kill-worker', 31_000, 32_000, 'worker-2').restart(30_000, 110_000),
    ],
    [
      'failed with TypeError',
      (tale) =>
        tale.fault('kill-worker', 31_000, 32_000, 'worker-2').restart(30_000, 35_000, 'TypeError'),
    ],
    [
      'failed with RESTART_FAILED while nothing was wrong',
      (tale) => tale.restart(30_000, 35_000, 'RESTART_FAILED'),
    ],
    [
      'failed with RESTART_FAILED while nothing was wrong',
      (tale) =>
        tale
          .fault('restart-worker', 29_000, 32_900, 'worker-2')
          .restart(30_000, 36_000, 'RESTART_FAILED'),
    ],
    [
      'failed with RESTART_REFUSED while nothing was wrong',
      (tale) =>
        tale
          .fault('restart-worker', 29_000, 29_900, 'worker-2')
          .restart(30_000, 30_010, 'RESTART_REFUSED'),
    ],
    ['took 25000 ms while nothing was wrong', (tale) => tale.restart(30_000, 55_000)],
    [
      'its generation was gone, and it ran',
      (tale) =>
        tale.call({ ...flow(30_000, { code: 'GENERATION_GONE' }, 'bound'), runs: [{ t: 30_005 }] }),
    ],
    [
      'failed with NO_WORKER while nothing was wrong',
      (tale) => tale.call(flow(30_000, { code: 'NO_WORKER' }, 'flow-now')),
    ],
    [
      `ran on ${FIRST} after a restart to ${SECOND}`,
      (tale) => tale.call(flow(30_000, { generation: FIRST, version: 1 })),
    ],
  ])('says "%s"', (text, wrong) => {
    expectSaid(wrong(new FlowTale().well()), text);
  });

  it('lets a restart fail while a worker that was restarted by itself was away for long', () => {
    const tale = new FlowTale()
      .well()
      .fault('restart-worker', 29_000, 31_000, 'worker-2')
      .fault('restart-worker', 33_000, 36_000, 'worker-2')
      .restart(30_000, 36_500, 'RESTART_FAILED')
      .restart(35_000, 35_010, 'RESTART_REFUSED');
    expect(tale.end().violations()).toEqual([]);
  });

  it('lets a disturbed restart fail, and one whose leader was killed have no end', () => {
    const tale = new FlowTale().well().fault('flushall', 30_500);
    tale.restart(30_000, 31_000, 'RESTART_FAILED');
    tale.tell(39_000, 'caller-3.1', { e: 'booted', pid: 9 });
    tale.tell(40_000, 'caller-3.1', { e: 'restart', id: 'y' });
    expect(tale.end().violations()).toEqual([]);
  });
});
