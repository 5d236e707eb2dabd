import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { CircuitOptions } from '../../src/index.js';
import { Fleet, redisUrl } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { TestProcess } from '../harness/processes.js';

jest.setTimeout(90_000);

interface Change {
  readonly type: string;
  readonly at: number;
}

const QUICK: CircuitOptions = { minimumCalls: 10, openMs: 500 };
const LEASE_MS = 900;

/** Callers that are processes of their own, on the Redis of this test run. */
describe('callers in processes of their own', () => {
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

  async function start(count: number, circuit: boolean | CircuitOptions): Promise<TestProcess[]> {
    const env = {
      REDIS_URL: redisUrl(),
      KEY_PREFIX: fleet.prefix,
      CIRCUIT: JSON.stringify(circuit),
      LEASE_MS: String(LEASE_MS),
    };
    const started = Array.from({ length: count }, () =>
      TestProcess.start('circuit-caller.ts', env),
    );
    processes.push(...started);
    await Promise.all(started.map((process) => process.message('ready', 60_000)));
    return started;
  }

  const heard = (process: TestProcess, type: string): Change[] => process.all<Change>(type);
  const until = (process: TestProcess, type: string, count: number): Promise<Change> =>
    eventually(
      `${type} of process ${process.pid}`,
      () => {
        const found = heard(process, type)[count - 1];
        if (found === undefined) throw new Error(process.output);
        return found;
      },
      30_000,
    );
  const results = async (process: TestProcess): Promise<Record<string, number>> => {
    process.send({ type: 'stop' });
    return (await process.message<{ type: string; results: Record<string, number> }>('results'))
      .results;
  };

  it('all stop within milliseconds, one of them tries, and all go on', async () => {
    let broken = true;
    let runs = 0;
    await fleet.start({
      providers: [
        hosting('work', () => {
          runs += 1;
          if (broken) throw new Error('broken');
        }),
      ],
    });
    const callers = await start(3, QUICK);
    for (const caller of callers) caller.send({ type: 'calls', everyMs: 5 });
    await Promise.all(callers.map((caller) => until(caller, 'open', 1)));
    const before = runs;
    await Promise.all(callers.map((caller) => until(caller, 'half-open', 2)));
    // Between two probes nobody calls: each round costs the function one call, not one per caller.
    const probes = Math.max(...callers.map((caller) => heard(caller, 'half-open').length));
    expect(runs - before).toBeLessThanOrEqual(probes + 20);
    const calm = runs;
    await Promise.all(callers.map((caller) => until(caller, 'half-open', 5)));
    const later = Math.max(...callers.map((caller) => heard(caller, 'half-open').length));
    expect(runs - calm).toBeLessThanOrEqual(later - probes + 1);
    broken = false;
    await Promise.all(callers.map((caller) => until(caller, 'closed', 1)));
    for (const caller of callers)
      await eventually('it calls', () => caller.all('called OK').length > 5);
    for (const caller of callers) {
      const { CIRCUIT_OPEN = 0, OK = 0 } = await results(caller);
      expect(CIRCUIT_OPEN).toBeGreaterThan(10);
      expect(OK).toBeGreaterThan(0);
    }
  });

  it('stop within milliseconds of an opening: median and maximum are told', async () => {
    const callers = await start(4, QUICK);
    const [first, ...others] = callers as [TestProcess, ...TestProcess[]];
    const delays: number[] = [];
    for (let round = 1; round <= 25; round += 1) {
      first.send({ type: 'open' });
      const opened = await Promise.all(callers.map((caller) => until(caller, 'open', round)));
      const [own, ...theirs] = opened.map(({ at }) => at) as [number, ...number[]];
      // Who opens it learns by the answer to its command, others by the news, which may be sooner.
      delays.push(...theirs.map((at) => Math.abs(at - own)));
      first.send({ type: 'close' });
      await Promise.all(callers.map((caller) => until(caller, 'closed', round)));
    }
    expect(delays).toHaveLength(25 * others.length);
    delays.sort((a, b) => a - b);
    const [median = Infinity, max = Infinity] = [delays[delays.length >> 1], delays.at(-1)];
    process.stdout.write(
      `open -> others refuse: p50 ${median.toFixed(2)} ms, max ${max.toFixed(1)} ms\n`,
    );
    expect(median).toBeLessThan(50);
  });

  it('take over the probe of one that is killed with it', async () => {
    const stage = new Stage();
    await fleet.start({ providers: [stage.as('work')] });
    const [prober, other] = (await start(2, QUICK)) as [TestProcess, TestProcess];
    const stored = async (): Promise<{ state: string; prober?: string }> =>
      JSON.parse(
        (await fleet.redis.get(`${fleet.prefix}nf:{work:default}:circuit`)) ?? '',
      ) as never;
    // The record says whose the probe is before its call is written: what counts is that it runs.
    const probes = (one: TestProcess, runs: number): Promise<unknown> =>
      eventually('it probes', () => {
        one.send({ type: 'call' });
        return stage.runs.length === runs;
      });
    prober.send({ type: 'open', forMs: 1 });
    await Promise.all([prober, other].map((one) => until(one, 'open', 1)));
    await probes(prober, 1);
    const before = await stored();
    expect(before.state).toBe('half-open');
    await until(other, 'half-open', 1);
    prober.kill('SIGKILL');
    await probes(other, 2);
    const { state, prober: second } = await stored();
    expect(state).toBe('half-open');
    expect(second).not.toBe(before.prober);
    expect(other.all('called CIRCUIT_OPEN').length).toBeGreaterThan(0);
    stage.finishAll();
    await until(other, 'closed', 1);
    expect(stage.runs).toHaveLength(2);
  });

  it('load the breaker with a circuit, and never without one', async () => {
    const [without] = (await start(1, false)) as [TestProcess];
    const [having] = (await start(1, QUICK)) as [TestProcess];
    for (const [process, breaker] of [
      [without, false],
      [having, true],
    ] as const) {
      process.send({ type: 'loaded' });
      await expect(process.message('files')).resolves.toEqual({ type: 'files', breaker });
    }
  });
});
