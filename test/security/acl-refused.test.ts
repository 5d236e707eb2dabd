import { hostname } from 'node:os';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  jest,
} from '@jest/globals';
import { Logger } from '@nestjs/common';
import { Redis } from 'ioredis';
import { EnhancedFunctionRegistry, FunctionRegistry, WorkerCoordinator } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { createUser } from '../harness/acl.js';
import { AclFleet, PASSWORD, ROLES, USERS, type User } from '../harness/acl-fleet.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

jest.setTimeout(60_000);

let redis: StartedRedis;
let fleet: AclFleet;

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  fleet = await AclFleet.on(redis);
});
afterEach(() => fleet.close());

describe('a user of docs/security.md is refused', () => {
  const PREFIX = '@';
  const foreign = `${PREFIX}nf:process:{elsewhere-1-aa}:replies`;
  const workers = `${PREFIX}nf:{work:default}:workers`;
  const calls = `${PREFIX}nf:{work:default}:calls`;
  const inbox = `${PREFIX}nf:process:{elsewhere-1-aa.1}:inbox`;
  const script = (command: string): string =>
    `return redis.call(${command
      .split(' ')
      .map((word) => `'${word}'`)
      .join(', ')})`;
  const inScript = (command: string): string[] => ['EVAL', script(command), '0'];
  const everybody: string[][] = [
    ['GET', 'a-key-of-others'],
    ['SET', 'a-key-of-others', '1'],
    ['KEYS', '*'],
    ['SCAN', '0'],
    ['FLUSHALL'],
    ['CONFIG', 'GET', '*'],
    ['ACL', 'LIST'],
    ['MONITOR'],
    ['DEBUG', 'SLEEP', '0'],
    ['SCRIPT', 'FLUSH'],
    ['SHUTDOWN'],
    ['SUBSCRIBE', 'a-channel-of-others'],
    ['PUBLISH', 'a-channel-of-others', 'x'],
    ['PSUBSCRIBE', '*'],
    ['PSUBSCRIBE', `${PREFIX}*`],
    ['SUBSCRIBE', 'other:function:ready:work:default'],
    ['HGETALL', 'other:nf:processes'],
    ['SET', `${PREFIX}nf:process:{elsewhere-1-aa.1}:lease`, '1'],
    ['SUBSCRIBE', `${PREFIX}nf:process:elsewhere-1-aa.1`],
    ['XREAD', 'STREAMS', foreign, '0'],
    ['XTRIM', foreign, 'MAXLEN', '0'],
    ['EVAL', script('FLUSHALL'), '0'],
    ['EVAL', script('GET a-key-of-others'), '0'],
  ];
  const supervision: string[][] = [
    ['SET', `${PREFIX}nf:supervisor`, 'me'],
    ['EVAL', 'return 1', '1', `${PREFIX}nf:supervisor`],
    ['DEL', `${PREFIX}nf:process:{elsewhere-1-aa.1}:lease`],
    ['SET', `${PREFIX}nf:process:{elsewhere-1-aa.1}:grave`, ''],
    ['CLIENT', 'LIST'],
  ];
  const ofWorkers: string[][] = [
    ['HSET', workers, 'w', '{}'],
    inScript(`HSET ${workers} w {}`),
    ['EVAL', script(`HSET ${workers} w {}`), '1', workers],
    ['XREADGROUP', 'GROUP', 'workers', 'c', 'STREAMS', calls, '>'],
    ['XCLAIM', calls, 'workers', 'c', '0', '1-1'],
    ['SET', `${PREFIX}nf:{work:default}:definition`, '{}'],
    ['PUBLISH', `${PREFIX}function:ready:work:default`, '{}'],
    ['CLIENT', 'KILL', 'ID', '1'],
  ];
  const ofDirectors: string[][] = [
    ['SET', `${PREFIX}nf:workflow:{default}:restart`, '{}'],
    ['EVAL', 'return 1', '1', `${PREFIX}nf:workflow:{default}:restart`],
    ['PUBLISH', `${PREFIX}workflow:saved:default`, '{}'],
  ];
  const readsCalls: string[][] = [
    ['XRANGE', calls, '-', '+'],
    ['HGETALL', inbox],
    inScript(`XRANGE ${calls} - +`),
    ['EVAL', script(`XRANGE ${calls} - +`), '1', calls],
  ];
  const deadLetters = [['XRANGE', `${PREFIX}nf:{work:default}:dead`, '-', '+']];
  const answers: string[][] = [
    ['XADD', foreign, '*', 'id', '{}'],
    inScript(`XADD ${foreign} * id {}`),
  ];
  const circuits: string[][] = [
    ['SET', `${PREFIX}nf:{work:default}:circuit`, '{}'],
    ['PUBLISH', `${PREFIX}circuit:state:work:default`, '{}'],
  ];
  const ofCallers = [...supervision, ...ofWorkers, ...readsCalls, ...deadLetters, ...answers];
  const REFUSED: Readonly<Record<User, string[][]>> = {
    caller: [...everybody, ...ofCallers, ...ofDirectors, ...circuits],
    breaker: [...everybody, ...ofCallers, ...ofDirectors],
    worker: [...everybody, ...supervision, ...ofDirectors, ...deadLetters],
    supervisor: [...everybody, ...ofWorkers.slice(0, 7), ...ofDirectors, ...deadLetters],
    operator: [
      ...everybody,
      ...supervision,
      ...ofWorkers,
      ...ofDirectors,
      ...readsCalls,
      ...answers,
    ],
    director: [...everybody, ...supervision, ...ofWorkers, ...readsCalls, ...answers, ...circuits],
    watcher: [
      ...everybody,
      ...supervision,
      ...ofWorkers,
      ...ofDirectors,
      ...readsCalls,
      ...deadLetters,
      ...answers,
      ['PUBLISH', `${PREFIX}function:bottleneck:work:default`, '{}'],
    ],
  };

  it.each(
    Object.entries(REFUSED).flatMap(([user, commands]) =>
      commands.map((words) => ({ user, words, command: words.join(' ') })),
    ),
  )('what is not its own, $user: $command', async ({ user, words }) => {
    const client = new Redis(fleet.urlOf(user));
    const own = words.map((word) => word.replaceAll(PREFIX, fleet.prefix));
    await expect(client.call(own[0]!, ...own.slice(1))).rejects.toThrow(
      /^NOPERM|can't run this command|can't access at least one of the keys/,
    );
    client.disconnect();
  });

  it('the same keys under another prefix', async () => {
    const client = new Redis(fleet.urlOf('worker'));
    await expect(client.xadd('other:nf:{work:default}:calls', '*', 'a', 'b')).rejects.toThrow(
      /^NOPERM/,
    );
    client.disconnect();
  });

  it('with a glob for its hosts: what is named after other hosts only', async () => {
    const user = { name: 'web', password: PASSWORD, prefix: fleet.prefix, host: 'web-*' };
    await createUser(fleet.redis, user, USERS.caller);
    const client = new Redis(fleet.urlOf('web'));
    const replies = (host: string): string => `${fleet.prefix}nf:process:{${host}-1-aa}:replies`;
    await expect(client.xadd(replies('web-7f'), '*', 'id', '{}')).resolves.toEqual(
      expect.any(String),
    );
    await expect(client.xadd(replies(hostname()), '*', 'id', '{}')).rejects.toThrow(/^NOPERM/);
    client.disconnect();
  });
});

describe('a caller that forges what other processes say', () => {
  it.each([
    ['that it is unhealthy', { type: 'health', healthy: false, seq: 1_000 }],
    ['that it was unregistered', { type: 'unregistered' }],
  ])('does not make a worker believe %s', async (_, forged) => {
    const worker = await fleet.startAs('worker', [hosting('work', () => 'done')]);
    const client = new Redis(fleet.urlOf('caller'));
    const [text = '{}'] = await fleet.redis.hvals(fleet.key('work', 'workers'));
    const { processId, workerId, epoch } = JSON.parse(text) as Record<string, string>;
    const data = { ...forged, functionName: 'work', workflowId: 'default', workerId, epoch };
    const heard = await fleet.callCount('hget');
    const channel = `${fleet.prefix}nf:process:${processId}`;
    const packet = JSON.stringify({ pattern: 'control', data });
    await expect(client.publish(channel, packet)).resolves.toBe(1);
    await eventually('it looked', async () => (await fleet.callCount('hget')) > heard);
    // A command of the worker that comes behind whatever it does now.
    await worker.get(FunctionRegistry).getAvailableWorkers('work', 'default');
    const registry = await fleet.caller();
    await expect(registry.call('work', {}, { ifUnavailable: 'fail' })).resolves.toBe('done');
    expect(worker.get(WorkerCoordinator).workers()).toEqual([
      expect.objectContaining({ status: 'ready' }),
    ]);
    client.disconnect();
  });
});

describe('a caller that declares a worker dead', () => {
  it('makes its call run again, under a new session of the worker', async () => {
    const stage = new Stage();
    await fleet.startAs('supervisor');
    await fleet.startAs('worker', [stage.as('work')]);
    const call = (await fleet.caller()).call('work');
    const first = await stage.started();
    const client = new Redis(fleet.urlOf('caller'));
    const [text = '{}'] = await fleet.redis.hvals(fleet.key('work', 'workers'));
    const { processId } = JSON.parse(text) as { processId: string };
    await client.hset(`${fleet.prefix}nf:processes`, processId, 'condemned');
    const second = await stage.started(2);
    expect(first.context.signal.aborted).toBe(true);
    expect(second.context.attempt).toBe(2);
    stage.finishAll();
    await expect(call).resolves.toBe('done');
    client.disconnect();
  });
});

describe('a caller that tells the deputy of looks that nobody made', () => {
  it('does not keep it from following a dead supervisor', async () => {
    const first = await fleet.startAs('supervisor');
    await eventually('it supervises', () => first.get(WorkerCoordinator).isSupervisor);
    const second = await fleet.startAs('supervisor');
    const deputy = `${fleet.prefix}nf:deputy`;
    const session = await eventually('it has a deputy', async () => {
      return (await fleet.redis.get(deputy)) ?? false;
    });
    const client = new Redis(fleet.urlOf('caller'));
    const packet = JSON.stringify({ pattern: 'control', data: { type: 'looked' } });
    const forge = setInterval(() => {
      void client.publish(`${fleet.prefix}nf:process:${String(session)}`, packet);
    }, 20);
    try {
      await fleet.stop(first);
      await eventually('the deputy follows', () => second.get(WorkerCoordinator).isSupervisor);
    } finally {
      clearInterval(forge);
      client.disconnect();
    }
  });
});

describe('a user for one function', () => {
  it('calls it, and no other', async () => {
    const user = { name: 'narrow', password: PASSWORD, prefix: fleet.prefix };
    await createUser(fleet.redis, { ...user, functions: 'work:default' }, USERS.caller);
    await fleet.startAs('worker', [hosting('work', () => 'done'), hosting('other', () => 'done')]);
    const app = await fleet.start({
      options: { connection: fleet.urlOf('narrow'), ...ROLES.caller },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    await expect(registry.call('work')).resolves.toBe('done');
    expect(await fleet.refusals()).toEqual([]);
    await expect(registry.call('other', {}, { readinessTimeoutMs: 500 })).rejects.toThrow(/NOPERM/);
    expect(await fleet.redis.xlen(fleet.key('other', 'calls'))).toBe(0);
  });
});

describe('a process whose user may not supervise, and that was not told so', () => {
  let warned: string[];
  beforeEach(() => {
    warned = [];
    jest.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => {
      warned.push(String(text));
    });
  });
  afterEach(() => {
    jest.restoreAllMocks();
  });

  const said = (): string[] => warned.filter((text) => text.includes('supervision'));

  it('says it once, calls and is called, and leaves the office to those who may', async () => {
    const worker = await fleet.startAs('worker', [hosting('work', () => 'done')], {
      supervise: true,
    });
    await eventually('it is said', () => said().length === 1);
    expect(said()).toEqual([
      expect.stringMatching(
        /^this process takes no part in the supervision: its Redis user may not.* \(NOPERM .*docs\/security\.md.*supervise: false/,
      ),
    ]);
    const supervisor = await fleet.startAs('supervisor');
    await eventually('it supervises', () => supervisor.get(WorkerCoordinator).isSupervisor);
    await expect((await fleet.caller()).call('work')).resolves.toBe('done');
    // It asks again on its next connection, and says nothing new.
    const before = (await fleet.refusals()).length;
    expect(before).toBe(1);
    await fleet.redis.acl('LOG', 'RESET');
    await fleet.redis.client('KILL', 'USER', 'worker');
    await eventually('it asked', async () => (await fleet.refusals()).length === 1);
    await eventually('it is there', () => worker.get(WorkerCoordinator).state === 'active');
    await expect((await fleet.caller()).call('work')).resolves.toBe('done');
    expect(said()).toHaveLength(1);
  });

  it('gives the office back when it may take it, and not do its work', async () => {
    await fleet.grant(
      'worker',
      `~${fleet.prefix}nf:supervisor`,
      `~${fleet.prefix}nf:deputy`,
      `(+get +set +del +pexpire ~${fleet.prefix}nf:supervisor ~${fleet.prefix}nf:deputy)`,
    );
    await fleet.startAs('worker', [hosting('work', () => 'done')], { supervise: true });
    await eventually('it is said', () => said().length === 1);
    await eventually('the office is free', async () => {
      return (await fleet.redis.exists(`${fleet.prefix}nf:supervisor`)) === 0;
    });
  });
});

describe('supervise: false', () => {
  it('takes no office, and asks for none', async () => {
    const app = await fleet.startAs('caller');
    await fleet.startAs('supervisor');
    await eventually('the other has it', async () => {
      return (await fleet.redis.exists(`${fleet.prefix}nf:supervisor`)) === 1;
    });
    expect(app.get(WorkerCoordinator).isSupervisor).toBe(false);
    expect(await fleet.redis.exists(`${fleet.prefix}nf:deputy`)).toBe(0);
  });
});
