import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  MaxDeliveriesError,
  WorkerCoordinator,
  WorkerLostError,
} from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { News } from '../harness/news.js';
import { TestProcess } from '../harness/processes.js';

// Processes are started and end in them, on machines that do other things too.
jest.setTimeout(60_000);

interface Started {
  type: 'started';
  callId: string;
  attempt: number;
  runs: number;
}

let fleet: Fleet;
let registry: EnhancedFunctionRegistry;
let processes: TestProcess[];

beforeEach(async () => {
  fleet = new Fleet();
  processes = [];
  // Who finds the dead applies its own maxDeliveries.
  const caller = await fleet.start({ options: { worker: false, maxDeliveries: 2 } });
  registry = caller.get(EnhancedFunctionRegistry);
  // It looks after the dead from here on, once it had its time to be sure.
  await eventually('the caller supervises', () => caller.get(WorkerCoordinator).isSupervisor);
});

afterEach(async () => {
  await Promise.all(processes.map((process) => process.destroy()));
  await fleet.close();
});

async function startWorker(
  workerId: string,
  env: Record<string, string> = {},
): Promise<TestProcess> {
  const worker = TestProcess.start('worker.ts', {
    REDIS_URL: redisUrl(),
    KEY_PREFIX: fleet.prefix,
    WORKER_ID: workerId,
    ...env,
  });
  processes.push(worker);
  await worker.message('ready', 30_000);
  return worker;
}

describe('a dead process', () => {
  it('that hosted nothing is forgotten without a warning', async () => {
    const said = { warn: [] as string[], debug: [] as string[] };
    for (const level of ['warn', 'debug'] as const) {
      jest.spyOn(Logger.prototype, level).mockImplementation((text: unknown) => {
        said[level].push(String(text));
      });
    }
    jest.spyOn(Logger, 'isLevelEnabled').mockReturnValue(true);
    const listed = `${fleet.prefix}nf:processes`;
    await fleet.redis.hset(listed, 'caller-1.1', 'present');
    await eventually('it is forgotten', async () => (await fleet.redis.hlen(listed)) === 1);
    jest.restoreAllMocks();
    expect(said.debug).toContainEqual(
      expect.stringMatching(/^process caller-1\.1 is dead \(\w+\); it hosted nothing$/),
    );
    expect(said.warn.filter((text) => text.includes('caller-1.1'))).toEqual([]);
  });
});

const calls = (name: string): string => `${fleet.prefix}nf:{${name}:default}:calls`;

/** How often each call ran, in whatever process. */
async function runs(): Promise<number[]> {
  return Object.values(await fleet.redis.hgetall(`${fleet.prefix}runs`)).map(Number);
}

describe('SIGTERM', () => {
  it('lets the running call finish, its caller gets the result, and the process exits with 0', async () => {
    const worker = await startWorker('w-1');
    const call = registry.call('held');
    await worker.message('started');
    worker.kill('SIGTERM');
    await eventually('it drains', async () => {
      const record = await fleet.redis.hget(`${fleet.prefix}nf:{held:default}:workers`, 'w-1');
      expect(record).toContain('"draining"');
    });
    worker.send({ type: 'release', value: 'finished' });
    await expect(call).resolves.toEqual({ workerId: 'w-1', attempt: 1, value: 'finished' });
    await expect(worker.exit()).resolves.toEqual({ code: 0, signal: null });
    expect(await runs()).toEqual([1]);
    expect(await registry.getAvailableWorkers('held', 'default')).toEqual([]);
  });
});

describe('kill -9 of a worker in mid-call', () => {
  it('runs its call on another worker as attempt 2, and an at-most-once call not again', async () => {
    const first = await startWorker('w-1');
    const call = registry.call('held');
    const { callId } = await first.message<Started>('started');
    const once = registry.call('held', {}, { delivery: 'at-most-once' }).catch((e: unknown) => e);
    await eventually('both run', () => first.all('started').length === 2);
    const second = await startWorker('w-2');
    first.kill('SIGKILL');
    await expect(call).resolves.toEqual({ workerId: 'w-2', attempt: 2 });
    const lost = await once;
    expect(lost).toBeInstanceOf(WorkerLostError);
    expect(lost).toMatchObject({ code: 'WORKER_LOST', details: { attempt: 1 } });
    // The second one gets what comes after; all that it was given before is in order here.
    await registry.call('paced', { ms: 0 });
    expect(second.all('started')).toEqual([{ type: 'started', callId, attempt: 2, runs: 2 }]);
    await eventually(
      'the calls are removed',
      async () => (await fleet.redis.xlen(calls('held'))) === 0,
    );
  });

  it('of the only one shows in the status of callers, and a later worker runs the call', async () => {
    const first = await startWorker('w-1');
    const news = await News.listen(redisUrl(), fleet.prefix, News.channelsOf('held'));
    const call = registry.call('held');
    await first.message('started');
    const status = () => registry.getInstantWorkerStatus('held', 'default');
    expect(await status()).toMatchObject({ available: true });
    first.kill('SIGKILL');
    expect((await news.next('offline')).data).toMatchObject({
      workerId: 'w-1',
      reason: 'process_died',
    });
    news.close();
    await eventually('the status shows it', async () =>
      expect(await status()).toMatchObject({ available: false, workers: 0 }),
    );
    await expect(registry.call('held', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
    await eventually('nothing of it is left but its call', async () => {
      expect(await fleet.redis.hlen(`${fleet.prefix}nf:processes`)).toBe(1);
      const keys = await fleet.keys();
      expect(keys.filter((key) => key.endsWith(':hosted'))).toEqual([]);
      expect(keys.filter((key) => key.endsWith(':lease'))).toHaveLength(1);
      for (const name of ['held', 'paced', 'poison'])
        expect(await fleet.redis.xinfo('CONSUMERS', calls(name), 'workers')).toEqual([]);
    });
    await startWorker('w-2');
    await expect(call).resolves.toEqual({ workerId: 'w-2', attempt: 2 });
  });
});

describe('a frozen worker', () => {
  it('loses its call after its lease; woken up, its settle changes nothing and it registers anew', async () => {
    const frozen = await startWorker('w-1', { LEASE_MS: '600' });
    const news = await News.listen(redisUrl(), fleet.prefix, News.channelsOf('held'));
    const call = registry.call('held');
    await frozen.message('started');
    frozen.kill('SIGSTOP');
    const second = await startWorker('w-2');
    await expect(call).resolves.toEqual({ workerId: 'w-2', attempt: 2 });
    expect(news.of('offline')[0]?.data).toMatchObject({ workerId: 'w-1', reason: 'lease_expired' });
    // Its handler ends in the very moment in which it wakes up.
    frozen.send({ type: 'release', value: 'too late' });
    frozen.kill('SIGCONT');
    await frozen.message('lost');
    await frozen.message('registered');
    const ready = (await eventually('it is back', () => {
      const back = news.of('ready').find(({ data }) => data['workerId'] === 'w-1');
      if (back === undefined) throw new Error('not yet');
      return back;
    })) as { data: Record<string, unknown> };
    expect(Number(ready.data['epoch'])).toBeGreaterThan(
      Number(news.of('offline')[0]?.data['epoch']),
    );
    news.close();
    expect(await fleet.redis.xlen(calls('held'))).toBe(0);
    expect(await runs()).toEqual([2]);
    // It works again: with the other gone, it is the only one.
    second.kill('SIGTERM');
    await second.exit();
    await expect(registry.call('paced', { ms: 0 })).resolves.toBe('w-1');
  });
});

describe('a call that kills its process', () => {
  it('is given up after maxDeliveries, lies in the dead letters, and its caller is told', async () => {
    const victims = await Promise.all([startWorker('w-1'), startWorker('w-2')]);
    const mark = randomUUID();
    const call = registry.call('poison', { mark }).catch((error: unknown) => error);
    await Promise.all(victims.map((victim) => victim.exit(20_000)));
    const error = await call;
    expect(error).toBeInstanceOf(MaxDeliveriesError);
    expect(error).toMatchObject({ code: 'MAX_DELIVERIES', details: { attempts: 2 } });
    expect(await runs()).toEqual([2]);
    const dead = await fleet.redis.xrange(`${fleet.prefix}nf:{poison:default}:dead`, '-', '+');
    expect(dead).toHaveLength(1);
    const fields = dead[0]?.[1] ?? [];
    expect(fields[fields.indexOf('reason') + 1]).toBe('MAX_DELIVERIES');
    expect(fields[fields.indexOf('c') + 1]).toContain(mark);
    expect(await fleet.redis.xlen(calls('poison'))).toBe(0);
  });
});

describe('a rolling restart', () => {
  it('of all workers under a steady stream of calls loses none and runs none twice', async () => {
    const old = await Promise.all(['a', 'b', 'c'].map((name) => startWorker(`old-${name}`)));
    let going = true;
    let made = 0;
    const failed: unknown[] = [];
    const by = new Map<string, number>();
    const stream = async (): Promise<void> => {
      while (going && failed.length === 0) {
        made += 1;
        await registry.call<string>('paced', { ms: 20 }).then(
          (workerId) => by.set(workerId, (by.get(workerId) ?? 0) + 1),
          (error: unknown) => failed.push(error),
        );
      }
    };
    const streams = Array.from({ length: 12 }, stream);
    try {
      for (const [index, worker] of old.entries()) {
        await startWorker(`new-${index}`);
        worker.kill('SIGTERM');
        await expect(worker.exit()).resolves.toEqual({ code: 0, signal: null });
      }
      const before = made;
      await eventually('the new ones carry the stream', () => made > before + 50);
    } finally {
      going = false;
    }
    await Promise.all(streams);
    expect(failed).toEqual([]);
    expect([...by.keys()].filter((name) => name.startsWith('new-')).length).toBeGreaterThan(0);
    expect([...by.values()].reduce((sum, count) => sum + count, 0)).toBe(made);
    const counts = await runs();
    expect(counts).toHaveLength(made);
    expect(counts.every((count) => count === 1)).toBe(true);
  });
});
