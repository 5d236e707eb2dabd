import { beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Deadlines, type Expiring } from '../../src/common/deadlines.js';
import { TestClock } from '../../src/testing/test-clock.js';

interface Item extends Expiring {
  readonly name: string;
}

let clock: TestClock;
let expired: string[];
let deadlines: Deadlines<Item>;
beforeEach(() => {
  clock = new TestClock('frozen');
  expired = [];
  deadlines = new Deadlines<Item>(clock, ({ name }) => expired.push(name));
});

function add(name: string, ms: number): Item {
  const item: Item = { name };
  deadlines.add(item, ms);
  return item;
}

describe('deadlines', () => {
  it('are told when they pass, not before, each once', () => {
    add('a', 100);
    clock.tick(50);
    add('b', 100);
    clock.tick(49);
    expect(expired).toEqual([]);
    clock.tick(1);
    expect(expired).toEqual(['a']);
    clock.tick(49);
    expect(expired).toEqual(['a']);
    clock.tick(1_000);
    expect(expired).toEqual(['a', 'b']);
  });

  it('of one duration have one timer, which is gone when they are', () => {
    for (let n = 0; n < 1_000; n += 1) add(`${n}`, 100);
    expect(clock.pending).toBe(1);
    clock.tick(100);
    expect(expired).toHaveLength(1_000);
    expect(clock.pending).toBe(0);
  });

  it('that were removed are not told, and leave no timer behind for longer than they had', () => {
    const items = [add('a', 100), add('b', 100), add('c', 100)];
    for (const index of [1, 0, 2]) deadlines.remove(items[index] as Item);
    deadlines.remove(items[1] as Item);
    clock.tick(100);
    expect(expired).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it('may be removed, and others added, while one is told', () => {
    let other: Item | undefined;
    const nested = new Deadlines<Item>(clock, ({ name }) => {
      expired.push(name);
      if (other !== undefined) nested.remove(other);
      other = undefined;
      if (name === 'a') nested.add({ name: 'late' }, 100);
    });
    nested.add({ name: 'a' }, 100);
    other = { name: 'b' };
    nested.add(other, 100);
    clock.tick(100);
    expect(expired).toEqual(['a']);
    clock.tick(100);
    expect(expired).toEqual(['a', 'late']);
  });

  it.each([3_600_000, -3_600_000])('pass although the host’s clock is set by %s ms', (ms) => {
    add('a', 100);
    clock.tick(50);
    clock.shift(ms);
    add('b', 100);
    clock.tick(49);
    expect(expired).toEqual([]);
    clock.tick(1);
    expect(expired).toEqual(['a']);
    clock.tick(50);
    expect(expired).toEqual(['a', 'b']);
  });

  it('are all forgotten by clear', () => {
    add('a', 100);
    add('b', 200);
    deadlines.clear();
    expect(clock.pending).toBe(0);
    clock.tick(500);
    expect(expired).toEqual([]);
  });

  it('are told as a timer for each would tell them', () => {
    const step = fc.record({
      ms: fc.constantFrom(10, 20, 50),
      turn: fc.nat({ max: 15 }),
      remove: fc.option(fc.nat({ max: 30 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        clock = new TestClock('frozen');
        const told: string[] = [];
        const expected: string[] = [];
        const all = new Deadlines<Item>(clock, ({ name }) => told.push(`${name}@${clock.now()}`));
        const items: Item[] = [];
        const gone = new Set<string>();
        for (const [index, { ms, turn, remove }] of steps.entries()) {
          const item: Item = { name: `${index}` };
          items.push(item);
          all.add(item, ms);
          clock.after(ms, () => {
            if (!gone.has(item.name)) expected.push(`${item.name}@${clock.now()}`);
          });
          const victim = remove === undefined ? undefined : items[remove];
          if (victim !== undefined) {
            all.remove(victim);
            gone.add(victim.name);
          }
          clock.tick(turn);
        }
        clock.tick(100);
        expect([...told].sort()).toEqual([...expected].sort());
        expect(clock.pending).toBe(0);
      }),
    );
  });
});
