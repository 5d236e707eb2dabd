import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger, type INestApplicationContext } from '@nestjs/common';
import { typeOfKey } from '../../src/backend/redis/key-types.js';
import { EnhancedFunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { CapturedLog, type LogLine } from '../harness/captured-log.js';
import { bare, readText, tableRows } from '../docs/markdown.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

jest.setTimeout(60_000);

let fleet: Fleet;
let log: CapturedLog;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(async () => {
  log.release();
  await fleet.close();
});

const key = (name: string): string => `${fleet.prefix}nf:${name}`;
const quick = { leaseMs: 400, workerId: 'w-1' };

/** Applications log into it from here on; starting one takes Nest's log away. */
async function started(...apps: Promise<INestApplicationContext>[]) {
  const all = [];
  for (const app of apps) all.push(await app);
  log = new CapturedLog();
  return all;
}

/** Lines that name the key, whatever their level. */
const linesAbout = (name: string): LogLine[] =>
  log.lines.filter(({ text, level }) => level !== 'debug' && text.includes(key(name)));

/** Somebody takes it for theirs. */
async function breakKey(name: string): Promise<void> {
  const batch = fleet.redis.multi().del(key(name));
  await (
    typeOfKey(key(name)) === 'list' ? batch.set(key(name), 'x') : batch.lpush(key(name), 'x')
  ).exec();
}

/** Whether the dead are found: a session that nobody has is forgotten. */
async function untilSupervised(): Promise<void> {
  const session = 'caller-1.1';
  await fleet.redis.hset(key('processes'), session, 'present');
  await eventually(
    'the dead are found',
    async () => (await fleet.redis.hexists(key('processes'), session)) === 0,
    20_000,
  );
}

/** Redis has refused that many commands more for the type of their key. */
async function untilRefused(count: number): Promise<void> {
  const refused = async (): Promise<number> =>
    Number(/WRONGTYPE:count=(\d+)/.exec(await fleet.redis.info('errorstats'))?.[1] ?? 0);
  const before = await refused();
  await eventually('it is met again and again', async () => (await refused()) >= before + count);
}

describe('a key of the library in whose place somebody has put something else', () => {
  it.each(['supervisor', 'processes', 'delayed', 'unclaimed'])(
    'is named once, with the cure, and the supervision goes on when it is gone: nf:%s',
    async (name) => {
      const [app] = await started(
        fleet.start({ providers: [hosting('work', () => 1)], options: quick }),
      );
      await eventually('it supervises', () => app!.get(WorkerCoordinator).isSupervisor);
      await breakKey(name);
      await eventually('it is said', () => linesAbout(name).length > 0);
      const [line] = linesAbout(name);
      expect(line).toMatchObject({
        level: 'error',
        context: 'COORDINATOR',
        text: expect.stringMatching(
          new RegExp(
            `The key ${key(name)} holds no (string|hash|zset): .*Delete it \\(DEL ${key(name)}\\)`,
          ),
        ),
      });
      // It is met again with each look and heartbeat.
      if (name === 'delayed' || name === 'unclaimed') await untilSupervised();
      if (name === 'processes') await untilRefused(20);
      await fleet.redis.del(key(name));
      await eventually('it supervises', () => app!.get(WorkerCoordinator).isSupervisor);
      await untilSupervised();
      const subjects = linesAbout(name).map(({ text }) => text.split(': The key')[0]);
      expect(new Set(subjects).size).toBe(subjects.length);
      await eventually('it works', async () => {
        expect(app!.get(WorkerCoordinator).state).toBe('active');
        await expect(app!.get(EnhancedFunctionRegistry).call('work')).resolves.toBe(1);
      });
    },
  );

  it('is named once by a deputy, whose office it is, and there is one again when it is gone', async () => {
    const apps = await started(fleet.start(), fleet.start());
    await eventually(
      'there is a deputy',
      async () => (await fleet.redis.get(key('deputy'))) !== null,
    );
    await breakKey('deputy');
    await eventually('it is said', () => linesAbout('deputy').length > 0);
    await untilSupervised();
    expect(linesAbout('deputy')).toHaveLength(1);
    expect(apps.filter((app) => app.get(WorkerCoordinator).isSupervisor)).toHaveLength(1);
    await fleet.redis.del(key('deputy'));
    await eventually(
      'there is a deputy',
      async () => (await fleet.redis.get(key('deputy'))) !== null,
    );
  });

  it('does not keep anybody from supervising when it is the deputy’s', async () => {
    await breakKey('deputy');
    const [app] = await started(fleet.start());
    await eventually('it supervises', () => app!.get(WorkerCoordinator).isSupervisor);
    await untilSupervised();
  });

  it('is named once while a process cannot join for it, and it joins when it is gone', async () => {
    const said: string[] = [];
    for (const level of ['warn', 'error'] as const)
      jest.spyOn(Logger.prototype, level).mockImplementation((text: unknown) => {
        said.push(String(text));
      });
    await breakKey('processes');
    // It boots all the same, after two seconds and some ten attempts.
    const [app] = await started(fleet.start({ providers: [hosting('work', () => 1)] }));
    const lines = said.filter((text) => text.includes(key('processes')));
    jest.restoreAllMocks();
    expect(lines).toEqual([expect.stringMatching(/^joining the fleet failed: .*Delete it \(DEL /)]);
    await fleet.redis.del(key('processes'));
    await eventually('it has joined', () => app!.get(WorkerCoordinator).state === 'active');
    await expect(app!.get(EnhancedFunctionRegistry).call('work')).resolves.toBe(1);
  });

  it('keeps no call to itself that a process was delivered before it could not join for it', async () => {
    const stage = new Stage();
    await breakKey('{other:default}:epoch');
    const call = ['c', '1 60000   early\t{"p":{},"i":null}'];
    await fleet.redis.xadd(key('{work:default}:calls'), '*', ...call);
    const providers = [stage.as('work'), hosting('other', () => 'done')];
    void fleet.start({ providers, options: quick }).catch(() => undefined);
    log = new CapturedLog();
    // Each attempt gets it, and hands it over to the next one.
    expect((await stage.started(2)).callId).toBe('early');
    await fleet.redis.del(key('{other:default}:epoch'));
    await eventually('it is done', async () => {
      stage.finishAll();
      return (await fleet.redis.xlen(key('{work:default}:calls'))) === 0;
    });
  });

  it('is named when it is one that a session has of its own', async () => {
    const [app] = await started(
      fleet.start({ providers: [hosting('work', () => 1)], options: quick }),
    );
    const registry = app!.get(EnhancedFunctionRegistry);
    const [session = ''] = await fleet.redis.hkeys(key('processes'));
    const hosted = `process:{${session}}:hosted`;
    await breakKey(hosted);
    await expect(
      registry.registerWorkerWithInstantNotification('w-2', 'work', 'default'),
    ).rejects.toThrow(`Delete it (DEL ${key(hosted)})`);
    await fleet.redis.del(key(hosted));
    await registry.registerWorkerWithInstantNotification('w-2', 'work', 'default');
  });

  it('is named once when it is where answers come, fails calls soon, and they are answered when it is gone', async () => {
    const [app] = await started(
      fleet.start({ providers: [hosting('work', () => 1)], options: quick }),
    );
    const registry = app!.get(EnhancedFunctionRegistry);
    await expect(registry.call('work')).resolves.toBe(1);
    const replies = `process:{${app!.get(WorkerCoordinator).processId}}:replies`;
    await breakKey(replies);
    await eventually('it is said', () => linesAbout(replies).length > 0);
    await expect(registry.call('work', {}, { timeoutMs: 50_000 })).rejects.toMatchObject({
      code: 'BACKEND_REFUSED',
      kind: 'WRONGTYPE',
      message: expect.stringContaining(`Delete it (DEL ${key(replies)})`),
    });
    await untilSupervised();
    expect(linesAbout(replies)).toHaveLength(1);
    await fleet.redis.del(key(replies));
    await eventually('it calls', async () => {
      return (await registry.call('work').catch(() => 0)) === 1;
    });
  });
});

describe('the type of a key', () => {
  it('is what the documentation says', () => {
    log = new CapturedLog();
    const rows = tableRows(readText('docs/architecture.md'), 'key');
    expect(rows.length).toBeGreaterThan(15);
    expect(rows.map((row) => [row['key'], typeOfKey(bare(row['key']))])).toEqual(
      rows.map((row) => [row['key'], row['type']]),
    );
  });
});
