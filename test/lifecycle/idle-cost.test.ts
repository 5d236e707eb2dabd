import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { parseCommandStats } from '../../bench/stage/command-count.js';
import { WorkerCoordinator } from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

jest.setTimeout(60_000);

/** Four of them are one lease: what is done once per lease is counted twice. */
const HEARTBEATS = 8;
const MOST_PER_SECOND = 5;

// Its own: all of its commands are counted.
let server: StartedRedis;
let fleet: Fleet;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
afterEach(() => fleet.close());

interface Idle {
  readonly perSecond: number;
  readonly byName: Readonly<Record<string, number>>;
}

/** Commands that Redis has executed, those inside scripts too, by name. */
async function executed(): Promise<Map<string, number>> {
  const calls = parseCommandStats(await fleet.redis.info('commandstats'));
  // The question itself.
  calls.delete('info');
  return calls;
}

/** Two sessions that hold the offices and do nothing: what is counted is an idle process's own. */
async function occupyOffices(): Promise<void> {
  for (const office of ['supervisor', 'deputy'])
    await fleet.redis.set(`${fleet.prefix}nf:${office}`, `another ${office}`, 'PX', 600_000);
}

/** Resolves in the moment after a heartbeat. */
async function nextHeartbeat(app: INestApplicationContext): Promise<void> {
  const coordinator = app.get(WorkerCoordinator);
  let before = coordinator.sinceBeatMs;
  await eventually('a heartbeat', () => {
    const since = coordinator.sinceBeatMs;
    const beaten = since < before;
    before = since;
    return beaten;
  });
}

/** What a process that hosts so many functions asks of Redis while nothing happens. */
async function countIdle(functions: number): Promise<Idle> {
  fleet = new Fleet(server.url);
  await occupyOffices();
  const names = Array.from({ length: functions }, (_, index) => `f${index}`);
  const app = await fleet.start({ providers: names.map((name) => hosting(name, () => name)) });
  // What the start has left to do is done by then.
  for (let beat = 0; beat < 2; beat += 1) await nextHeartbeat(app);
  const before = await executed();
  const startedAt = performance.now();
  for (let beat = 0; beat < HEARTBEATS; beat += 1) await nextHeartbeat(app);
  const seconds = (performance.now() - startedAt) / 1_000;
  const counts = [...(await executed())]
    .map(([name, calls]) => [name, calls - (before.get(name) ?? 0)] as const)
    .filter(([, calls]) => calls > 0);
  expect(app.get(WorkerCoordinator).isSupervisor).toBe(false);
  const total = counts.reduce((sum, [, calls]) => sum + calls, 0);
  return { perSecond: total / seconds, byName: Object.fromEntries(counts) };
}

describe('an idle process', () => {
  it.each([1, 1_000])(
    'that hosts %d function(s) costs Redis at most five commands a second, those in scripts counted',
    async (functions) => {
      const { perSecond, byName } = await countIdle(functions);
      // What is too much is shown by its names.
      expect(perSecond > MOST_PER_SECOND ? { perSecond, ...byName } : {}).toEqual({});
    },
  );
});
