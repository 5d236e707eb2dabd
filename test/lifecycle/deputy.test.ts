import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { scripts } from '../../src/backend/redis/scripts.js';
import { WorkerCoordinator } from '../../src/index.js';
import { RETURN_GRACE_MS } from '../../src/lifecycle/supervisor.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { CommandLog } from '../harness/command-log.js';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';

// Processes are started and end in them, on machines that do other things too.
jest.setTimeout(60_000);

let fleet: Fleet;
let processes: TestProcess[];

beforeEach(() => {
  fleet = new Fleet();
  processes = [];
});
afterEach(async () => {
  await Promise.all(processes.map((process) => process.destroy()));
  await fleet.close();
});

/** A process of its own, which can be killed. */
async function startProcess(workerId: string): Promise<TestProcess> {
  const started = TestProcess.start('worker.ts', {
    REDIS_URL: redisUrl(),
    KEY_PREFIX: fleet.prefix,
    WORKER_ID: workerId,
  });
  processes.push(started);
  await started.message('ready', 30_000);
  return started;
}

const holder = (office: string): Promise<string | null> =>
  fleet.redis.get(`${fleet.prefix}nf:${office}`);

async function untilHeldBy(office: string, pid: number, limitMs = 10_000): Promise<void> {
  await eventually(
    `process ${pid} is ${office}`,
    async () => expect(await holder(office)).toContain(`-${pid}-`),
    limitMs,
  );
}

describe('the deputy', () => {
  it('asks for no office while it hears that the supervisor looks', async () => {
    const supervisor = await fleet.start();
    await untilHeldBy('supervisor', process.pid);
    await fleet.start();
    await eventually('there is a deputy', async () => (await holder('deputy')) !== null);
    const log = await CommandLog.start(redisUrl());
    const times = async (sha: string): Promise<number> =>
      (await log.mentioning(sha)).filter(({ args }) =>
        args.includes(`${fleet.prefix}nf:supervisor`),
      ).length;
    // Where this process is late, a deputy asks after its supervisor. It would ask as often as that looks if it did not
    // hear of that, however often one tries.
    await eventually(
      'the supervisor looks again and again, and is hardly asked after',
      async () => {
        await log.clear();
        await eventually('it looks', async () => {
          expect(await times(scripts.look.sha)).toBeGreaterThan(60);
        });
        expect(await times(scripts.elect.sha)).toBeLessThan(20);
      },
      30_000,
    );
    log.close();
    expect(supervisor.get(WorkerCoordinator).isSupervisor).toBe(true);
  });

  it('has the office of a supervisor that is killed within a second', async () => {
    const first = await startProcess('first');
    await untilHeldBy('supervisor', first.pid);
    const deputy = await fleet.start();
    await untilHeldBy('deputy', process.pid);
    first.kill('SIGKILL');
    const killedAt = performance.now();
    await eventually('it supervises', () => deputy.get(WorkerCoordinator).isSupervisor);
    expect(performance.now() - killedAt).toBeLessThan(1_000);
  });

  it('that joined a moment ago finds its killed supervisor dead at once, which was settled', async () => {
    const first = await startProcess('first');
    await untilHeldBy('supervisor', first.pid);
    const log = await CommandLog.start(redisUrl());
    const looks = async (): Promise<(string | undefined)[]> =>
      (await log.mentioning(scripts.look.sha))
        .filter(({ args }) => args.includes(`${fleet.prefix}nf:supervisor`))
        .map(({ args }) => args.at(-1));
    await eventually('it waits for nobody', async () => (await looks()).at(-1) === '1');
    await fleet.start();
    const joinedAt = performance.now();
    await untilHeldBy('deputy', process.pid);
    const before = (await looks()).length;
    await eventually('it has heard of a look', async () => (await looks()).length > before + 1);
    log.close();
    first.kill('SIGKILL');
    await eventually('it is condemned', async () => {
      const sessions = await fleet.redis.hgetall(`${fleet.prefix}nf:processes`);
      return Object.values(sessions).includes('condemned');
    });
    expect(performance.now() - joinedAt).toBeLessThan(RETURN_GRACE_MS * 0.75);
  });

  it('has the office of a supervisor that is frozen when its lease has run out', async () => {
    const first = await startProcess('first');
    await untilHeldBy('supervisor', first.pid);
    const deputy = await fleet.start();
    await untilHeldBy('deputy', process.pid);
    first.kill('SIGSTOP');
    await eventually('it supervises', () => deputy.get(WorkerCoordinator).isSupervisor);
    first.kill('SIGCONT');
    await eventually('the other one has found out', async () => {
      expect(await holder('deputy')).toContain(`-${first.pid}-`);
    });
  });

  it('that is killed is followed by another one before its lease has run out', async () => {
    const supervisor = await fleet.start();
    await untilHeldBy('supervisor', process.pid);
    const first = await startProcess('first');
    await untilHeldBy('deputy', first.pid);
    const second = await startProcess('second');
    first.kill('SIGKILL');
    // It kept its office for five seconds within the last two; the others ask every two.
    await untilHeldBy('deputy', second.pid, 3_000);
    expect(supervisor.get(WorkerCoordinator).isSupervisor).toBe(true);
  });
});
