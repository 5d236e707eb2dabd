import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { CLOCK } from '../../src/backend/tokens.js';
import { systemClock, type Clock } from '../../src/common/clock.js';
import { EnhancedFunctionRegistry, FunctionsMetrics } from '../../src/index.js';
import { ALL } from '../../src/metrics/listeners.js';
import { MetricsEngine } from '../../src/metrics/metrics-engine.js';
import { Fleet } from '../harness/apps.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

jest.setTimeout(60_000);

let fleet: Fleet;

beforeEach(() => {
  fleet = new Fleet();
});
afterEach(() => fleet.close());

const isHeard = (app: INestApplicationContext): boolean =>
  app.get(MetricsEngine).listeners.isAnyHeard(app.get<Clock>(CLOCK).elapsed());

/** Calls without a pause. */
function calling(app: INestApplicationContext): { end: () => Promise<void> } {
  let isOver = false;
  const calls = (async () => {
    while (!isOver) await app.get(EnhancedFunctionRegistry).call('work');
  })();
  return {
    end: () => {
      isOver = true;
      return calls;
    },
  };
}

describe('a look now and then', () => {
  it('has everybody and the rates, each time, however the seconds of those who still measure fall', async () => {
    const worker = await fleet.start({ providers: [hosting('work', () => 1)] });
    const caller = await fleet.start({ options: { worker: false } });
    const observer = await fleet.start({ options: { worker: false } });
    const calls = calling(caller);
    for (let look = 1; look <= 4; look += 1) {
      const { functions } = await observer.get(FunctionsMetrics).snapshot();
      const [work] = functions;
      expect({ look, processes: work?.processes.length }).toEqual({ look, processes: 2 });
      expect(work?.runsPerSecond).toBeGreaterThan(0);
      expect(work?.callsPerSecond).toBeGreaterThan(0);
      await eventually(
        'nobody is heard to listen',
        () => ![worker, caller, observer].some(isHeard),
      );
    }
    await calls.end();
  });

  it('is known where it listens before anything is said of it', async () => {
    const app = await fleet.start({ options: { worker: false } });
    const stop = app.get(MetricsEngine).listen(ALL);
    expect(isHeard(app)).toBe(true);
    stop();
  });

  it('is told of at once, also when others began in the same moment', async () => {
    const [app, other] = await Promise.all(
      [1, 2].map(() => fleet.start({ options: { worker: false } })),
    );
    const engines = [app, other].map((one) => (one as INestApplicationContext).get(MetricsEngine));
    const [own, far] = engines as [MetricsEngine, MetricsEngine];
    const ids = ['a:x', 'b:x'];
    const stops = ids.map((id) => own.listen(id));
    const isKnown = (id: string): boolean => far.listeners.isHeard(id, systemClock.elapsed());
    await eventually('both are known elsewhere', () => ids.every(isKnown), 700);
    for (const stop of stops) stop();
  });

  it('has everybody within 700 ms, the one who looks included, whoever looked before', async () => {
    const observer = await fleet.start({ options: { worker: false } });
    const workers = await Promise.all(
      [1, 2].map(() => fleet.start({ providers: [hosting('work', () => 1)] })),
    );
    const metrics = workers.map((worker) => worker.get(FunctionsMetrics));
    const seenBy = async (looking: FunctionsMetrics | undefined): Promise<number | undefined> => {
      await observer.get(FunctionsMetrics).snapshot({ measureMs: 0 });
      await eventually('they heard of it', () => workers.every(isHeard));
      const asked = { functionName: 'work', measureMs: 700 };
      const { functions } = (await looking?.snapshot(asked)) ?? { functions: [] };
      await eventually('nobody is heard to listen', () => ![...workers, observer].some(isHeard));
      return functions[0]?.processes.length;
    };
    for (let look = 1; look <= 4; look += 1) {
      const seen: (number | undefined)[] = [];
      // A busy machine may be late: once, and not each time.
      for (let time = 1; time <= 3 && seen.at(-1) !== 2; time += 1)
        seen.push(await seenBy(metrics[look % 2]));
      expect({ look, seen: seen.at(-1) }).toEqual({ look, seen: 2 });
    }
  });
});
