import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { CallCancelledError } from '../../src/index.js';
import { TestClock } from '../../src/testing/test-clock.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { Callers, failure, LEASE_MS, openBy, REF, success, type Caller } from './callers.js';

const OPEN_MS = 5_000;

/** The interleavings of docs/adr/0006-shared-circuits.md; what the store does in each, the conformance suite shows. */
describe('a shared circuit', () => {
  let callers: Callers;
  let one: Caller;
  let two: Caller;

  beforeEach(async () => {
    callers = new Callers();
    one = await callers.add();
    two = await callers.add();
  });
  afterEach(() => callers.close());

  const counts = async (): Promise<number> =>
    (await callers.store.counts(REF, { windowMs: 10_000, failureRate: 0.5 })).calls;
  const stored = async (): Promise<{ state: string; generation: number }> =>
    JSON.parse((await callers.store.read(REF, undefined)).record) as never;
  const heardBy = (caller: Caller): Promise<unknown> =>
    eventually('news are on their way', () => caller.news.length > 0);

  it.each([
    ['the first one', 0],
    ['the second one', 1],
  ])('opens once when two callers report what opens it, %s first', async (_title, first) => {
    const [early, late] = first === 0 ? [one, two] : [two, one];
    for (const caller of [one, two]) await caller.fail(4);
    callers.clock.tick(600);
    const held = late.hold('report', 'before');
    const report = late.fail(1);
    await held.reached;
    await early.fail(1);
    expect(early.state).toBe('open');
    expect(late.state).toBe('closed');
    const { generation } = await stored();
    held.go();
    await report;
    expect(late.state).toBe('open');
    expect(await stored()).toMatchObject({ state: 'open', generation });
    await heardBy(one);
    expect(one.news.map(({ state }) => state)).toEqual(['open']);
  });

  it.each(['reset', 'close'] as const)(
    'drops a report of calls that began before a %s and arrives after it',
    async (kind) => {
      if (kind === 'close') await openBy(callers, one, two);
      else await one.fail(3);
      const held = two.hold('report', 'before');
      await two.call(failure);
      const report = two.circuit.report();
      // Open, it refused the call, and there is nothing to report.
      if (kind === 'reset') await held.reached;
      await one.circuit.order((store) => store.order(REF, { kind }));
      held.go();
      await report;
      expect(await counts()).toBe(0);
      expect(await stored()).toMatchObject({ state: 'closed' });
    },
  );

  it('counts a report that arrives before a reset no longer after it', async () => {
    await two.fail(3);
    expect(await counts()).toBe(3);
    await one.circuit.order((store) => store.order(REF, { kind: 'reset' }));
    expect(await counts()).toBe(0);
    two.hearAll();
    await two.fail(1);
    expect(await counts()).toBe(1);
  });

  it('counts a call that ends after a reset for the generation in which it began: for none', async () => {
    const end = createDeferred<void>();
    const call = one.call(() => end.promise.then(failure));
    await one.circuit.order((store) => store.order(REF, { kind: 'reset' }));
    end.resolve();
    await call;
    await one.circuit.report();
    expect(await counts()).toBe(0);
  });

  it('counts a call that ends before a reset no longer after it, reported before or after', async () => {
    await one.call(failure);
    await one.circuit.report();
    expect(await counts()).toBe(1);
    await one.call(failure);
    await one.circuit.order((store) => store.order(REF, { kind: 'reset' }));
    await one.circuit.report();
    expect(await counts()).toBe(0);
  });

  it.each([
    ['the first one', 0],
    ['the second one', 1],
  ])('is probed by one of two callers that find it due, %s first', async (_title, first) => {
    await openBy(callers, one, two);
    const [early, late] = first === 0 ? [one, two] : [two, one];
    callers.clock.tick(OPEN_MS);
    const held = late.hold('probe', 'before');
    const refused = late.call(success);
    await held.reached;
    const end = createDeferred<string>();
    const probe = early.call(() => end.promise);
    await eventually('it probes', () => early.state === 'half-open');
    held.go();
    expect(await refused).toBe('CIRCUIT_OPEN');
    expect(await early.call(success)).toBe('CIRCUIT_OPEN');
    end.resolve('done');
    expect(await probe).toBe('none');
    expect(early.state).toBe('closed');
    late.hearAll();
    expect(await late.call(success)).toBe('none');
  });

  it('passes a call whose question for the probe comes when another probe has closed it', async () => {
    await openBy(callers, one, two);
    callers.clock.tick(OPEN_MS);
    const held = two.hold('probe', 'before');
    const call = two.call(success);
    await held.reached;
    expect(await one.call(success)).toBe('none');
    held.go();
    expect(await call).toBe('none');
  });

  it('is asked for its probe by one call of a process, however many find it due', async () => {
    await openBy(callers, one, two);
    callers.clock.tick(OPEN_MS);
    const held = one.hold('probe', 'before');
    const probe = one.call(success);
    await held.reached;
    expect(await one.call(success)).toBe('CIRCUIT_OPEN');
    held.go();
    expect(await probe).toBe('none');
  });

  it('keeps the probe of a living prober, and takes over that of a dead one', async () => {
    await openBy(callers, one, two);
    callers.clock.tick(OPEN_MS);
    const end = createDeferred<string>();
    const probe = one.call(() => end.promise);
    await eventually('it probes', () => one.state === 'half-open');
    two.hearAll();
    // Alive: its lease is renewed three times per lease.
    for (let time = 0; time < 2 * LEASE_MS; time += LEASE_MS / 6) {
      callers.clock.tick(LEASE_MS / 6);
      await eventually('it is kept', async () => {
        const { record, timestamp } = await callers.store.read(REF, undefined);
        return (JSON.parse(record) as { retryAt: number }).retryAt - timestamp > LEASE_MS / 2;
      });
      expect(await two.call(success)).toBe('CIRCUIT_OPEN');
    }
    // Dead, or frozen: nothing is said any more.
    const held = one.hold('conclude', 'before');
    callers.clock.tick(LEASE_MS + 1);
    await held.reached;
    const other = createDeferred<string>();
    const taken = two.call(() => other.promise);
    await eventually('it is taken over', async () => {
      const { record } = await callers.store.read(REF, undefined);
      return (JSON.parse(record) as { prober: string }).prober === two.name;
    });
    // It comes back, and what it says changes nothing.
    const { generation } = await stored();
    end.resolve('done');
    expect(await probe).toBe('none');
    held.go();
    expect(await stored()).toMatchObject({ state: 'half-open', generation });
    other.reject(new Error('not known'));
    await taken;
  });

  it('lets another call probe when one says nothing about the function', async () => {
    await openBy(callers, one, two);
    callers.clock.tick(OPEN_MS);
    const cancelled = (): Promise<never> =>
      Promise.reject(new CallCancelledError('work', 'default'));
    expect(await one.call(cancelled)).toBe('CALL_CANCELLED');
    expect(await stored()).toMatchObject({ state: 'open', reason: 'failure-rate' });
    await eventually('it is told', () => two.news.at(-1)?.state === 'open');
    two.hearAll();
    callers.clock.tick(100);
    expect(await two.call(success)).toBe('none');
    expect(await stored()).toMatchObject({ state: 'closed' });
  });

  it.each([
    ['by the answer to the next report', (caller: Caller) => caller.fail(1)],
    ['by a read', (caller: Caller) => caller.circuit.read()],
  ])('is found open by who did not hear of it: %s', async (_title, ask) => {
    const third = await callers.add();
    await openBy(callers, one, two);
    expect(third.state).toBe('closed');
    await ask(third);
    expect(third.state).toBe('open');
    expect(third.changes).toMatchObject([{ from: 'closed', to: 'open' }]);
  });

  it('is found closed by who did not hear of it, when it is due', async () => {
    await openBy(callers, one, two);
    await one.circuit.order((store) => store.order(REF, { kind: 'close' }));
    expect(await two.call(success)).toBe('CIRCUIT_OPEN');
    callers.clock.tick(OPEN_MS);
    expect(await two.call(success)).toBe('none');
    expect(two.state).toBe('closed');
  });

  it.each([
    ['in their order', (news: never[]) => news],
    ['in the other order', (news: never[]) => news.toReversed()],
  ])('is what the newest news say, heard %s', async (_title, order) => {
    const third = await callers.add();
    await openBy(callers, one, two);
    await one.circuit.order((store) => store.order(REF, { kind: 'close' }));
    await one.circuit.order((store) =>
      store.order(REF, { kind: 'open', reason: 'again', forMs: undefined }),
    );
    await eventually('all are on their way', () => third.news.length === 3);
    third.hearAll(order as never);
    expect([third.state, third.circuit.reason]).toEqual(['open', 'again']);
  });

  it.each([
    ['before', 'before'],
    ['after', 'after'],
  ] as const)(
    'keeps news that overtake a read under way, held %s the store',
    async (_title, stage) => {
      const third = await callers.add();
      const held = third.hold('read', stage);
      const read = third.circuit.read();
      await held.reached;
      await one.circuit.order((store) =>
        store.order(REF, { kind: 'open', reason: 'now', forMs: undefined }),
      );
      await heardBy(third);
      third.hearAll();
      expect(third.state).toBe('open');
      held.go();
      await read;
      expect(third.state).toBe('open');
      expect(third.changes.map(({ to }) => to)).toEqual(['open']);
    },
  );

  it('is written back by who knows it when Redis was emptied, and others hear of it', async () => {
    await openBy(callers, one, two);
    callers.forget();
    const third = await callers.add();
    expect(third.state).toBe('closed');
    await one.circuit.read();
    expect(one.state).toBe('open');
    await heardBy(third);
    third.hearAll();
    expect(third.state).toBe('open');
    await two.circuit.read();
    expect(two.state).toBe('open');
    callers.clock.tick(OPEN_MS);
    expect(await two.call(success)).toBe('none');
    expect(await stored()).toMatchObject({ state: 'closed' });
  });

  it('counts anew when Redis was emptied while it was closed', async () => {
    await one.circuit.order((store) => store.order(REF, { kind: 'reset' }));
    callers.forget();
    await one.fail(3);
    expect(await counts()).toBe(0);
    await one.fail(3);
    expect(await counts()).toBe(3);
    expect(one.state).toBe('closed');
  });

  it("is due at one time on hosts whose clocks differ, and says when on each host's own", async () => {
    const off = new TestClock('frozen');
    off.shift(3_600_000);
    const third = await callers.add({}, off);
    await openBy(callers, one, two);
    third.hearAll();
    expect(third.circuit.leftMs).toBe(OPEN_MS);
    expect(third.circuit.retryAt).toBe(off.now() + OPEN_MS);
    expect(one.circuit.retryAt).toBe(callers.clock.now() + OPEN_MS);
    // Somebody sets its clock: nothing comes sooner, or later.
    off.shift(-7_200_000);
    expect(third.circuit.leftMs).toBe(OPEN_MS);
    off.tick(OPEN_MS);
    callers.clock.tick(OPEN_MS);
    expect(await third.call(success)).toBe('none');
  });

  describe('when Redis cannot be asked', () => {
    const goAway = (...away: Caller[]): void =>
      away.forEach((caller) => (caller.connected = false));

    it('opens for each caller by itself, and tries again with one call each', async () => {
      goAway(one);
      await one.call(failure);
      await one.circuit.report();
      expect(one.circuit.isAlone).toBe(true);
      for (let count = 0; count < 4; count += 1) await one.call(failure);
      expect(one.state).toBe('open');
      expect(one.changes).toMatchObject([{ to: 'open', shared: false }]);
      expect(await one.call(success)).toBe('CIRCUIT_OPEN');
      expect(two.state).toBe('closed');
    });

    it('stays open where it was, for as long as it was', async () => {
      await openBy(callers, one, two);
      goAway(one);
      await one.circuit.read();
      expect([one.circuit.isAlone, one.state]).toEqual([true, 'open']);
      expect(one.circuit.leftMs).toBe(OPEN_MS);
      expect(await one.call(success)).toBe('CIRCUIT_OPEN');
    });

    it('stays open where it was held by hand', async () => {
      await one.circuit.order((store) =>
        store.order(REF, { kind: 'open', reason: 'x', forMs: undefined }),
      );
      goAway(one);
      await one.circuit.read();
      expect(await one.call(success)).toBe('CIRCUIT_OPEN');
      expect(one.circuit.retryAt).toBeUndefined();
    });

    it('lets the first call wait for the record for a second, and shares it when it comes', async () => {
      const late = await callers.join();
      const held = late.hold('read', 'before');
      let ended = false;
      const call = late.call(success).finally(() => (ended = true));
      await held.reached;
      callers.clock.tick(999);
      expect(await one.call(success)).toBe('none');
      expect([ended, late.circuit.isAlone]).toEqual([false, false]);
      callers.clock.tick(1);
      expect(await call).toBe('none');
      expect(late.circuit.isAlone).toBe(true);
      held.go();
      await eventually('it is shared', () => late.circuit.isShared);
    });

    it('waits a second to be its probe, and leaves it to others when it is that later', async () => {
      await openBy(callers, one, two);
      callers.clock.tick(OPEN_MS);
      const held = one.hold('probe', 'after');
      let ended = false;
      const call = one.call(success).finally(() => (ended = true));
      await held.reached;
      callers.clock.tick(999);
      expect(await two.call(success)).toBe('CIRCUIT_OPEN');
      expect([ended, one.circuit.isAlone]).toEqual([false, false]);
      callers.clock.tick(1);
      // By itself it is open still, or tries.
      expect(['none', 'CIRCUIT_OPEN']).toContain(await call);
      expect(one.circuit.isAlone).toBe(true);
      held.go();
      await eventually('nobody is its probe', async () => (await stored()).state === 'open');
      callers.clock.tick(200);
      expect(200).toBeLessThan(LEASE_MS);
      await two.circuit.read();
      expect(await two.call(success)).toBe('none');
      expect(two.state).toBe('closed');
    });

    it.each([
      ['closes when that succeeds', success, 'none', 'closed'],
      ['opens again when that fails', failure, 'HANDLER_FAILED', 'open'],
      [
        'opens again when that says nothing',
        () => Promise.reject(new CallCancelledError('work', 'default')),
        'CALL_CANCELLED',
        'open',
      ],
    ] as const)('tries by itself when its time is up, and %s', async (_title, run, code, state) => {
      await one.circuit.order((store) => store.order(REF, { kind: 'open', reason: 'x', forMs: 1 }));
      goAway(one);
      await one.circuit.read();
      // Cockatiel's own clock is the host's.
      const end = createDeferred<void>();
      const probe = await eventually('it tries', async () => {
        const call = one.call(() => end.promise.then<unknown>(run));
        const refused = await Promise.race([call, new Promise((r) => setImmediate(r, 'tries'))]);
        return refused === 'tries' ? { call } : Promise.reject(new Error('it is refused'));
      });
      expect(await one.call(success)).toBe('CIRCUIT_OPEN');
      end.resolve();
      expect(await probe.call).toBe(code);
      expect(one.state).toBe(state);
    });

    it('tells nothing of a call that began then and ends when it is shared again', async () => {
      goAway(one);
      await one.circuit.read();
      for (let count = 0; count < 3; count += 1) await one.call(failure);
      const end = createDeferred<void>();
      const late = one.call(() => end.promise.then(failure));
      one.connected = true;
      await one.circuit.read();
      end.resolve();
      expect(await late).toBe('HANDLER_FAILED');
      expect([one.state, one.changes]).toEqual(['closed', []]);
    });

    it('goes back to what all share with the first answer', async () => {
      goAway(one);
      await one.circuit.read();
      for (let count = 0; count < 5; count += 1) await one.call(failure);
      expect(one.state).toBe('open');
      one.connected = true;
      await one.circuit.read();
      expect([one.circuit.isShared, one.state]).toEqual([true, 'closed']);
      expect(one.changes.at(-1)).toMatchObject({ from: 'open', to: 'closed', shared: true });
      await openBy(callers, one, two);
      expect(two.state).toBe('open');
    });
  });

  it('lets calls pass in a state that this version does not know', async () => {
    const record = JSON.stringify({ generation: 7, since: 1, state: 'throttled' });
    const reading = { record, timestamp: callers.clock.now() };
    one.backend.circuits.read = () => Promise.resolve(reading);
    await one.circuit.read();
    expect(await one.call(success)).toBe('none');
    await openBy(callers, one, two);
    await one.circuit.read();
    expect([one.state, await one.call(success)]).toEqual(['closed', 'none']);
  });
});
