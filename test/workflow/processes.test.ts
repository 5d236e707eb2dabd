import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  WorkflowNotifier,
  type WorkflowNotification,
} from '../../src/index.js';
import type { Backend } from '../../src/backend/backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import { functionRef } from '../../src/protocol/function-ref.js';
import { LEAD_LEASE_MS } from '../../src/workflow/restart-lead.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { TestProcess } from '../harness/processes.js';
import { hosting } from '../harness/host.js';
import { callInGroups, type SeenGroup } from './groups.js';

// Processes are started and end in them, on machines that do other things too.
jest.setTimeout(90_000);

let fleet: Fleet;
let app: INestApplicationContext;
let registry: EnhancedFunctionRegistry;
let processes: TestProcess[];
let endCalls: () => void;

beforeEach(async () => {
  fleet = new Fleet();
  processes = [];
  endCalls = () => undefined;
  app = await fleet.start({ options: { worker: false } });
  registry = app.get(EnhancedFunctionRegistry);
});
afterEach(async () => {
  // Where a test failed they would go on, and fail, without a pause.
  endCalls();
  await Promise.all(processes.map((process) => process.destroy()));
  await fleet.close();
});

function start(file: string, env: Record<string, string> = {}): TestProcess {
  const started = TestProcess.start(file, {
    REDIS_URL: redisUrl(),
    KEY_PREFIX: fleet.prefix,
    ...env,
  });
  processes.push(started);
  return started;
}

async function startWorkers(
  ids: readonly string[],
  env: Record<string, string> = {},
): Promise<TestProcess[]> {
  const workers = ids.map((id) => start('workflow-worker.ts', { ...env, WORKER_ID: id }));
  await Promise.all(workers.map((worker) => worker.message('ready', 60_000)));
  return workers;
}

interface Answer {
  readonly workerId: string;
  readonly version: unknown;
}

/** Calls both functions all the time, until it is ended: what came of every call. */
function callAllTheTime(): { answered(): number; end(): Promise<Answer[]> } {
  let ended = false;
  let answered = 0;
  const answers: Promise<Answer>[] = [];
  endCalls = () => (ended = true);
  const done = (async () => {
    while (!ended) {
      const pair = [
        registry.call<Answer>('a', { ms: 5 }, { workflowId: 'flow' }),
        registry.call<Answer>('b', {}, { workflowId: 'flow' }),
      ];
      answers.push(...pair);
      answered += (await Promise.allSettled(pair)).length;
    }
  })();
  return {
    answered: () => answered,
    end: async () => {
      ended = true;
      await done;
      return Promise.all(answers);
    },
  };
}

/** Calls are answered from here on, too. */
async function goOn(calls: { answered(): number }): Promise<void> {
  const before = calls.answered();
  await eventually('calls are answered', () => calls.answered() > before + 4, 15_000);
}

const leadKey = (): string => `${fleet.prefix}nf:workflow:{flow}:restart`;

const healthy = async (): Promise<number> => {
  const { workers } = await app.get<Backend>(BACKEND).workers.snapshot(functionRef('a', 'flow'));
  return workers.filter(({ status }) => status === 'ready').length;
};

/** The process whose turn it is, and which waits for `go`. */
const firstLoading = (workers: readonly TestProcess[]): Promise<TestProcess> =>
  eventually('one loads', () => {
    const found = workers.find((worker) => worker.all('reloading').length > 0);
    if (found === undefined) throw new Error('none does');
    return found;
  });

describe('a restart of several processes', () => {
  it('loses no call, and afterwards all have loaded the save', async () => {
    await startWorkers(['w1', 'w2', 'w3']);
    await registry.waitForWorkflow('flow');
    const calls = callAllTheTime();
    await goOn(calls);
    await app.get(WorkflowNotifier).notifySaved('flow', 'v2');
    const { restarted } = await registry.coordinateRestart('flow');
    expect(restarted).toHaveLength(3);
    await goOn(calls);
    const answers = await calls.end();
    const after = await registry.call<Answer>('a', {}, { workflowId: 'flow' });
    expect(after.version).toBe('v2');
    const versions = new Set(answers.map(({ version }) => version));
    expect([...versions].every((version) => version === null || version === 'v2')).toBe(true);
  });

  it('that end, as under Kubernetes, waits for as many that are started in their place', async () => {
    const first = await startWorkers(['w1', 'w2'], { RESTART: 'exit' });
    await registry.waitForWorkflow('flow');
    const calls = callAllTheTime();
    await goOn(calls);
    await app.get(WorkflowNotifier).notifySaved('flow', 'v2');
    const replaced: string[] = [];
    const restart = registry.coordinateRestart('flow');
    for (const [index, worker] of first.entries()) {
      // What an orchestrator does.
      void worker.exit(60_000).then(({ code }) => {
        replaced.push(`${index}: ${code}`);
        return startWorkers([`new-${index}`]);
      });
    }
    expect((await restart).restarted).toHaveLength(2);
    await goOn(calls);
    await calls.end();
    expect(replaced.map((text) => text.slice(3))).toEqual(['0', '0']);
    const workers = new Set<string>();
    await eventually('both new ones answer', async () => {
      workers.add((await registry.call<Answer>('b', {}, { workflowId: 'flow' })).workerId);
      return workers.size === 2;
    });
    expect([...workers].sort()).toEqual(['new-0', 'new-1']);
  });

  it('whose leader is killed in the middle ends cleanly, and another one does the rest', async () => {
    const workers = await startWorkers(['w1', 'w2', 'w3'], { HELD: '1' });
    await app.get(WorkflowNotifier).notifySaved('flow', 'v2');
    const leader = start('workflow-leader.ts');
    await leader.message('restarting', 60_000);
    const loading = await firstLoading(workers);
    await expect(registry.coordinateRestart('flow')).rejects.toMatchObject({
      code: 'RESTART_IN_PROGRESS',
    });
    leader.kill('SIGKILL');
    loading.send({ type: 'go' });
    await eventually('the one that loaded is back', async () => (await healthy()) === 3);
    // The others were left alone.
    expect(workers.map((worker) => worker.all('reloading').length).sort()).toEqual([0, 0, 1]);
    const others = workers.filter((worker) => worker !== loading);
    for (const worker of others)
      void worker.message('reloading', 60_000).then(() => worker.send({ type: 'go' }));
    // Its death is seen long before its lease is over.
    const report = await eventually(
      'the lead is free',
      () => registry.coordinateRestart('flow', { only: 'outdated' }),
      LEAD_LEASE_MS / 2,
    );
    expect(report.restarted).toHaveLength(2);
    expect(workers.map((worker) => worker.all('reloading').length)).toEqual([1, 1, 1]);
  });

  it('goes on when a process is killed while it loads, and another is started', async () => {
    const workers = await startWorkers(['w1', 'w2'], { HELD: '1' });
    const restart = registry.coordinateRestart('flow', { timeoutMs: 60_000 });
    const loading = await firstLoading(workers);
    const other = workers.find((worker) => worker !== loading) as TestProcess;
    void other.message('reloading', 60_000).then(() => other.send({ type: 'go' }));
    loading.kill('SIGKILL');
    await startWorkers(['w3']);
    expect((await restart).restarted).toHaveLength(2);
    expect(await healthy()).toBe(2);
  });

  it('stops when a process that was killed does not come back, names it, and leaves the others alone', async () => {
    const workers = await startWorkers(['w1', 'w2', 'w3'], { HELD: '1' });
    const restart = registry
      .coordinateRestart('flow', { timeoutMs: 3_000 })
      .catch((e: unknown) => e);
    const loading = await firstLoading(workers);
    loading.kill('SIGKILL');
    const error = await restart;
    expect(error).toMatchObject({ code: 'RESTART_FAILED' });
    expect(String(error)).toMatch(/process \S+: [ab] did not have its workers back within 3000 ms/);
    const others = workers.filter((worker) => worker !== loading);
    expect(others.map((worker) => worker.all('reloading').length)).toEqual([0, 0]);
    expect(await healthy()).toBe(2);
    await registry.call('a', {}, { workflowId: 'flow' });
    // Nobody leads it any more.
    expect(await fleet.keys()).not.toContain(leadKey());
  });
});

interface Led {
  readonly type: 'led';
  readonly failed?: string;
  readonly report?: { restarted: string[]; handedOver: boolean };
}

/** What an orchestrator does: each process that ends is started once more. Resolves with how they ended. */
function replaceAll(workers: readonly TestProcess[]): Promise<(number | null)[]> {
  return Promise.all(
    workers.map(async (worker, index) => {
      const { code } = await worker.exit(60_000);
      await startWorkers([`new-${index}`], { RESTART: 'exit' });
      return code;
    }),
  );
}

describe("a restart that a worker with restart: 'exit' leads", () => {
  const told: WorkflowNotification[] = [];
  const hear = async (): Promise<void> => {
    told.length = 0;
    const notifier = app.get(WorkflowNotifier);
    for (const type of ['restarting', 'ready'] as const)
      await notifier.listen(type, 'flow', (news) => told.push(news));
  };

  it('is carried to its end by another process, and who waits for it hears that', async () => {
    await hear();
    const first = await startWorkers(['w1', 'w2', 'w3'], { RESTART: 'exit' });
    await registry.waitForWorkflow('flow');
    await app.get(WorkflowNotifier).notifySaved('flow', 'v2');
    const calls = callAllTheTime();
    await goOn(calls);
    const replaced = replaceAll(first);
    first[1]?.send({ type: 'lead' });
    const { failed, report } = await (first[1] as TestProcess).message<Led>('led', 60_000);
    expect(failed).toBeUndefined();
    expect(report).toMatchObject({ handedOver: true, restarted: { length: 2 } });
    await eventually('its end is told', () => told.length === 2, 60_000);
    // All of them are back by then, and the calls went on.
    expect(await healthy()).toBe(3);
    const versions = await Promise.all(
      [1, 2, 3].map(() => registry.call<Answer>('a', {}, { workflowId: 'flow' })),
    );
    expect(versions.map(({ version }) => version)).toEqual(['v2', 'v2', 'v2']);
    await goOn(calls);
    await calls.end();
    expect(await replaced).toEqual([0, 0, 0]);
    expect(told.map(({ type }) => type)).toEqual(['restarting', 'ready']);
    expect(told[1]?.details).toEqual(told[0]?.details);
    await eventually('nobody leads it', async () => !(await fleet.keys()).includes(leadKey()));
  });

  it('is carried to its end by the process that is started in its place, where no other takes it', async () => {
    await hear();
    const other = await fleet.start({
      options: { workerId: 'other' },
      providers: ['a', 'b'].map((name) => hosting({ name, workflowId: 'flow' }, () => 'other')),
    });
    // As one of an older version of this library.
    const { workflows } = other.get<Backend>(BACKEND);
    const taking = jest.spyOn(workflows, 'takeRestart').mockResolvedValue(undefined);
    const [first] = (await startWorkers(['w1'], { RESTART: 'exit' })) as [TestProcess];
    first.send({ type: 'lead' });
    const { report } = await first.message<Led>('led', 60_000);
    expect(report).toMatchObject({ handedOver: true, restarted: { length: 1 } });
    expect(await replaceAll([first])).toEqual([0]);
    await eventually('its end is told', () => told.length === 2, 15_000);
    expect(told[1]).toMatchObject({ type: 'ready', details: { processes: 2 } });
    expect(taking).toHaveBeenCalled();
  });

  it('is carried to its end by the process that is started in its place, where no other is left', async () => {
    await hear();
    const [only] = (await startWorkers(['w1'], { RESTART: 'exit' })) as [TestProcess];
    only.send({ type: 'lead', options: { allowInterruption: true } });
    const { report } = await only.message<Led>('led', 60_000);
    expect(report).toMatchObject({ handedOver: true, restarted: [] });
    // It is not done yet, and nobody begins another one meanwhile.
    await expect(registry.coordinateRestart('flow')).rejects.toMatchObject({
      code: 'RESTART_IN_PROGRESS',
    });
    expect(await replaceAll([only])).toEqual([0]);
    await eventually('its end is told', () => told.length === 2, 15_000);
    expect(told.map(({ type }) => type)).toEqual(['restarting', 'ready']);
    expect(told[1]?.details).toMatchObject({ processes: 1 });
    await eventually('nobody leads it', async () => !(await fleet.keys()).includes(leadKey()));
  });
});

describe('saves of two functions', () => {
  it('are one step each to callers of several processes, also when a worker is killed meanwhile', async () => {
    const workers = await startWorkers(['w1', 'w2', 'w3']);
    await registry.waitForWorkflow('flow');
    const caller = start('workflow-caller.ts');
    await caller.message('ready', 60_000);
    const mine = callInGroups(registry);
    const versions = new Map<number, unknown>([[0, null]]);
    const whole = (generation: number): boolean =>
      mine.seen.some((group) => group.generation === generation && group.versions.length === 4);
    await eventually('a group has seen what was before', () => whole(0), 15_000);
    let replaced: Promise<unknown> = Promise.resolve();
    for (const version of ['v2', 'v3']) {
      const { generation } = await app.get(WorkflowNotifier).notifySaved('flow', version);
      versions.set(generation, version);
      await registry.coordinateRestart('flow', {
        onProgress: ({ phase, done }) => {
          if (version !== 'v2' || phase !== 'ready' || done !== 1) return;
          workers[2]?.kill('SIGKILL');
          replaced = startWorkers(['w4']);
        },
      });
      await eventually('a group has seen it', () => whole(generation), 15_000);
    }
    await replaced;
    await mine.end();
    caller.send({ type: 'end' });
    const { groups } = await caller.message<{ type: 'seen'; groups: SeenGroup[] }>('seen', 60_000);
    for (const seen of [mine.seen, groups]) {
      expect(new Set(seen.map(({ generation }) => generation))).toEqual(new Set(versions.keys()));
      for (const group of seen)
        expect(new Set([versions.get(group.generation), ...group.versions])).toHaveProperty(
          'size',
          1,
        );
      const failures = new Set(seen.flatMap((group) => group.failures));
      expect([...failures].filter((code) => code !== 'GENERATION_GONE')).toEqual([]);
    }
  });
});
