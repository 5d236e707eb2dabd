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
import { Logger, type INestApplicationContext } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  DeadLetters,
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionLifecycleNotifier,
  WorkerCoordinator,
  type FunctionsOptions,
} from '../../src/index.js';
import { DIRECT_READ_LIMIT } from '../../src/execution/worker/lanes.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { createUser, refusals, type AclBlock } from '../harness/acl.js';
import { Fleet } from '../harness/apps.js';
import { condemnAll } from '../harness/condemn.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';

jest.setTimeout(60_000);

/** The users of the tests, made of the document's blocks. */
const USERS = {
  caller: ['Every process', 'Calling'],
  worker: ['Every process', 'Hosting'],
  supervisor: ['Every process', 'Supervising'],
  operator: ['Every process', 'Dead letters'],
} as const satisfies Record<string, readonly AclBlock[]>;
type User = keyof typeof USERS;

/** What each of them is to the module. */
const ROLES: Readonly<Record<User, FunctionsOptions>> = {
  caller: { worker: false, supervise: false },
  worker: { supervise: false },
  supervisor: { worker: false },
  operator: { worker: false, supervise: false },
};

const PASSWORD = 'a-password';
let redis: StartedRedis;
let fleet: Fleet;
let processes: TestProcess[];

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

beforeEach(async () => {
  fleet = new Fleet(redis.url);
  processes = [];
  await fleet.redis.acl('LOG', 'RESET');
  for (const [name, blocks] of Object.entries(USERS))
    await createUser(fleet.redis, { name, password: PASSWORD, prefix: fleet.prefix }, blocks);
});

afterEach(async () => {
  await Promise.all(processes.map((process) => process.destroy()));
  await fleet.close();
});

const urlOf = (user: string): string => redis.url.replace('//', `//${user}:${PASSWORD}@`);
const callsKey = (name: string): string => `${fleet.prefix}nf:{${name}:default}:calls`;

function start(
  user: User,
  providers: unknown[] = [],
  options: FunctionsOptions = {},
): Promise<INestApplicationContext> {
  return fleet.start({
    providers,
    options: { connection: urlOf(user), ...ROLES[user], ...options },
  });
}

async function expectNoRefusal(): Promise<void> {
  expect(await refusals(fleet.redis)).toEqual([]);
}

/** The code of what a call fails with; looked at now, so that the failure may come before it is awaited. */
function codeOf(call: Promise<unknown> | undefined): Promise<unknown> {
  return Promise.resolve(call).then(
    () => 'no failure',
    (error: { code?: unknown }) => error.code,
  );
}

async function caller(): Promise<EnhancedFunctionRegistry> {
  return (await start('caller')).get(EnhancedFunctionRegistry);
}

describe('a fleet whose users have the rules of docs/security.md', () => {
  afterEach(async () => {
    await fleet.close();
    await expectNoRefusal();
  });

  it('calls, waits for readiness, tells progress, and answers with results and errors', async () => {
    const registry = await caller();
    const waiting = registry.call('work', { n: 1 });
    const seen: unknown[] = [];
    const worker = await start('worker', [
      hosting('work', (input, context) => {
        context.progress('half');
        return input;
      }),
      hosting('fail', () => {
        throw new FunctionError('NO', 'no');
      }),
    ]);
    await expect(waiting).resolves.toEqual({ n: 1 });
    const onProgress = (value: unknown): unknown => seen.push(value);
    await expect(registry.call('work', { n: 2 }, { onProgress })).resolves.toEqual({ n: 2 });
    expect(seen).toEqual(['half']);
    await expect(registry.call('fail')).rejects.toMatchObject({ code: 'NO' });
    expect((await registry.getAvailableFunctions()).length).toBe(2);
    await fleet.stop(worker);
    await expect(registry.call('work', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
  });

  it('hears of health, and cancels calls that wait and calls that run', async () => {
    const stage = new Stage();
    const registry = await caller();
    const worker = await start('worker', [stage.as({ name: 'work', concurrency: 1 })]);
    const abort = new AbortController();
    const { signal } = abort;
    const running = registry.call('work', {}, { signal });
    const run = await stage.started();
    const waiting = registry.call('work', {}, { signal });
    abort.abort();
    await expect(running).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await expect(waiting).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('the run is aborted', () => run.context.signal.aborted);
    stage.finishAll();
    const notifier = worker.get(FunctionLifecycleNotifier).forFunction('work');
    await notifier.notifyUnhealthy('tired');
    await eventually('the caller knows', async () => {
      const status = await registry.getInstantWorkerStatus('work', 'default');
      return status.healthyWorkers === 0;
    });
    await notifier.notifyHealthy();
    await eventually('the stream is empty', async () => {
      return (await fleet.redis.xlen(callsKey('work'))) === 0;
    });
  });

  it('shares calls by an idempotency key, answers from the result, and cancels one of those who share', async () => {
    const stage = new Stage();
    const [one, two] = [await caller(), await caller()];
    await start('worker', [stage.as('work')]);
    const abort = new AbortController();
    const options = { idempotencyKey: 'k' };
    const shared = [
      one.call('work', {}, options),
      two.call('work', {}, options),
      two.call('work', {}, { ...options, signal: abort.signal }),
    ];
    const left = codeOf(shared[2]);
    const run = await stage.started();
    const once = `${fleet.prefix}nf:{work:default}:once:k`;
    await eventually('all share it', async () => (await fleet.redis.hlen(once)) === 5);
    abort.abort();
    expect(await left).toBe('CALL_CANCELLED');
    run.outcome.resolve('once');
    await expect(Promise.all(shared.slice(0, 2))).resolves.toEqual(['once', 'once']);
    await expect(two.call('work', {}, options)).resolves.toBe('once');
    expect(stage.runs).toHaveLength(1);
  });

  it('runs failed calls again, buries them, and an operator lists, retries and removes them', async () => {
    await start('supervisor');
    let broken = true;
    const seen: unknown[] = [];
    await start('worker', [
      hosting({ name: 'work', retry: { maxAttempts: 2, backoffMs: 1 } }, (input) => {
        if (broken) throw new Error('broken');
        seen.push(input);
      }),
    ]);
    const registry = await caller();
    for (const n of [1, 2])
      await expect(registry.call('work', { n })).rejects.toMatchObject({ code: 'HANDLER_FAILED' });
    broken = false;
    const letters = (await start('operator')).get(DeadLetters);
    const [first, second] = await letters.list('work', 'default');
    await expect(letters.retry('work', 'default', first!.id)).resolves.toBe(true);
    await letters.remove('work', 'default', second!.id);
    await expect(letters.count('work', 'default')).resolves.toBe(0);
    await eventually('it ran', () => seen.length === 1);
    // A call that is cancelled while it waits for its next attempt.
    broken = true;
    const abort = new AbortController();
    await fleet.start({
      providers: [
        hosting({ name: 'slow', retry: { maxAttempts: 2, backoffMs: 60_000 } }, () => {
          throw new Error('later');
        }),
      ],
      options: { connection: urlOf('worker'), ...ROLES.worker },
    });
    const later = registry.call('slow', {}, { signal: abort.signal });
    const aside = `${fleet.prefix}nf:{slow:default}:aside`;
    await eventually('it waits', async () => (await fleet.redis.hlen(aside)) === 1);
    abort.abort();
    await expect(later).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('it is gone', async () => (await fleet.redis.hlen(aside)) === 0);
  });

  it('drains: what runs finishes, what does not is handed back to another worker', async () => {
    const stage = new Stage();
    const registry = await caller();
    const worker = await start('worker', [stage.as('work')], { drainTimeoutMs: 200 });
    const calls = [registry.call('work', { n: 1 }), registry.call('work', { n: 2 })];
    await stage.started(2);
    const stopping = fleet.stop(worker);
    stage.runs[0]!.outcome.resolve('finished');
    await stopping;
    await start('worker', [hosting('work', () => 'elsewhere')]);
    expect((await Promise.all(calls)).sort()).toEqual(['elsewhere', 'finished']);
    stage.finishAll();
  });

  it('hands the calls of a killed worker over, at-most-once calls answered, by a user that only supervises', async () => {
    const supervisor = await start('supervisor');
    await eventually('it supervises', () => supervisor.get(WorkerCoordinator).isSupervisor);
    // The process of the tests counts its runs in a key of its own.
    await fleet.redis.call('ACL', 'SETUSER', 'worker', `(+hincrby ~${fleet.prefix}runs)`);
    const startProcess = async (id: string): Promise<TestProcess> => {
      const env = { REDIS_URL: urlOf('worker'), KEY_PREFIX: fleet.prefix, SUPERVISE: 'false' };
      const worker = TestProcess.start('worker.ts', { ...env, WORKER_ID: id });
      processes.push(worker);
      await worker.message('ready', 30_000);
      return worker;
    };
    const registry = await caller();
    const first = await startProcess('first');
    const call = registry.call('held', {}, { idempotencyKey: 'k' });
    const once = registry.call('held', {}, { delivery: 'at-most-once' });
    const lost = codeOf(once);
    await eventually('both run', async () => (await fleet.redis.hlen(`${fleet.prefix}runs`)) === 2);
    await startProcess('second');
    first.kill('SIGKILL');
    await expect(call).resolves.toEqual({ workerId: 'second', attempt: 2 });
    expect(await lost).toBe('WORKER_LOST');
    const poisoned = registry.call('poison');
    await eventually('the second is gone', async () => {
      const workers = await fleet.redis.hkeys(`${fleet.prefix}nf:{poison:default}:workers`);
      return workers.length === 0;
    });
    const gone = codeOf(poisoned);
    for (const id of ['third', 'fourth']) await startProcess(id);
    expect(await gone).toBe('MAX_DELIVERIES');
    await eventually('the dead are forgotten', async () => {
      return (await fleet.redis.keys(`${fleet.prefix}nf:process:*:grave`)).length === 4;
    });
  });

  it('reads many functions by their bell', async () => {
    const names = Array.from({ length: DIRECT_READ_LIMIT + 2 }, (_, index) => `f${index}`);
    const registry = await caller();
    const host = (): Promise<INestApplicationContext> =>
      start(
        'worker',
        names.map((name) => hosting(name, () => name)),
      );
    const first = await host();
    await host();
    expect(await Promise.all(names.map((name) => registry.call(name)))).toEqual(names);
    await fleet.stop(first);
    expect(await Promise.all(names.map((name) => registry.call(name)))).toEqual(names);
  });

  it('comes back after its group was destroyed, its sessions condemned, its connections killed, and Redis emptied', async () => {
    const stage = new Stage();
    const registry = await caller();
    await start('supervisor');
    const host = (): Promise<INestApplicationContext> => start('worker', [stage.as('work')]);
    await host();
    await host();
    const answered = async (faults: () => Promise<unknown>): Promise<void> => {
      const count = stage.runs.length;
      const running = registry.call('work', { n: 1 });
      await stage.started(count + 1);
      await faults();
      const later = registry.call('work', { n: 2 }, { timeoutMs: 20_000 });
      await eventually('it is run', () => stage.runs.length >= count + 2, 20_000);
      const finish = setInterval(() => stage.finishAll(), 20);
      await expect(running).resolves.toBe('done');
      await expect(later).resolves.toBe('done');
      clearInterval(finish);
    };
    const { redis: admin } = fleet;
    await answered(() => admin.xgroup('DESTROY', callsKey('work'), 'workers'));
    await answered(() => admin.client('KILL', 'TYPE', 'PUBSUB'));
    await answered(() => admin.client('KILL', 'USER', 'worker'));
    await answered(() => condemnAll(fleet));
    await answered(() => admin.flushall());
  });
});

describe('a user of docs/security.md is refused', () => {
  const PREFIX = '@';
  const foreign = `${PREFIX}nf:process:{elsewhere-1-aa}:replies`;
  const workers = `${PREFIX}nf:{work:default}:workers`;
  const calls = `${PREFIX}nf:{work:default}:calls`;
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
  const readsCalls: string[][] = [
    ['XRANGE', calls, '-', '+'],
    inScript(`XRANGE ${calls} - +`),
    ['EVAL', script(`XRANGE ${calls} - +`), '1', calls],
  ];
  const deadLetters = [['XRANGE', `${PREFIX}nf:{work:default}:dead`, '-', '+']];
  const answers: string[][] = [
    ['XADD', foreign, '*', 'id', '{}'],
    inScript(`XADD ${foreign} * id {}`),
  ];
  const REFUSED: Readonly<Record<User, string[][]>> = {
    caller: [...everybody, ...supervision, ...ofWorkers, ...readsCalls, ...deadLetters, ...answers],
    worker: [...everybody, ...supervision, ...deadLetters],
    supervisor: [...everybody, ...ofWorkers.slice(0, 7), ...deadLetters],
    operator: [...everybody, ...supervision, ...ofWorkers, ...readsCalls, ...answers],
  };

  it.each(
    Object.entries(REFUSED).flatMap(([user, commands]) =>
      commands.map((words) => ({ user, words, command: words.join(' ') })),
    ),
  )('what is not its own, $user: $command', async ({ user, words }) => {
    const client = new Redis(urlOf(user));
    const own = words.map((word) => word.replaceAll(PREFIX, fleet.prefix));
    await expect(client.call(own[0]!, ...own.slice(1))).rejects.toThrow(
      /^NOPERM|can't run this command|can't access at least one of the keys/,
    );
    client.disconnect();
  });

  it('the same keys under another prefix', async () => {
    const client = new Redis(urlOf('worker'));
    await expect(client.xadd('other:nf:{work:default}:calls', '*', 'a', 'b')).rejects.toThrow(
      /^NOPERM/,
    );
    client.disconnect();
  });

  it('with a glob for its hosts: what is named after other hosts only', async () => {
    const user = { name: 'web', password: PASSWORD, prefix: fleet.prefix, host: 'web-*' };
    await createUser(fleet.redis, user, USERS.caller);
    const client = new Redis(urlOf('web'));
    const replies = (host: string): string => `${fleet.prefix}nf:process:{${host}-1-aa}:replies`;
    await expect(client.xadd(replies('web-7f'), '*', 'id', '{}')).resolves.toEqual(
      expect.any(String),
    );
    await expect(client.xadd(replies(hostname()), '*', 'id', '{}')).rejects.toThrow(/^NOPERM/);
    client.disconnect();
  });
});

describe('a user for one function', () => {
  it('calls it, and no other', async () => {
    const user = { name: 'narrow', password: PASSWORD, prefix: fleet.prefix };
    await createUser(fleet.redis, { ...user, functions: 'work:default' }, USERS.caller);
    await start('worker', [hosting('work', () => 'done'), hosting('other', () => 'done')]);
    const app = await fleet.start({
      options: { connection: urlOf('narrow'), ...ROLES.caller },
    });
    const registry = app.get(EnhancedFunctionRegistry);
    await expect(registry.call('work')).resolves.toBe('done');
    expect(await refusals(fleet.redis)).toEqual([]);
    await expect(registry.call('other', {}, { readinessTimeoutMs: 500 })).rejects.toThrow(/NOPERM/);
    expect(await fleet.redis.xlen(callsKey('other'))).toBe(0);
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
    const worker = await start('worker', [hosting('work', () => 'done')], { supervise: true });
    await eventually('it is said', () => said().length === 1);
    expect(said()).toEqual([
      expect.stringMatching(
        /^this process takes no part in the supervision: its Redis user may not \(NOPERM .*docs\/security\.md.*supervise: false/,
      ),
    ]);
    const supervisor = await start('supervisor');
    await eventually('it supervises', () => supervisor.get(WorkerCoordinator).isSupervisor);
    await expect((await caller()).call('work')).resolves.toBe('done');
    // It asks again on its next connection, and says nothing new.
    const before = (await refusals(fleet.redis)).length;
    expect(before).toBe(1);
    await fleet.redis.acl('LOG', 'RESET');
    await fleet.redis.client('KILL', 'USER', 'worker');
    await eventually('it asked', async () => (await refusals(fleet.redis)).length === 1);
    await eventually('it is there', () => worker.get(WorkerCoordinator).state === 'active');
    await expect((await caller()).call('work')).resolves.toBe('done');
    expect(said()).toHaveLength(1);
  });

  it('gives the office back when it may take it, and not do its work', async () => {
    await fleet.redis.call(
      'ACL',
      'SETUSER',
      'worker',
      `~${fleet.prefix}nf:supervisor`,
      `~${fleet.prefix}nf:deputy`,
      `(+get +set +del +pexpire ~${fleet.prefix}nf:supervisor ~${fleet.prefix}nf:deputy)`,
    );
    await start('worker', [hosting('work', () => 'done')], { supervise: true });
    await eventually('it is said', () => said().length === 1);
    await eventually('the office is free', async () => {
      return (await fleet.redis.exists(`${fleet.prefix}nf:supervisor`)) === 0;
    });
  });
});

describe('supervise: false', () => {
  it('takes no office, and asks for none', async () => {
    const app = await start('caller');
    await start('supervisor');
    await eventually('the other has it', async () => {
      return (await fleet.redis.exists(`${fleet.prefix}nf:supervisor`)) === 1;
    });
    expect(app.get(WorkerCoordinator).isSupervisor).toBe(false);
    expect(await fleet.redis.exists(`${fleet.prefix}nf:deputy`)).toBe(0);
  });
});
