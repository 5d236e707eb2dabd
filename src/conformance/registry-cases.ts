import assert from 'node:assert/strict';
import { isFunctionsError } from '../common/errors.js';
import { definitionFingerprint, encodeDefinition } from '../protocol/definition.js';
import { functionRef } from '../protocol/function-ref.js';
import type { ConformanceCase } from './conformance-case.js';
import { becomes } from './patience.js';
import { portCases } from './scene.js';

const DEFINITION = encodeDefinition({
  name: 'work',
  workflowId: 'default',
  parameters: [{ name: 'width', type: 'number' }],
});

export const registryCases: readonly ConformanceCase[] = [
  ...portCases('Ready is an acknowledgement', {
    'who hears ready finds the worker in the registry': async (scene) => {
      const { keys, ref } = scene;
      const worker = await scene.worker();
      const watcher = await scene.member();
      const channel = keys.channel('ready', ref);
      let atReady: Promise<readonly { workerId: string }[]> | undefined;
      watcher.backend.bus.attach({
        message: () => {
          atReady ??= watcher.backend.workers.snapshot(ref).then((snapshot) => snapshot.workers);
        },
        connected: () => undefined,
        disconnected: () => undefined,
      });
      await watcher.backend.bus.subscribe([channel]);
      await worker.register(ref, 'w');
      const found = await becomes('ready is heard', () => atReady ?? Promise.resolve(undefined));
      assert.deepEqual(
        found.map(({ workerId }) => workerId),
        ['w'],
      );
    },

    'ready tells the record that was written': async (scene) => {
      const { keys, ref } = scene;
      const worker = await scene.worker();
      const channel = keys.channel('ready', ref);
      await worker.backend.bus.subscribe([channel]);
      const { record, replaced } = await worker.register(ref, 'w', { fingerprint: 'f' });
      assert.equal(replaced, undefined);
      assert.equal(record.status, 'ready');
      assert.equal(record.processId, worker.sessionId);
      assert.equal(record.definition, 'f');
      assert.deepEqual(await worker.backend.workers.find(ref, 'w'), record);
      const { workerId, epoch, seq, timestamp, processId } = record;
      assert.deepEqual(await worker.news.message(channel, 'ready'), {
        type: 'ready',
        functionName: ref.functionName,
        workflowId: ref.workflowId,
        ...{ workerId, epoch, seq, timestamp, processId, definition: 'f', healthy: true },
        generation: 0,
      });
    },

    'a session that did not join, or was condemned, registers nothing': async (scene) => {
      const worker = await scene.worker();
      await worker.backend.workers.leave(worker.session);
      await assert.rejects(worker.register(scene.ref), (error) =>
        isFunctionsError(error, 'WORKER_NOT_REGISTERED'),
      );
      await worker.join();
      await worker.register(scene.ref);
      await worker.backend.bus.unsubscribe([scene.keys.control(worker.sessionId)]);
      assert.ok(await worker.backend.fleet.condemn(worker.sessionId, 'presence'));
      await assert.rejects(worker.register(scene.ref), (error) =>
        isFunctionsError(error, 'WORKER_NOT_REGISTERED'),
      );
    },

    'each life of a worker has a higher epoch than the one before': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { record: first } = await worker.register(ref);
      const { record: again } = await worker.register(ref);
      assert.equal(again.epoch, first.epoch, 'registering again is the same life');
      assert.equal(again.seq, first.seq + 1);
      assert.equal(await worker.backend.workers.unregister(ref, 'w', {}, 'left'), true);
      const { record: second } = await worker.register(ref);
      assert.ok(second.epoch > first.epoch, 'a life that begins anew');
      const other = await scene.worker();
      const { record: third, replaced } = await other.register(ref);
      assert.ok(third.epoch > second.epoch, "another process's worker of that name");
      assert.equal(replaced, worker.sessionId, 'the living session that had the name');
    },
  }),

  ...portCases('No missed wake-up', {
    'a change of an older epoch changes nothing and tells nothing': async (scene) => {
      const { keys, ref } = scene;
      const worker = await scene.worker();
      const { workers, bus } = worker.backend;
      const { record: old } = await worker.register(ref);
      await workers.unregister(ref, 'w', {}, 'left');
      const { record } = await worker.register(ref);
      await bus.subscribe(keys.channels(ref));
      worker.news.heard.length = 0;
      const change = { kind: 'unhealthy', reason: 'late news' } as const;
      assert.equal(await workers.change(ref, 'w', old.epoch, change), undefined);
      assert.deepEqual(await workers.find(ref, 'w'), record);
      await bus.publish(keys.channel('health', ref), '{"data":{"type":"end"}}');
      await worker.news.message(keys.channel('health', ref), 'end');
      assert.equal(worker.news.heard.length, 1, 'nothing but the last message is heard');
    },

    'a worker of an older epoch, or of another session, removes nobody': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { workers } = worker.backend;
      const { record } = await worker.register(ref);
      const stale = { epoch: record.epoch - 1 };
      assert.equal(await workers.unregister(ref, 'w', stale, 'x'), false);
      assert.equal(await workers.unregister(ref, 'w', { sessionId: 'somebody' }, 'x'), false);
      assert.deepEqual(await workers.find(ref, 'w'), record);
      const owner = { epoch: record.epoch, sessionId: worker.sessionId };
      assert.equal(await workers.unregister(ref, 'w', owner, 'x'), true);
      assert.equal(await workers.find(ref, 'w'), undefined);
      assert.equal(await workers.unregister(ref, 'w', owner, 'x'), false);
    },

    'all news of a worker are told, each with a higher seq': async (scene) => {
      const { keys, ref } = scene;
      const worker = await scene.worker();
      const watcher = await scene.member();
      const { workers } = worker.backend;
      await watcher.backend.bus.subscribe(keys.channels(ref));
      const { record } = await worker.register(ref);
      await workers.change(ref, 'w', record.epoch, { kind: 'unhealthy', reason: 'slow' });
      await workers.change(ref, 'w', record.epoch, { kind: 'healthy' });
      await workers.change(ref, 'w', undefined, { kind: 'draining', estimatedDowntimeMs: 500 });
      await workers.unregister(ref, 'w', {}, 'shutdown');
      await watcher.news.message(keys.channel('offline', ref), 'offline');
      const told = watcher.news.heard.map(({ data }) => data);
      const types = ['ready', 'health', 'health', 'shutdown', 'offline'];
      assert.deepEqual(
        told.map(({ type }) => type),
        types,
      );
      assert.deepEqual(
        told.map(({ seq }) => seq),
        [1, 2, 3, 4, 5],
      );
      assert.ok(told.every(({ epoch }) => epoch === record.epoch));
      const [, sick, well, leaving, gone] = told;
      assert.deepEqual([sick?.['healthy'], sick?.['reason']], [false, 'slow']);
      assert.deepEqual([well?.['healthy'], well?.['reason']], [true, undefined]);
      assert.equal(leaving?.['estimatedDowntimeMs'], 500);
      assert.equal(gone?.['reason'], 'shutdown');
    },

    'health does not bring a draining worker back': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { workers } = worker.backend;
      await worker.register(ref);
      await workers.change(ref, 'w', undefined, { kind: 'draining', estimatedDowntimeMs: 0 });
      await workers.change(ref, 'w', undefined, { kind: 'healthy' });
      assert.equal((await workers.find(ref, 'w'))?.status, 'draining');
    },

    'the process of a worker hears what others say of it': async (scene) => {
      const { keys, ref } = scene;
      const worker = await scene.worker();
      const other = await scene.member();
      await worker.register(ref);
      const control = keys.control(worker.sessionId);
      await other.backend.workers.change(ref, 'w', undefined, { kind: 'unhealthy', reason: 'x' });
      assert.equal((await worker.news.message(control, 'health'))['healthy'], false);
      await other.backend.workers.unregister(ref, 'w', {}, 'x');
      assert.equal((await worker.news.message(control, 'unregistered'))['workerId'], 'w');
    },
  }),

  ...portCases('Nobody there is its own answer', {
    'the registry tells living workers from stale ones': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { workers } = worker.backend;
      const none = await workers.snapshot(ref);
      assert.deepEqual([none.workers, none.stale, none.definition], [[], [], undefined]);
      const { record } = await worker.register(ref);
      assert.deepEqual((await workers.snapshot(ref)).workers, [record]);
      await workers.leave(worker.session);
      const after = await workers.snapshot(ref);
      assert.deepEqual([after.workers, after.stale], [[], [record]]);
    },

    'functions that have a worker are counted, stale ones too': async (scene) => {
      const worker = await scene.worker();
      const { workers } = worker.backend;
      const refs = [scene.ref, functionRef('other', 'default'), functionRef('third', 'default')];
      assert.equal(await workers.countRecorded(refs), 0);
      await worker.register(scene.ref, 'w1');
      await worker.register(scene.ref, 'w2');
      await worker.register(refs[1] as (typeof refs)[0]);
      assert.equal(await workers.countRecorded(refs), 2);
      await workers.leave(worker.session);
      assert.equal(await workers.countRecorded(refs), 2);
      await workers.unregister(scene.ref, 'w1', {}, 'left');
      await workers.unregister(scene.ref, 'w2', {}, 'left');
      assert.equal(await workers.countRecorded(refs), 1);
    },

    'the snapshot of a function is of that function': async (scene) => {
      const worker = await scene.worker();
      await worker.register(scene.ref);
      const other = functionRef(scene.ref.functionName, 'elsewhere');
      assert.deepEqual((await worker.backend.workers.snapshot(other)).workers, []);
    },
  }),

  ...portCases('Bad input is refused before anything is sent', {
    'the definition that was registered last is the one that is found': async (scene) => {
      const { ref } = scene;
      const worker = await scene.worker();
      const { workers } = worker.backend;
      await workers.putDefinition(ref, DEFINITION);
      const other = encodeDefinition({ name: 'work', workflowId: 'default', parameters: [] });
      await worker.register(ref, 'w', { definition: other, fingerprint: 'f' });
      assert.equal((await workers.snapshot(ref)).fingerprint, definitionFingerprint(other));
      await worker.register(ref, 'w', { definition: '', fingerprint: 'f' });
      assert.equal((await workers.snapshot(ref)).fingerprint, definitionFingerprint(other));
      assert.equal(await workers.removeDefinition(ref), true);
      assert.equal((await workers.snapshot(ref)).definition, undefined);
      assert.equal(await workers.removeDefinition(ref), false);
    },

    'the functions of a workflow are listed, and those of no other': async (scene) => {
      const { backend } = await scene.member();
      const refs = ['b', 'a:1', 'a'].map((name) => functionRef(name, 'one'));
      for (const ref of refs) await backend.workers.putDefinition(ref, DEFINITION);
      await backend.workers.putDefinition(functionRef('c', 'two'), DEFINITION);
      const names = (await backend.workers.functions('one')).map((ref) => ref.functionName);
      assert.deepEqual(names, ['a', 'a:1', 'b']);
      await backend.workers.removeDefinition(functionRef('a', 'one'));
      assert.equal((await backend.workers.functions('one')).length, 2);
      assert.deepEqual(await backend.workers.functions('three'), []);
    },
  }),
];
