import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Controller,
  Inject,
  Injectable,
  Scope,
  type INestApplicationContext,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import {
  NotificationManager,
  OnWorkflowEvent,
  WorkflowNotifier,
  type WorkflowEvent,
} from '../../src/index.js';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CapturedLog } from '../harness/captured-log.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { connections, hearing } from './hearing.js';

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const notifierOf = (app: INestApplicationContext): WorkflowNotifier => app.get(WorkflowNotifier);

describe.each(connections(redisUrl()))('news about a workflow, on $title', ({ connection }) => {
  const options = { connection, worker: false };

  it('reach the handlers of every process, whether it hosts functions or only calls', async () => {
    const heard: [where: string, event: WorkflowEvent][] = [];
    const hear = (where: string): unknown =>
      hearing('saved', 'media', (event) => heard.push([where, event]));
    await fleet.start({ options, providers: [hear('caller')] });
    await fleet.start({
      options: { connection },
      providers: [hear('worker'), hosting({ name: 'f', workflowId: 'media' }, () => 1)],
    });
    const speaker = await fleet.start({ options });
    const told = await notifierOf(speaker).notifySaved('media', { version: 7 });
    await eventually('both heard', () => heard.length === 2);
    const event = { ...told, source: 'news' };
    expect(heard.map(([where]) => where).sort()).toEqual(['caller', 'worker']);
    expect(heard.map(([, one]) => one)).toEqual([event, event]);
    expect(event).toMatchObject({ type: 'saved', workflowId: 'media', details: { version: 7 } });
    expect(await notifierOf(speaker).currentGeneration('media')).toEqual({
      workflowId: 'media',
      generation: told.generation,
      details: { version: 7 },
    });
  });

  it('are of the four kinds, and of one workflow', async () => {
    const heard: string[] = [];
    const note = ({ type, workflowId }: WorkflowEvent): unknown =>
      heard.push(`${type} ${workflowId}`);

    @Injectable()
    class Several {
      @OnWorkflowEvent('restarting', 'a:b')
      @OnWorkflowEvent('ready', 'a:b')
      hear(event: WorkflowEvent): void {
        note(event);
      }
    }
    @Controller()
    class OfModule {
      @OnWorkflowEvent('stopped')
      hear(event: WorkflowEvent): void {
        note(event);
      }
    }
    await fleet.start({
      options: { ...options, workflowId: 'own' },
      providers: [Several],
      controllers: [OfModule],
    });
    const notifier = notifierOf(await fleet.start({ options }));
    for (const workflowId of ['a', 'a:b', 'own']) {
      await notifier.notifyRestarting(workflowId);
      await notifier.notifyReady(workflowId);
      await notifier.notifyStopped(workflowId);
    }
    await eventually('the last one came', () => heard.includes('stopped own'));
    expect(heard).toEqual(['restarting a:b', 'ready a:b', 'stopped own']);
  });

  it('reach all handlers although one of them fails', async () => {
    const heard: string[] = [];
    const speaker = notifierOf(await fleet.start({ options }));
    await fleet.start({
      options,
      providers: [
        hearing('ready', 'w', () => {
          throw new Error('no disk');
        }),
        hearing('ready', 'w', () => Promise.reject(new Error('no net'))),
        hearing('ready', 'w', () => heard.push('the third')),
      ],
    });
    const log = new CapturedLog();
    try {
      await speaker.notifyReady('w');
      await eventually('both failures are logged', () => log.of('error', 'WORKFLOW').length === 2);
    } finally {
      log.release();
    }
    expect(heard).toEqual(['the third']);
    expect(log.of('error', 'WORKFLOW')).toEqual([
      'Hearer.hear (RootModule) failed on ready of workflow w: no disk',
      'Hearer.hear (RootModule) failed on ready of workflow w: no net',
    ]);
  });

  it('are the request of a handler that is made for each', async () => {
    const heard: unknown[] = [];

    @Injectable({ scope: Scope.REQUEST })
    class PerEvent {
      constructor(@Inject(REQUEST) private readonly request: { data: WorkflowEvent }) {}

      @OnWorkflowEvent('ready', 'w')
      hear(event: WorkflowEvent): void {
        heard.push(this.request.data === event);
      }
    }
    await fleet.start({ options, providers: [PerEvent] });
    const notifier = notifierOf(await fleet.start({ options }));
    await notifier.notifyReady('w');
    await notifier.notifyReady('w');
    await eventually('both came', () => heard.length === 2);
    expect(heard).toEqual([true, true]);
  });

  it('come to a listener until it leaves', async () => {
    const heard: unknown[] = [];
    const notifier = notifierOf(await fleet.start({ options }));
    const subscription = await notifier.listen('saved', 'w', ({ details }) => heard.push(details));
    await notifier.notifySaved('w', 1);
    await eventually('it came', () => heard.length === 1);
    await subscription.unsubscribe();
    await notifier.notifySaved('w', 2);
    await notifier.listen('ready', 'w', () => heard.push('ready'));
    await notifier.notifyReady('w');
    await eventually('what was told later came', () => heard.includes('ready'));
    expect(heard).toEqual([1, 'ready']);
  });
});

describe('a save', () => {
  let proxy: TcpProxy;
  let heard: WorkflowEvent[];

  beforeEach(async () => {
    proxy = await TcpProxy.start(redisUrl());
    heard = [];
  });
  afterEach(async () => {
    await fleet.close();
    await proxy.close();
  });

  const start = (): Promise<INestApplicationContext> =>
    fleet.start({
      options: { connection: proxy.url, worker: false },
      providers: [hearing('saved', 'w', (event) => heard.push(event))],
    });
  const elsewhere = async (): Promise<WorkflowNotifier> =>
    notifierOf(await fleet.start({ options: { worker: false } }));
  const details = (): unknown[] => heard.map((event) => event.details);

  it('that was made before the process began is none to it', async () => {
    const notifier = await elsewhere();
    await notifier.notifySaved('w', 'before');
    await start();
    await notifier.notifySaved('w', 'after');
    await eventually('the next one is heard', () => heard.length > 0);
    expect(details()).toEqual(['after']);
  });

  it('that was missed while Redis was away is handled when it is back, the last one, once', async () => {
    const notifier = await elsewhere();
    await start();
    proxy.refuse();
    await notifier.notifySaved('w', 'missed');
    await notifier.notifySaved('w', 'last');
    proxy.accept();
    await eventually('it is handled', () => heard.length > 0);
    await notifier.notifySaved('w', 'next');
    await eventually('the next one is heard', () => heard.length > 1);
    expect(heard.map(({ source, details: text }) => [source, text])).toEqual([
      ['registry', 'last'],
      ['news', 'next'],
    ]);
  });

  it('between the subscription and the read after it is handled once', async () => {
    const notifier = await elsewhere();
    const app = await start();
    const { workflows } = app.get<Backend>(BACKEND);
    const current = workflows.current.bind(workflows);
    const reads: Promise<unknown>[] = [];
    // Saved in the moment in which it begins to read: heard, and found.
    jest.spyOn(workflows, 'current').mockImplementation(async (id) => {
      const saved = notifier.notifySaved('w', `at read ${reads.length}`);
      reads.push(saved);
      await saved;
      return current(id);
    });
    proxy.cut();
    await eventually('it is handled', () => heard.length > 0);
    await notifier.notifySaved('w', 'next');
    await eventually('the next one is heard', () => details().includes('next'));
    expect(details()).toEqual(['at read 0', 'next']);
  });

  it('is none when newer news came before', async () => {
    const app = await start();
    const { workflows, bus } = app.get<Backend>(BACKEND);
    const first = await workflows.save('w', '1');
    await workflows.save('w', '2');
    await eventually('both are heard', () => heard.length === 2);
    const channel = `${fleet.prefix}workflow:saved:w`;
    const data = { type: 'saved', workflowId: 'w', ...first, details: 'old' };
    await bus.publish(channel, JSON.stringify({ pattern: channel, data }));
    await workflows.save('w', '3');
    await eventually('the third is heard', () => heard.length >= 3);
    expect(details()).toEqual([1, 2, 3]);
  });

  it('is heard once the process may hear of it, without a new connection', async () => {
    const user = `deaf-${fleet.prefix.replaceAll(/\W/g, '')}`;
    const channels = ['nf:*', 'function:*', 'worker:*'].map((name) => `&${fleet.prefix}${name}`);
    await fleet.redis.acl('SETUSER', user, 'on', '>secret', '~*', '+@all', 'resetchannels');
    await fleet.redis.acl('SETUSER', user, ...channels);
    const connection = redisUrl().replace('redis://', `redis://${user}:secret@`);
    const heard: WorkflowEvent[] = [];
    const app = await fleet.start({
      options: { connection, worker: false },
      providers: [hearing('saved', 'media', (event) => heard.push(event))],
    });
    const speaker = await fleet.start({ options: { worker: false } });
    await notifierOf(speaker).notifySaved('media', 1);
    await fleet.redis.acl('SETUSER', user, 'allchannels');
    await eventually('the save is found', () => heard.length === 1);
    expect(heard[0]).toMatchObject({ details: 1, source: 'registry' });
    await notifierOf(speaker).notifySaved('media', 2);
    await eventually('and the next one heard', () => heard.length === 2);
    expect(heard[1]).toMatchObject({ details: 2, source: 'news' });
    await fleet.stop(app);
    await fleet.redis.acl('DELUSER', user);
  });

  it('is heard by a process that booted without Redis, once there is one', async () => {
    const notifier = await elsewhere();
    proxy.refuse();
    const app = await start();
    await expect(notifierOf(app).notifySaved('w')).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
    });
    proxy.accept();
    const channel = `${fleet.prefix}workflow:saved:w`;
    await eventually('it subscribes', async () => {
      const [, subscribers] = await fleet.redis.pubsub('NUMSUB', channel);
      return subscribers === 1;
    });
    await eventually('it is connected', () => app.get(NotificationManager).state === 'connected');
    await notifier.notifySaved('w', 'now');
    await eventually('it is heard', () => heard.length > 0);
    expect(details()).toEqual(['now']);
  });
});

describe('what is no news of a workflow', () => {
  it.each([
    ['no packet', 'hello'],
    ['of another type', packet({ type: 'ready' })],
    ['of another workflow', packet({ workflowId: 'other' })],
    ['without a generation', packet({ generation: 'new' })],
    ['of a generation that is no whole number', packet({ generation: 1.5 })],
    ['without a time', packet({ timestamp: undefined })],
    ['a list', JSON.stringify({ pattern: 'x', data: [] })],
    ['too long', packet({ details: 'x'.repeat(70_000) })],
  ])('is dropped and counted: %s', async (_what, text) => {
    const heard: unknown[] = [];
    const app = await fleet.start({
      options: { worker: false },
      providers: [hearing('saved', 'w', ({ details }) => heard.push(details))],
    });
    const { bus, workflows } = app.get<Backend>(BACKEND);
    const manager = app.get(NotificationManager);
    await bus.publish(`${fleet.prefix}workflow:saved:w`, text);
    await workflows.save('w', '"good"');
    await eventually('what is good comes', () => heard.length === 1);
    expect(heard).toEqual(['good']);
    expect(manager.stats().dropped).toBe(1);
  });

  function packet(change: object): string {
    const data = { type: 'saved', workflowId: 'w', generation: 9e15, timestamp: 1, details: 'bad' };
    return JSON.stringify({ pattern: 'x', data: { ...data, ...change } });
  }
});

describe('a wrong argument', () => {
  it.each([
    ['INVALID_NAME', (n: WorkflowNotifier) => n.notifySaved('')],
    ['INVALID_NAME', (n: WorkflowNotifier) => n.currentGeneration(7 as never)],
    ['INVALID_ARGUMENT', (n: WorkflowNotifier) => n.listen('gone' as never, 'w', () => 1)],
    ['INVALID_ARGUMENT', (n: WorkflowNotifier) => n.listen('saved', 'w', 7 as never)],
    ['PAYLOAD_NOT_SERIALIZABLE', (n: WorkflowNotifier) => n.notifyReady('w', new Map())],
    ['PAYLOAD_TOO_LARGE', (n: WorkflowNotifier) => n.notifySaved('w', 'x'.repeat(20_000))],
  ])('is refused with %s before anything is told', async (code, act) => {
    const notifier = notifierOf(await fleet.start({ options: { worker: false } }));
    await expect(act(notifier)).rejects.toMatchObject({ code });
    expect(await fleet.redis.exists(`${fleet.prefix}nf:workflow:{w}:generation`)).toBe(0);
  });

  it.each([
    ['x'.repeat(20_000), {}, 'say).'],
    ['x'.repeat(2_000), { maxPayloadBytes: 1_024 }, 'or raise the option maxPayloadBytes.'],
  ])('names the option only where it is the limit', async (details, options, cure) => {
    const notifier = notifierOf(await fleet.start({ options: { worker: false, ...options } }));
    await expect(notifier.notifySaved('w', details)).rejects.toThrow(cure);
  });

  it.each([
    ['INVALID_ARGUMENT', () => OnWorkflowEvent('gone' as never)],
    ['INVALID_NAME', () => OnWorkflowEvent('saved', '')],
  ])('of the decorator is refused with %s when the class is defined', (code, decorate) => {
    expect(decorate).toThrow(expect.objectContaining({ code }));
  });
});
