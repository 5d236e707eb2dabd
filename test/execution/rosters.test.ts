import { describe, expect, it } from '@jest/globals';
import { PendingCalls } from '../../src/execution/caller/pending-calls.js';
import { HeldCalls } from '../../src/execution/worker/held-calls.js';
import { Roster, UNLISTED, type Listed } from '../../src/execution/worker/roster.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { Random } from '../harness/random.js';

interface Member extends Listed<Member> {
  readonly name: number;
}

const member = (name: number): Member => ({ ...UNLISTED, name });

describe('a roster', () => {
  it('has what a Set has, in its order, whatever comes and goes', () => {
    const random = new Random(1);
    const members = Array.from({ length: 20 }, (_, name) => member(name));
    const roster = new Roster<Member>();
    const set = new Set<Member>();
    for (let step = 0; step < 2_000; step += 1) {
      const one = members[random.below(members.length)] as Member;
      const was = [roster.has(one), set.has(one)];
      if (random.below(2) === 0) {
        roster.add(one);
        set.add(one);
      } else was.push(roster.delete(one), set.delete(one));
      expect(was[0]).toBe(was[1]);
      expect(was[2]).toBe(was[3]);
      if (step % 500 === 499) {
        roster.clear();
        set.clear();
      }
      expect([...roster].map(({ name }) => name)).toEqual([...set].map(({ name }) => name));
      expect([roster.size, roster.has(one)]).toEqual([set.size, set.has(one)]);
    }
  });

  it('is looked at one after the other from its first', () => {
    const roster = new Roster<Member>();
    const [one, two, three] = [member(1), member(2), member(3)];
    for (const each of [one, two, three]) roster.add(each);
    roster.delete(two);
    expect([roster.first, one.after, three.after]).toEqual([one, three, undefined]);
  });

  it('leads from who left to nobody: what left long ago keeps nothing that came later', () => {
    const roster = new Roster<Member>();
    const [one, two] = [member(1), member(2)];
    roster.add(one);
    roster.add(two);
    roster.delete(one);
    expect([one.before, one.after]).toEqual([undefined, undefined]);
    roster.clear();
    expect([two.before, two.after, two.isListed]).toEqual([undefined, undefined, false]);
  });

  it('may be changed by who goes through it', () => {
    const roster = new Roster<Member>();
    for (let name = 0; name < 5; name += 1) roster.add(member(name));
    const seen: number[] = [];
    for (const each of roster) {
      seen.push(each.name);
      for (const other of roster) if (other.name !== each.name) roster.delete(other);
    }
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    expect(roster.size).toBe(0);
  });
});

describe('pending calls', () => {
  it('are what a map by their id has, in its order, whatever comes and goes', () => {
    const random = new Random(2);
    const calls = new PendingCalls<{ readonly callId: string }>();
    const map = new Map<string, { readonly callId: string }>();
    for (let step = 0; step < 2_000; step += 1) {
      const call = { callId: `c${random.below(30)}` };
      const wasThere = map.delete(call.callId);
      expect(calls.delete(call)).toBe(wasThere);
      if (!wasThere) {
        calls.add(call);
        map.set(call.callId, call);
      }
      expect(calls.get(call.callId)).toBe(map.get(call.callId));
      expect([...calls]).toEqual([...map.values()]);
      expect([calls.size, calls.has(call)]).toEqual([map.size, map.has(call.callId)]);
    }
  });

  it('are found after very many were there at once', () => {
    const calls = new PendingCalls<{ readonly callId: string }>();
    const many = Array.from({ length: 10_001 }, (_, n) => ({ callId: `c${n}` }));
    for (const call of many) calls.add(call);
    for (const call of many) expect(calls.delete(call)).toBe(true);
    for (const call of many.slice(0, 3)) calls.add(call);
    expect([...calls]).toEqual(many.slice(0, 3));
    for (const call of many.slice(0, 3)) expect(calls.get(call.callId)).toBe(call);
  });
});

describe('held calls', () => {
  const refs = ['a', 'b', 'c'].map((name) => functionRef(name, 'default'));

  it('are sets of entry ids per function, whatever comes and goes', () => {
    const random = new Random(3);
    const held = new HeldCalls();
    const sets = new Map(refs.map((ref) => [ref, new Set<string>()]));
    for (let step = 0; step < 2_000; step += 1) {
      const ref = refs[random.below(refs.length)] as (typeof refs)[0];
      const place = { ref, entryId: `1-${random.below(3)}` };
      if (random.below(2) === 0) {
        held.add(place);
        sets.get(ref)?.add(place.entryId);
      } else {
        held.delete(place);
        sets.get(ref)?.delete(place.entryId);
      }
      if (step % 500 === 499) {
        held.clear();
        for (const set of sets.values()) set.clear();
      }
      for (const [other, set] of sets) {
        expect(held.of(other).sort()).toEqual([...set].sort());
        expect(held.has({ ref: other, entryId: place.entryId })).toBe(set.has(place.entryId));
      }
    }
  });

  it('stay as they were in a copy', () => {
    const held = new HeldCalls();
    const [one, two] = refs as [(typeof refs)[0], (typeof refs)[0]];
    held.add({ ref: one, entryId: '1-0' });
    held.add({ ref: two, entryId: '1-0' });
    held.add({ ref: two, entryId: '1-1' });
    const copy = held.copy();
    for (const ref of [one, two]) {
      held.delete({ ref, entryId: '1-0' });
      held.add({ ref, entryId: '2-0' });
    }
    expect([copy.of(one), copy.of(two)]).toEqual([['1-0'], ['1-0', '1-1']]);
  });
});
