import assert from 'node:assert/strict';
import type { CircuitReading, CircuitTerms } from '../backend/circuit-store.js';
import {
  parseCircuitNotification,
  parseCircuitRecord,
  type CircuitNotification,
  type CircuitRecord,
} from '../protocol/circuit.js';
import { functionRef } from '../protocol/function-ref.js';
import { Keys } from '../protocol/keys.js';
import { isMalformed } from '../protocol/notification.js';
import type { ConformanceCase } from './conformance-case.js';
import type { Member } from './member.js';
import { becomes } from './patience.js';
import { portCases, type Scene } from './scene.js';

const TERMS: CircuitTerms = {
  windowMs: 60_000,
  minimumCalls: 10,
  failureRate: 0.5,
  quorum: 0.5,
  openMs: 60_000,
  settleMs: 0,
};
const SHORT_MS = 150;

function recordOf({ record: text }: CircuitReading): CircuitRecord {
  const record = parseCircuitRecord(text);
  if (isMalformed(record)) throw new assert.AssertionError({ message: record.malformed });
  return record;
}

async function read(member: Member, { ref }: Scene): Promise<CircuitRecord> {
  return recordOf(await member.backend.circuits.read(ref, undefined));
}

/** What a member reports as a caller; the record after it. */
async function report(
  member: Member,
  { ref }: Scene,
  calls: number,
  failures: number,
  more: { generation?: number; terms?: Partial<CircuitTerms> } = {},
): Promise<CircuitRecord> {
  const { generation = 0 } = more;
  const terms = { ...TERMS, ...more.terms };
  const caller = member.processId;
  return recordOf(
    await member.backend.circuits.report(ref, { caller, generation, calls, failures, terms }),
  );
}

async function opened(member: Member, { ref }: Scene, forMs?: number): Promise<CircuitRecord> {
  return recordOf(
    await member.backend.circuits.order(ref, { kind: 'open', reason: 'maintenance', forMs }),
  );
}

/** The probe of a circuit that is due. */
async function probing(member: Member, scene: Scene, leaseMs = 60_000): Promise<CircuitRecord> {
  await opened(member, scene, 1);
  return becomes('the probe is granted', async () => {
    const answer = await member.backend.circuits.probe(
      scene.ref,
      member.processId,
      leaseMs,
      undefined,
    );
    return answer.granted ? recordOf(answer) : undefined;
  });
}

/** Every change that a member hears of from here on. */
async function hearing(member: Member, { keys, ref }: Scene): Promise<() => CircuitNotification[]> {
  const channel = keys.circuitChannel(ref);
  await member.backend.bus.subscribe([channel]);
  return () =>
    member.news.heard
      .filter((one) => one.channel === channel)
      .map(({ data }) => {
        const text = JSON.stringify({ pattern: channel, data });
        const news = parseCircuitNotification(ref, text);
        if (isMalformed(news)) throw new assert.AssertionError({ message: news.malformed });
        return news;
      });
}

export const circuitCases: readonly ConformanceCase[] = [
  ...portCases('One circuit for the fleet', {
    'a circuit of which nothing is known is closed': async (scene) => {
      const member = await scene.member();
      assert.equal((await member.backend.circuits.read(scene.ref, undefined)).record, '');
      assert.deepEqual(await read(member, scene), { generation: 0, state: 'closed', since: 0 });
    },

    'it opens when enough calls failed, over all callers, and not before': async (scene) => {
      const [one, two] = [await scene.member(), await scene.member()];
      const hear = await hearing(two, scene);
      assert.equal((await report(one, scene, 5, 5)).state, 'closed', 'too few calls');
      assert.equal((await report(two, scene, 4, 4)).state, 'closed', 'too few calls yet');
      const record = await report(two, scene, 1, 1);
      assert.deepEqual([record.state, record.reason], ['open', 'failure-rate']);
      assert.equal((record.retryAt ?? 0) - record.since, TERMS.openMs);
      const [news] = await becomes('it is told', () =>
        Promise.resolve(hear().length > 0 ? hear() : undefined),
      );
      const { type: _, functionName, workflowId, timestamp, ...told } = news as CircuitNotification;
      assert.deepEqual(told, record);
      assert.deepEqual([functionName, workflowId], ['work', 'default']);
      assert.equal(timestamp, record.since);
    },

    'it opens at the failure rate, and not below it': async (scene) => {
      const member = await scene.member();
      assert.equal((await report(member, scene, 99, 49)).state, 'closed');
      assert.equal((await report(member, scene, 1, 1)).state, 'open');
    },

    'one caller that fails alone does not open it for all, whatever it calls': async (scene) => {
      const [bad, good] = [await scene.member(), await scene.member()];
      await report(good, scene, 5, 0);
      assert.equal((await report(bad, scene, 500, 500)).state, 'closed');
      const terms = { quorum: 0 };
      assert.equal((await report(bad, scene, 1, 1, { terms })).state, 'closed', 'no quorum');
      const counts = await bad.backend.circuits.counts(scene.ref, TERMS);
      assert.deepEqual(counts, { calls: 506, failures: 501, callers: 2, failingCallers: 1 });
      assert.equal((await report(good, scene, 5, 5)).state, 'open', 'a quorum');
    },

    'nothing opens before all who call have had the time to report': async (scene) => {
      const [bad, good] = [await scene.member(), await scene.member()];
      const terms = { settleMs: 2 * SHORT_MS };
      const since = Date.now();
      assert.equal((await report(bad, scene, 99, 99, { terms })).state, 'closed');
      await becomes('it opens to who is alone then', async () =>
        (await report(bad, scene, 1, 1, { terms })).state === 'open' ? true : undefined,
      );
      assert.ok(Date.now() - since >= 2 * SHORT_MS - 5, 'after that time');
      const { generation } = recordOf(
        await bad.backend.circuits.order(scene.ref, { kind: 'close' }),
      );
      const again = { terms, generation };
      const closedAt = Date.now();
      assert.equal((await report(bad, scene, 99, 99, again)).state, 'closed', 'and anew');
      await report(good, scene, 5, 0, again);
      await becomes('it is settled', () =>
        Promise.resolve(Date.now() - closedAt > 3 * SHORT_MS ? true : undefined),
      );
      assert.equal((await report(bad, scene, 99, 99, again)).state, 'closed', 'it is not alone');
    },

    'a quorum of the callers has to see it, however many there are': async (scene) => {
      const callers = [];
      for (let count = 0; count < 5; count += 1) callers.push(await scene.member());
      for (const caller of callers) await report(caller, scene, 1, 0);
      const states = [];
      for (const caller of callers.slice(0, 3))
        states.push((await report(caller, scene, 20, 20)).state);
      assert.deepEqual(states, ['closed', 'closed', 'open'], 'three of five');
    },

    'what is older than the window does not count, nor who counted it': async (scene) => {
      const [one, two] = [await scene.member(), await scene.member()];
      const terms = { windowMs: 300 };
      await report(one, scene, 9, 0, { terms });
      const counts = (): ReturnType<typeof one.backend.circuits.counts> =>
        one.backend.circuits.counts(scene.ref, { ...TERMS, ...terms });
      assert.equal((await counts()).calls, 9);
      await becomes('it is forgotten', async () =>
        (await counts()).calls === 0 ? true : undefined,
      );
      assert.equal((await report(two, scene, 9, 9, { terms })).state, 'closed', 'nine calls');
      assert.equal((await counts()).callers, 1);
      assert.equal((await report(two, scene, 1, 1, { terms })).state, 'open', 'it is alone');
    },

    'two reports that open it open it once, in both orders': async (scene) => {
      const [one, two] = [await scene.member(), await scene.member()];
      const hear = await hearing(one, scene);
      for (const [first, second] of [
        [one, two],
        [two, one],
      ] as const) {
        const { generation } = recordOf(
          await one.backend.circuits.order(scene.ref, { kind: 'reset' }),
        );
        const before = hear().length;
        await report(first, scene, 9, 9, { generation });
        await report(second, scene, 9, 9, { generation });
        const after = await report(first, scene, 9, 9, { generation });
        assert.equal(after.state, 'open');
        assert.deepEqual(await report(second, scene, 9, 9, { generation }), after, 'no change');
        await becomes('it is told', () =>
          Promise.resolve(hear().at(-1)?.generation === after.generation ? true : undefined),
        );
        const told = hear()
          .slice(before)
          .filter(({ state }) => state === 'open');
        assert.equal(told.length, 1);
      }
    },

    'reports of calls that began before a change are dropped': async (scene) => {
      const { ref } = scene;
      const member = await scene.member();
      const { circuits } = member.backend;
      const { generation, state } = recordOf(await circuits.order(ref, { kind: 'reset' }));
      assert.deepEqual([state, generation > 0], ['closed', true]);
      assert.equal((await report(member, scene, 99, 99)).generation, generation);
      assert.equal(
        (await report(member, scene, 99, 99, { generation: generation - 1 })).state,
        'closed',
      );
      assert.equal((await circuits.counts(ref, TERMS)).calls, 0);
      assert.equal((await report(member, scene, 10, 10, { generation })).state, 'open');
    },

    'a reset forgets what was counted, and closing what is closed does not': async (scene) => {
      const { ref } = scene;
      const member = await scene.member();
      const { circuits } = member.backend;
      await report(member, scene, 9, 9);
      assert.equal(recordOf(await circuits.order(ref, { kind: 'close' })).generation, 0);
      assert.equal((await circuits.counts(ref, TERMS)).calls, 9);
      const reset = recordOf(await circuits.order(ref, { kind: 'reset' }));
      assert.equal((await circuits.counts(ref, TERMS)).calls, 0);
      const again = recordOf(await circuits.order(ref, { kind: 'reset' }));
      assert.ok(again.generation > reset.generation, 'each is a change');
    },

    'it is opened by hand, for a while or until it is closed': async (scene) => {
      const { ref } = scene;
      const member = await scene.member();
      const { circuits } = member.backend;
      const held = await opened(member, scene);
      assert.deepEqual([held.state, held.reason, held.retryAt], ['open', 'maintenance', undefined]);
      assert.equal((await circuits.probe(ref, 'p', 1_000, undefined)).granted, false, 'it is held');
      const brief = await opened(member, scene, 70);
      assert.equal((brief.retryAt ?? 0) - brief.since, 70);
      assert.ok(brief.generation > held.generation);
      const closed = recordOf(await circuits.order(ref, { kind: 'close' }));
      assert.deepEqual(
        [closed.state, closed.reason, closed.retryAt],
        ['closed', undefined, undefined],
      );
      assert.deepEqual(await read(member, scene), closed);
    },

    'one caller probes when it is due, and nobody else does': async (scene) => {
      const { ref } = scene;
      const [one, two] = [await scene.member(), await scene.member()];
      await opened(one, scene, SHORT_MS);
      const early = await one.backend.circuits.probe(ref, one.processId, 60_000, undefined);
      assert.equal(early.granted, false, 'it is not due');
      const ask = (member: Member): Promise<{ granted: boolean }> =>
        member.backend.circuits.probe(ref, member.processId, 60_000, undefined);
      const granted = await becomes('it is due', async () => {
        const answers = await Promise.all([ask(one), ask(two), ask(one), ask(two)]);
        const count = answers.filter((answer) => answer.granted).length;
        return count > 0 ? count : undefined;
      });
      assert.equal(granted, 1);
      const record = await read(two, scene);
      assert.deepEqual([record.state, record.reason], ['half-open', 'maintenance']);
      assert.ok([one.processId, two.processId].includes(record.prober ?? ''), 'it has a prober');
    },

    'what a probe shows closes the circuit, or opens it again': async (scene) => {
      const { ref } = scene;
      const member = await scene.member();
      const { circuits } = member.backend;
      const first = await probing(member, scene);
      const failed = recordOf(await circuits.conclude(ref, first.generation, 'failure', 5_000));
      assert.deepEqual([failed.state, failed.reason], ['open', 'probe-failed']);
      assert.equal((failed.retryAt ?? 0) - failed.since, 5_000);
      const second = await probing(member, scene);
      const nothing = recordOf(await circuits.conclude(ref, second.generation, 'none', 1));
      assert.deepEqual([nothing.state, nothing.reason], ['open', 'maintenance']);
      const third = await probing(member, scene);
      const closed = recordOf(await circuits.conclude(ref, third.generation, 'success', 0));
      assert.deepEqual([closed.state, closed.prober], ['closed', undefined]);
      const generations = [first, failed, second, nothing, third, closed].map(
        ({ generation }) => generation,
      );
      assert.deepEqual(
        generations,
        generations.toSorted((a, b) => a - b),
      );
    },

    'a probe that is kept is not taken over, and one that is not is': async (scene) => {
      const { ref } = scene;
      const [one, two] = [await scene.member(), await scene.member()];
      const probe = await probing(one, scene, SHORT_MS);
      const { generation } = probe;
      const kept = recordOf(
        await one.backend.circuits.conclude(ref, generation, 'keep', 3 * SHORT_MS),
      );
      assert.equal(kept.generation, generation, 'no change of state');
      assert.ok((kept.retryAt ?? 0) > (probe.retryAt ?? 0));
      const taken = await becomes('it is taken over', async () => {
        const answer = await two.backend.circuits.probe(ref, two.processId, 60_000, undefined);
        return answer.granted ? answer : undefined;
      });
      assert.ok(taken.timestamp >= (kept.retryAt ?? Infinity), 'not before its lease ran out');
      for (const verdict of ['success', 'failure', 'none', 'keep'] as const)
        await one.backend.circuits.conclude(ref, generation, verdict, 1);
      const record = await read(one, scene);
      assert.deepEqual(record, recordOf(taken), 'what the old prober says changes nothing');
      assert.equal(record.prober, two.processId);
    },

    'a probe that was ended by hand says nothing, in both orders': async (scene) => {
      const { ref } = scene;
      const member = await scene.member();
      const { circuits } = member.backend;
      const { generation } = await probing(member, scene);
      const held = await opened(member, scene);
      assert.deepEqual(recordOf(await circuits.conclude(ref, generation, 'success', 1)), held);
      const again = await probing(member, scene);
      await circuits.conclude(ref, again.generation, 'success', 1);
      assert.equal((await opened(member, scene)).state, 'open');
    },

    'nothing is counted while it is not closed': async (scene) => {
      const member = await scene.member();
      const { circuits } = member.backend;
      const { generation } = await opened(member, scene);
      await report(member, scene, 5, 0, { generation });
      assert.equal((await circuits.counts(scene.ref, TERMS)).calls, 0);
    },

    'circuits of two functions, and of two key prefixes, are not one': async (scene) => {
      const member = await scene.member();
      await opened(member, scene);
      const other = functionRef('other', 'default');
      assert.equal((await member.backend.circuits.read(other, undefined)).record, '');
      const stranger = await scene.member(new Keys(`${scene.keys.prefix}2:`));
      assert.equal((await stranger.backend.circuits.read(scene.ref, undefined)).record, '');
    },
  }),

  ...portCases(
    'One circuit for the fleet',
    {
      'one that is open, and forgotten, is written back by who knows it, once': async (scene) => {
        const { ref } = scene;
        const [one, two] = [await scene.member(), await scene.member()];
        const known = await opened(one, scene, 60_000);
        await scene.forget();
        assert.equal((await read(two, scene)).state, 'closed', 'who does not know it');
        const hear = await hearing(two, scene);
        const back = recordOf(await one.backend.circuits.read(ref, known));
        assert.deepEqual(
          [back.state, back.reason, back.retryAt],
          ['open', 'maintenance', known.retryAt],
        );
        assert.ok(back.generation > known.generation);
        assert.deepEqual(recordOf(await two.backend.circuits.read(ref, known)), back);
        const told = await becomes('it is told', () => Promise.resolve(hear()[0]));
        assert.equal(told.generation, back.generation);
        assert.equal(hear().length, 1);
        // Where it was closed since, that holds.
        const closed = recordOf(await one.backend.circuits.order(ref, { kind: 'close' }));
        assert.deepEqual(recordOf(await two.backend.circuits.read(ref, known)), closed);
      },

      'one that is due, and forgotten, is probed by who knows it': async (scene) => {
        const { ref } = scene;
        const member = await scene.member();
        const known = await opened(member, scene, 1);
        await scene.forget();
        await becomes('the probe is granted', async () => {
          const answer = await member.backend.circuits.probe(ref, 'p', 60_000, known);
          return answer.granted ? true : undefined;
        });
        assert.equal((await read(member, scene)).state, 'half-open');
      },
    },
    'forget',
  ),
];
