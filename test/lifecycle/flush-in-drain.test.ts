import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { WorkerCoordinator } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { GatedBackend, type HeldCall } from '../harness/gated-backend.js';
import { Stage } from '../harness/host.js';

// Its own: it is emptied.
let server: StartedRedis;
let fleet: Fleet;
let app: INestApplicationContext;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(async () => {
  await app.close();
  await fleet.close();
});

const calls = (): string => `${fleet.prefix}nf:{work:default}:calls`;

/** A call that a hand wrote: nobody writes it again. */
async function submit(callId: string): Promise<void> {
  await fleet.redis.xadd(calls(), '*', 'c', `1 60000   ${callId}\t{"p":{},"i":null}`);
}

/** Redis was emptied, and the process does not know: it reads on under a name that nobody has listed. */
async function emptiedUnnoticed(stage: Stage, concurrency: number): Promise<HeldCall> {
  fleet = new Fleet(server.url);
  const gated = new GatedBackend();
  const options = { keyPrefix: fleet.prefix, leaseMs: 20_000, drainTimeoutMs: 300 };
  const providers = [stage.as({ name: 'work', concurrency })];
  app = await gated.start(server.url, options, providers);
  const beat = gated.hold('workers.heartbeat', 'before');
  await fleet.redis.flushall();
  await beat.reached;
  await eventually('its group is there again', async () => {
    expect(await fleet.redis.xinfo('GROUPS', calls())).toHaveLength(1);
  });
  return beat;
}

async function expectNothingHeld(): Promise<void> {
  expect(await fleet.redis.xinfo('CONSUMERS', calls(), 'workers')).toEqual([]);
  expect(await fleet.redis.xpending(calls(), 'workers')).toContain(0);
}

describe('a drain in which a process finds out that Redis was emptied', () => {
  it('settles what finishes, and leaves no consumer behind', async () => {
    const stage = new Stage();
    const beat = await emptiedUnnoticed(stage, 10);
    await submit('runs');
    const { outcome } = await stage.started();
    const lost = lossOf(app);
    const drained = app.get(WorkerCoordinator).drain();
    beat.release();
    await lost;
    outcome.resolve('done');
    await expect(drained).resolves.toMatchObject({ handedBack: 0 });
    expect(await fleet.redis.xlen(calls())).toBe(0);
    await expectNothingHeld();
  });

  it('hands back what does not finish, and it runs elsewhere', async () => {
    const stage = new Stage();
    const beat = await emptiedUnnoticed(stage, 10);
    await submit('late');
    await stage.started();
    const lost = lossOf(app);
    const drained = app.get(WorkerCoordinator).drain();
    beat.release();
    await lost;
    await expect(drained).resolves.toEqual({ finished: 0, handedBack: 1 });
    await expectNothingHeld();
    const other = new Stage();
    await fleet.start({ providers: [other.as('work')] });
    const run = await other.started();
    expect([run.callId, run.context.attempt]).toEqual(['late', 1]);
    other.finishAll();
    stage.finishAll();
  });

  it('hands back what it was given and never saw, as a first attempt', async () => {
    const stage = new Stage();
    const beat = await emptiedUnnoticed(stage, 1);
    await submit('runs');
    await stage.started();
    await submit('unseen');
    // An answer that was lost on its way: it has no place, and reads nothing itself.
    const [consumer = []] = (await fleet.redis.xinfo(
      'CONSUMERS',
      calls(),
      'workers',
    )) as string[][];
    const name = consumer[1] ?? '';
    await fleet.redis.xreadgroup('GROUP', 'workers', name, 'STREAMS', calls(), '>');
    const lost = lossOf(app);
    const drained = app.get(WorkerCoordinator).drain();
    beat.release();
    await lost;
    stage.finishAll();
    await drained;
    await expectNothingHeld();
    const other = new Stage();
    await fleet.start({ providers: [other.as('work')] });
    const run = await other.started();
    expect([run.callId, run.context.attempt]).toEqual(['unseen', 1]);
    other.finishAll();
  });

  it('also when it finds out just before', async () => {
    const stage = new Stage();
    const beat = await emptiedUnnoticed(stage, 10);
    await submit('late');
    await stage.started();
    const lost = lossOf(app);
    beat.release();
    await lost;
    const drained = app.get(WorkerCoordinator).drain();
    await expect(drained).resolves.toEqual({ finished: 0, handedBack: 1 });
    await eventually('nothing is held', expectNothingHeld);
    stage.finishAll();
  });
});

/** Resolves when the loss is known, and nothing was done about it yet. */
function lossOf(of: INestApplicationContext): Promise<void> {
  return new Promise((resolve) => {
    of.get(WorkerCoordinator).on('lost', () => resolve());
  });
}
