import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { BACKEND } from '../../src/backend/tokens.js';
import type { Backend } from '../../src/backend/backend.js';
import { RETURN_GRACE_MS } from '../../src/lifecycle/supervisor.js';
import { WorkerCoordinator } from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { scripts } from '../../src/backend/redis/scripts.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { TestProcess } from '../harness/processes.js';

// A process is started and killed in them, on machines that do other things too.
jest.setTimeout(60_000);

let fleet: Fleet;
let proxy: TcpProxy;
let log: CommandLog;
let backend: Backend;
let worker: TestProcess | undefined;

beforeEach(async () => {
  fleet = new Fleet();
  proxy = await TcpProxy.start(redisUrl());
  log = await CommandLog.start(redisUrl());
  const caller = await fleet.start({ options: { connection: proxy.url, worker: false } });
  await eventually('it supervises', () => caller.get(WorkerCoordinator).isSupervisor);
  backend = caller.get<Backend>(BACKEND);
});
afterEach(async () => {
  await worker?.destroy();
  worker = undefined;
  await fleet.close();
  log.close();
  await proxy.close();
});

const listed = (): Promise<Record<string, string>> =>
  fleet.redis.hgetall(`${fleet.prefix}nf:processes`);

/** Resolves with the time of the supervisor's first look on a connection that is newer than the last one. */
async function lookedAnew(): Promise<number> {
  await eventually('it is connected again', () => backend.isConnected());
  const looks = async (): Promise<number> =>
    (await log.mentioning(scripts.look.sha)).filter(({ args }) =>
      args.includes(`${fleet.prefix}nf:supervisor`),
    ).length;
  const before = await looks();
  await eventually('it looks', async () => (await looks()) > before);
  return performance.now();
}

describe('after the return of its own connection, the supervisor', () => {
  it('finds a process dead at once that it saw alive since then', async () => {
    worker = TestProcess.start('worker.ts', {
      REDIS_URL: redisUrl(),
      KEY_PREFIX: fleet.prefix,
      WORKER_ID: 'w-1',
    });
    await worker.message('ready', 30_000);
    proxy.refuse();
    await eventually('it is gone', () => !backend.isConnected());
    proxy.accept();
    const returnedAt = await lookedAnew();
    worker.kill('SIGKILL');
    await eventually('it is condemned', async () =>
      Object.values(await listed()).includes('condemned'),
    );
    expect(performance.now() - returnedAt).toBeLessThan(RETURN_GRACE_MS / 2);
  });

  it('gives one that it has not seen since then the time to return', async () => {
    proxy.refuse();
    await eventually('it is gone', () => !backend.isConnected());
    await fleet.redis.hset(`${fleet.prefix}nf:processes`, 'gone-1.1', 'present');
    const before = performance.now();
    proxy.accept();
    await eventually(
      'it is given up',
      async () => {
        const state = (await listed())['gone-1.1'];
        return state === undefined || state === 'condemned';
      },
      10_000,
    );
    expect(performance.now() - before).toBeGreaterThan(RETURN_GRACE_MS);
  });
});
