import assert from 'node:assert/strict';
import type { FleetView } from '../backend/fleet-store.js';
import { isFunctionsError } from '../common/errors.js';
import type { ConformanceCase } from './conformance-case.js';
import { OFFICE_MS, OFFICES, type Member } from './member.js';
import { atOnce, becomes, begun, LONG_BLOCK_MS } from './patience.js';
import { portCases, type Scene } from './scene.js';

/** Short for a lease, and long for a machine that does other things too. */
const SHORT_LEASE_MS = 500;

/** A process that supervises. */
async function supervising(scene: Scene): Promise<Member> {
  const member = await (await scene.member()).join();
  assert.equal(await member.backend.fleet.elect(member.sessionId, OFFICES), 'supervisor');
  return member;
}

async function look(supervisor: Member, withLeases = false): Promise<FleetView> {
  const view = await supervisor.backend.fleet.look(
    supervisor.sessionId,
    OFFICE_MS,
    withLeases,
    true,
  );
  assert.ok(view, 'it holds its office');
  return view;
}

export const fleetCases: readonly ConformanceCase[] = [
  ...portCases('Process death is seen in milliseconds, freezes in seconds', {
    'a process that ends without a word is missed at once': async (scene) => {
      const supervisor = await supervising(scene);
      const worker = await scene.worker();
      await worker.register(scene.ref, 'w');
      const { fleet } = supervisor.backend;
      const before = await look(supervisor);
      assert.deepEqual([before.sessions, before.absent], [2, []]);
      assert.equal(await fleet.isReading(worker.sessionId), true);
      assert.equal(await fleet.condemn(worker.sessionId, 'presence'), undefined, 'it lives');
      await worker.vanish();
      await becomes('it is missed', async () =>
        (await look(supervisor)).absent.includes(worker.sessionId) ? true : undefined,
      );
      await becomes('its read is gone', async () =>
        (await fleet.isReading(worker.sessionId)) === true ? undefined : true,
      );
      const hosted = await fleet.condemn(worker.sessionId, 'presence');
      assert.deepEqual(hosted, [{ ref: scene.ref, workerId: 'w' }]);
    },

    'a process that is condemned learns it, and stays so until it is buried': async (scene) => {
      const supervisor = await supervising(scene);
      const worker = await scene.worker();
      await worker.register(scene.ref);
      const { fleet } = supervisor.backend;
      const control = scene.keys.control(worker.sessionId);
      await worker.backend.bus.unsubscribe([control]);
      assert.deepEqual((await look(supervisor)).absent, [worker.sessionId]);
      assert.ok(await fleet.condemn(worker.sessionId, 'presence'));
      assert.equal((await worker.beat()).verdict, 'condemned');
      await worker.backend.bus.subscribe([control]);
      await worker.backend.workers.setPresence(worker.session, true);
      assert.equal((await worker.beat()).verdict, 'condemned', 'it cannot come back');
      const { workers, stale } = await supervisor.backend.workers.snapshot(scene.ref);
      assert.deepEqual([workers.length, stale.length], [0, 1]);
      // By a supervisor that died in the middle: the next one finds it, and does it again.
      assert.deepEqual((await look(supervisor, true)).absent, [worker.sessionId]);
      assert.equal((await fleet.condemn(worker.sessionId, 'presence'))?.length, 1);
      await fleet.bury(worker.sessionId);
      const view = await look(supervisor, true);
      assert.deepEqual([view.sessions, view.absent, view.lapsed], [1, [], []]);
      assert.equal((await worker.beat()).verdict, 'condemned', 'and knows for a while yet');
    },

    'a process that comes back in the last moment is not condemned': async (scene) => {
      const supervisor = await supervising(scene);
      const worker = await scene.worker();
      const control = scene.keys.control(worker.sessionId);
      await worker.backend.bus.unsubscribe([control]);
      assert.deepEqual((await look(supervisor)).absent, [worker.sessionId]);
      await worker.backend.bus.subscribe([control]);
      const { fleet } = supervisor.backend;
      assert.equal(await fleet.condemn(worker.sessionId, 'presence'), undefined);
      assert.equal((await worker.beat()).verdict, 'alive');
      assert.deepEqual((await look(supervisor)).absent, []);
    },

    'a lease that is not kept runs out, and one that is kept does not': async (scene) => {
      const supervisor = await supervising(scene);
      const frozen = await (await scene.member()).join(SHORT_LEASE_MS);
      const living = await (await scene.member()).join(SHORT_LEASE_MS);
      const { fleet } = supervisor.backend;
      assert.equal(await fleet.condemn(frozen.sessionId, 'lease'), undefined, 'it lives');
      assert.deepEqual((await look(supervisor, true)).lapsed, []);
      const lapsed = await becomes(
        'the lease runs out',
        async () => {
          assert.equal((await living.beat(SHORT_LEASE_MS)).verdict, 'alive');
          const view = await look(supervisor, true);
          return view.lapsed.length > 0 ? view.lapsed : undefined;
        },
        5 * SHORT_LEASE_MS,
      );
      assert.deepEqual(lapsed, [frozen.sessionId]);
      assert.deepEqual((await look(supervisor, false)).lapsed, [], 'not asked for');
      assert.ok(await fleet.condemn(frozen.sessionId, 'lease'));
      assert.equal((await frozen.beat(SHORT_LEASE_MS)).verdict, 'condemned');
      assert.equal(await fleet.condemn(living.sessionId, 'lease'), undefined);
    },

    'a lease that ran out is taken again by who was not condemned': async (scene) => {
      const supervisor = await supervising(scene);
      const late = await (await scene.member()).join(SHORT_LEASE_MS);
      await becomes(
        'the lease runs out',
        async () => (await look(supervisor, true)).lapsed[0],
        5 * SHORT_LEASE_MS,
      );
      assert.equal((await late.beat()).verdict, 'alive');
      assert.deepEqual((await look(supervisor, true)).lapsed, []);
    },

    'a lease is renewed while there is one': async (scene) => {
      const supervisor = await supervising(scene);
      const member = await (await scene.member()).join(SHORT_LEASE_MS);
      const { workers, bus } = member.backend;
      assert.equal(await workers.renew(member.session, 10 * SHORT_LEASE_MS), true);
      const other = await (await scene.member()).join(SHORT_LEASE_MS);
      const lapsed = await becomes(
        'the lease that was not renewed runs out',
        async () => {
          const view = await look(supervisor, true);
          return view.lapsed.length > 0 ? view.lapsed : undefined;
        },
        5 * SHORT_LEASE_MS,
      );
      assert.deepEqual(lapsed, [other.sessionId]);
      assert.equal(await workers.renew(other.session, SHORT_LEASE_MS), false);
      await bus.unsubscribe([scene.keys.control(member.sessionId)]);
      assert.ok(await supervisor.backend.fleet.condemn(member.sessionId, 'presence'));
      assert.equal(await workers.renew(member.session, SHORT_LEASE_MS), false, 'it was ended');
    },

    'a process that said it has no presence is not missed': async (scene) => {
      const supervisor = await supervising(scene);
      const silent = await (await scene.member()).join(60_000, false);
      assert.deepEqual((await look(supervisor)).absent, []);
      const { fleet, workers } = silent.backend;
      assert.equal(await fleet.condemn(silent.sessionId, 'presence'), undefined);
      await workers.setPresence(silent.session, true);
      assert.deepEqual((await look(supervisor)).absent, [silent.sessionId]);
      await workers.setPresence(silent.session, false);
      assert.deepEqual((await look(supervisor)).absent, []);
    },

    'one supervises and one is its deputy, until they step down or are gone': async (scene) => {
      const members = [];
      for (let count = 0; count < 3; count += 1) members.push(await (await scene.member()).join());
      const [one, two, three] = members as [Member, Member, Member];
      const elect = (member: Member): Promise<string> =>
        member.backend.fleet.elect(member.sessionId, OFFICES);
      const offices = async (): Promise<string[]> => [
        await elect(one),
        await elect(two),
        await elect(three),
      ];
      assert.deepEqual(await offices(), ['supervisor', 'deputy', 'none']);
      assert.deepEqual(await offices(), ['supervisor', 'deputy', 'none'], 'kept');
      const asked = two.backend.fleet.look(two.sessionId, OFFICE_MS, false, true);
      assert.equal(await asked, undefined, 'only the supervisor looks');
      await one.backend.fleet.resign(one.sessionId);
      assert.equal(await elect(two), 'supervisor');
      assert.equal(await elect(three), 'deputy');
      await two.vanish();
      await becomes('the deputy follows', async () =>
        (await elect(three)) === 'supervisor' ? true : undefined,
      );
      assert.equal(await elect(one), 'deputy', 'the office of the deputy is free again');
    },

    'the deputy hears of each look, keeps its office, and loses it when it is gone': async (
      scene,
    ) => {
      const supervisor = await supervising(scene);
      const deputy = await (await scene.member()).join();
      const { fleet } = deputy.backend;
      assert.equal(await fleet.areHeld(), false);
      assert.equal(await fleet.keepDeputy(deputy.sessionId, OFFICE_MS), false, 'not yet');
      assert.equal(await fleet.elect(deputy.sessionId, OFFICES), 'deputy');
      assert.equal(await fleet.areHeld(), true);
      assert.equal(await fleet.keepDeputy(deputy.sessionId, OFFICE_MS), true);
      assert.equal(await fleet.keepDeputy(supervisor.sessionId, OFFICE_MS), false, 'of another');
      const told = scene.keys.control(deputy.sessionId);
      for (const settled of [true, false]) {
        await supervisor.backend.fleet.look(supervisor.sessionId, OFFICE_MS, false, settled);
        const message = await deputy.news.message(told, 'looked');
        assert.equal(message['settled'] ?? false, settled, 'whether nobody is waited for');
        deputy.news.heard.length = 0;
      }
      assert.equal(await fleet.areHeld(), true);
      await deputy.vanish();
      await becomes('its office is free', async () => {
        await look(supervisor);
        return (await supervisor.backend.fleet.areHeld()) ? undefined : true;
      });
    },

    'an office that is not kept is free again': async (scene) => {
      const one = await (await scene.member()).join();
      const two = await (await scene.member()).join();
      const elect = (member: Member): Promise<string> =>
        member.backend.fleet.elect(member.sessionId, {
          supervisorMs: SHORT_LEASE_MS,
          deputyMs: OFFICE_MS,
        });
      assert.equal(await elect(one), 'supervisor');
      await becomes(
        'the office is free',
        async () => ((await elect(two)) === 'supervisor' ? true : undefined),
        5 * SHORT_LEASE_MS,
      );
      const view = await one.backend.fleet.look(one.sessionId, OFFICE_MS, false, true);
      assert.equal(view, undefined, 'who comes back finds that it holds it no longer');
    },

    'a worker that left is hosted no longer, and the calls of its function are still looked for':
      async (scene) => {
        const supervisor = await supervising(scene);
        const worker = await scene.worker();
        await worker.register(scene.ref, 'w1');
        await worker.register(scene.ref, 'w2');
        await worker.backend.workers.unregister(scene.ref, 'w1', {}, 'left');
        await worker.vanish();
        const hosted = await becomes('it can be condemned', () =>
          supervisor.backend.fleet.condemn(worker.sessionId, 'presence'),
        );
        assert.deepEqual(hosted.map(({ workerId }) => workerId).sort(), ['', 'w2']);
      },
  }),

  ...portCases('Drain', {
    'a process that leaves is missed by nobody': async (scene) => {
      const supervisor = await supervising(scene);
      const leaving = await scene.worker();
      await leaving.register(scene.ref);
      await leaving.backend.workers.unregister(scene.ref, 'w', {}, 'shutdown');
      await leaving.backend.workers.leave(leaving.session);
      await leaving.vanish();
      const view = await look(supervisor, true);
      assert.deepEqual([view.sessions, view.absent, view.lapsed], [1, [], []]);
    },

    'a backend that is closed answers no more, and whoever waits learns it': async (scene) => {
      const worker = await scene.worker();
      const caller = await scene.caller();
      const { backend } = worker;
      const isClosed = (error: unknown): boolean => isFunctionsError(error, 'CLOSED');
      const call = begun(assert.rejects(worker.reader.read([scene.ref], 1, LONG_BLOCK_MS)));
      const reply = begun(assert.rejects(caller.replies.read(LONG_BLOCK_MS)));
      await backend.ping();
      await worker.vanish();
      await caller.vanish();
      await atOnce('the read of calls ends', call);
      await atOnce('the read of replies ends', reply);
      assert.equal(backend.isConnected(), false);
      await assert.rejects(backend.ping(), isClosed);
      await assert.rejects(backend.workers.snapshot(scene.ref), isClosed);
      await assert.rejects(backend.calls.backlog(scene.ref), isClosed);
    },
  }),
];
