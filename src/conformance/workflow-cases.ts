import assert from 'node:assert/strict';
import type { RestartLease } from '../backend/workflow-store.js';
import type { ConformanceCase } from './conformance-case.js';
import { becomes } from './patience.js';
import { portCases } from './scene.js';

const LEASE_MS = 60_000;
/** A lease that ends while a case looks on. */
const SHORT_MS = 60;

const leaseOf = (restartId: string, session = ''): RestartLease => ({
  restartId,
  holder: `holder-${restartId}`,
  session,
});

export const workflowCases: readonly ConformanceCase[] = [
  ...portCases('No missed wake-up', {
    'a save raises the generation, and tells it in the same step': async (scene) => {
      const { keys } = scene;
      const listener = await scene.member();
      const { workflows } = (await scene.member()).backend;
      const channel = keys.workflowChannel('saved', 'flow');
      await listener.backend.bus.subscribe([channel]);
      assert.equal((await workflows.current('flow')).generation, 0);
      const first = await workflows.save('flow', '{"version":1}');
      const second = await workflows.save('flow', '{"list":[],"map":{}}');
      assert.ok(second.generation > first.generation, 'it grows with each save');
      assert.deepEqual(await workflows.current('flow'), {
        generation: second.generation,
        details: '{"list":[],"map":{}}',
      });
      const heard = await becomes('both are told', () => {
        const told = listener.news.heard.filter((one) => one.channel === channel);
        return Promise.resolve(told.length === 2 ? told.map(({ data }) => data) : undefined);
      });
      const told = { type: 'saved', workflowId: 'flow' };
      assert.deepEqual(heard, [
        { ...told, ...first, details: { version: 1 } },
        { ...told, ...second, details: { list: [], map: {} } },
      ]);
      assert.equal((await workflows.current('other')).generation, 0);
    },

    'other news of a workflow are told with its generation, and do not raise it': async (scene) => {
      const { keys } = scene;
      const { backend, news } = await scene.member();
      const types = ['restarting', 'ready', 'stopped'] as const;
      await backend.bus.subscribe(types.map((type) => keys.workflowChannel(type, 'a flow')));
      const { generation } = await backend.workflows.save('a flow', 'null');
      for (const type of types) {
        const told = await backend.workflows.tell('a flow', type, '"why"');
        assert.equal(told.generation, generation);
        assert.deepEqual(await news.message(keys.workflowChannel(type, 'a flow'), type), {
          type,
          workflowId: 'a flow',
          ...told,
          details: 'why',
        });
      }
      assert.equal((await backend.workflows.current('a flow')).generation, generation);
    },
  }),

  ...portCases(
    'Redis may go away',
    {
      'a generation is higher than all before it, also when everything was forgotten': async (
        scene,
      ) => {
        const { workflows } = (await scene.member()).backend;
        const before = await workflows.save('flow', 'null');
        await scene.forget();
        assert.equal((await workflows.current('flow')).generation, 0);
        // Nobody saves twice in one millisecond with a loss of everything in between.
        const since = Date.now();
        await becomes('the clock moves on', () =>
          Promise.resolve(Date.now() > since + 2 ? true : undefined),
        );
        const after = await workflows.save('flow', 'null');
        assert.ok(after.generation > before.generation, 'it is higher');
      },
    },
    'forget',
  ),

  ...portCases('Drain', {
    'one restart of a workflow has the lead, until it gives it back': async (scene) => {
      const { workflows } = (await scene.member()).backend;
      const other = (await scene.member()).backend.workflows;
      assert.equal(await workflows.beginRestart('flow', leaseOf('one'), LEASE_MS), undefined);
      assert.deepEqual(await other.beginRestart('flow', leaseOf('two'), LEASE_MS), leaseOf('one'));
      assert.equal(await other.beginRestart('elsewhere', leaseOf('two'), LEASE_MS), undefined);
      assert.equal(await other.keepRestart('flow', 'two', LEASE_MS), false);
      await other.endRestart('flow', 'two');
      assert.equal(await other.leadsRestart('flow', 'two'), false);
      assert.equal(await other.leadsRestart('flow', 'one'), true);
      assert.equal(await workflows.keepRestart('flow', 'one', LEASE_MS), true);
      await workflows.endRestart('flow', 'one');
      assert.equal(await other.leadsRestart('flow', 'one'), false);
      assert.equal(await workflows.keepRestart('flow', 'one', LEASE_MS), false);
      assert.equal(await other.beginRestart('flow', leaseOf('two'), LEASE_MS), undefined);
    },

    'the lead of a restart ends with its lease': async (scene) => {
      const { workflows } = (await scene.member()).backend;
      await workflows.beginRestart('flow', leaseOf('one'), SHORT_MS);
      await becomes('another one takes it', async () => {
        const held = await workflows.beginRestart('flow', leaseOf('two'), LEASE_MS);
        return held === undefined ? true : undefined;
      });
      assert.equal(await workflows.keepRestart('flow', 'one', LEASE_MS), false);
    },

    'the lead of a restart is free once the session that has it is gone': async (scene) => {
      const leader = await (await scene.member()).join();
      const { workflows } = (await scene.member()).backend;
      const lease = leaseOf('one', leader.sessionId);
      await workflows.beginRestart('flow', lease, LEASE_MS);
      assert.deepEqual(await workflows.beginRestart('flow', leaseOf('two'), LEASE_MS), lease);
      await leader.backend.workers.leave(leader.session);
      assert.equal(await workflows.beginRestart('flow', leaseOf('two'), LEASE_MS), undefined);
      assert.equal(await workflows.leadsRestart('flow', 'one'), false);
    },

    'a restart that is left is carried on by the first that takes it': async (scene) => {
      const heir = await (await scene.member()).join();
      const { workflows } = (await scene.member()).backend;
      const legacy = { restartId: 'one', rest: '{"a":[]}', sessions: [heir.sessionId] };
      const taker = { holder: 'heir', session: heir.sessionId };
      const orderBy = (restartId: string): Promise<boolean> =>
        workflows.orderRestart('flow', { restartId, sessionId: heir.sessionId, replyTo: '' });
      assert.equal(await workflows.leaveRestart('flow', legacy, LEASE_MS), false, 'nobody leads');
      await workflows.beginRestart('flow', leaseOf('one'), LEASE_MS);
      assert.equal(await workflows.takeRestart('flow', taker, LEASE_MS), undefined, 'it is led');
      assert.equal(await workflows.leaveRestart('flow', legacy, LEASE_MS), true);
      const control = heir.keys.control(heir.sessionId);
      const news = { type: 'restart-left', workflowId: 'flow' };
      assert.deepEqual(await heir.news.message(control, 'restart-left'), news);
      assert.equal(await workflows.leadsRestart('flow', 'one'), false, 'nobody leads it');
      assert.equal(await workflows.keepRestart('flow', 'one', SHORT_MS), false);
      assert.equal(await orderBy('one'), false);
      await workflows.endRestart('flow', 'one');
      const held = await workflows.beginRestart('flow', leaseOf('two'), LEASE_MS);
      assert.deepEqual(held, leaseOf('one'), 'it is not over');
      const taken = await heir.backend.workflows.takeRestart('flow', taker, LEASE_MS);
      assert.deepEqual(taken, { restartId: 'one', rest: '{"a":[]}' });
      assert.equal(await workflows.takeRestart('flow', taker, LEASE_MS), undefined, 'once');
      assert.equal(await orderBy('one'), true);
      const now = await workflows.beginRestart('flow', leaseOf('two'), LEASE_MS);
      assert.deepEqual(now, { restartId: 'one', ...taker });
    },

    'a restart that is left and that nobody takes is over after its time': async (scene) => {
      const { workflows } = (await scene.member()).backend;
      await workflows.beginRestart('flow', leaseOf('one', 'nobody.1'), LEASE_MS);
      const legacy = { restartId: 'one', rest: '{}', sessions: [] };
      assert.equal(await workflows.leaveRestart('flow', legacy, SHORT_MS), true);
      await becomes('another one begins', async () => {
        const held = await workflows.beginRestart('flow', leaseOf('two'), LEASE_MS);
        return held === undefined ? true : undefined;
      });
    },

    'who has the lead of a restart orders it, and nobody else': async (scene) => {
      const worker = await (await scene.member()).join();
      const { workflows } = (await scene.member()).backend;
      const control = worker.keys.control(worker.sessionId);
      const order = { sessionId: worker.sessionId, replyTo: 'leader.1' };
      await workflows.beginRestart('flow', leaseOf('one'), LEASE_MS);
      assert.equal(await workflows.orderRestart('flow', { ...order, restartId: 'two' }), false);
      assert.equal(await workflows.orderRestart('flow', { ...order, restartId: 'one' }), true);
      assert.deepEqual(await worker.news.message(control, 'restart'), {
        type: 'restart',
        restartId: 'one',
        workflowId: 'flow',
        replyTo: 'leader.1',
      });
      await workflows.endRestart('flow', 'one');
      assert.equal(await workflows.orderRestart('flow', { ...order, restartId: 'one' }), false);
      assert.equal(worker.news.heard.filter(({ data }) => data['type'] === 'restart').length, 1);
    },
  }),
];
