import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  CircuitOpenError,
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionCircuits,
  FunctionsClientProxy,
  NotificationManager,
  type CircuitChange,
  type CircuitOptions,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { codeOf } from '../harness/caught.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';
import { MemoryFleet } from '../memory/memory-fleet.js';

/** Opens with four failed calls; long open, unless a test says otherwise. */
const QUICK: CircuitOptions = { minimumCalls: 4, openMs: 60_000 };

/** Fails, or not, as the test says. */
class Switch {
  broken = true;
  runs = 0;
  readonly host = hosting('work', ({ isBad }): string => {
    this.runs += 1;
    if (this.broken || isBad === true) throw new Error('broken');
    return 'done';
  });
}

const codesOf = async (registry: EnhancedFunctionRegistry, count: number): Promise<unknown[]> => {
  const codes = [];
  for (let index = 0; index < count; index += 1) codes.push(await codeOf(registry.call('work')));
  return codes;
};

/** Calls until they are refused: a circuit opens half a second after the first call at the earliest. */
async function callUntilOpen(...registries: EnhancedFunctionRegistry[]): Promise<void> {
  await Promise.all(
    registries.map((registry) =>
      eventually(
        'it is open',
        async () => (await codeOf(registry.call('work'))) === 'CIRCUIT_OPEN',
      ),
    ),
  );
}

const failed = (count: number): string[] => Array.from({ length: count }, () => 'HANDLER_FAILED');

describe.each([
  ['redis', () => new Fleet()],
  ['memory', () => new MemoryFleet()],
])('circuits of callers on %s', (_title, createFleet) => {
  let fleet: Fleet | MemoryFleet;
  let work: Switch;

  beforeEach(async () => {
    fleet = createFleet();
    work = new Switch();
    await fleet.start({ providers: [work.host] });
  });
  afterEach(() => fleet.close());

  const start = (circuit: boolean | CircuitOptions): Promise<INestApplicationContext> =>
    fleet.start({ options: { worker: false, supervise: false, circuit } });
  const caller = async (circuit: boolean | CircuitOptions = QUICK) =>
    (await start(circuit)).get(EnhancedFunctionRegistry);

  it('are off by default', async () => {
    const app = await fleet.start({ options: { worker: false } });
    const registry = app.get(EnhancedFunctionRegistry);
    expect(await codesOf(registry, 30)).toEqual(failed(30));
    expect(() => registry.getCircuit('work')).toThrow(/has no circuit.*circuit: true/);
  });

  it('open for all when the calls of a quorum fail', async () => {
    const [one, two, idle] = [await caller(), await caller(), await caller()];
    const seen: CircuitChange[] = [];
    idle.getCircuit('work').on('open', (change) => seen.push(change));
    await callUntilOpen(one, two);
    for (const registry of [one, two, idle])
      await eventually('it is open', () => registry.getCircuit('work').state === 'open');
    const { runs } = work;
    const error: unknown = await idle.call('work').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CircuitOpenError);
    const { retryAt, retryAfterMs, details, retryable } = error as CircuitOpenError;
    expect(details).toMatchObject({ functionName: 'work', state: 'open', reason: 'failure-rate' });
    expect(retryable).toBe(true);
    expect(retryAfterMs).toBeGreaterThan(50_000);
    expect(Math.abs((retryAt ?? 0) - Date.now() - 60_000)).toBeLessThan(5_000);
    expect(work.runs).toBe(runs);
    expect(seen).toMatchObject([{ from: 'closed', to: 'open', shared: true }]);
  });

  it('stay closed when one caller fails, and others do not', async () => {
    const [bad, good] = [await caller(), await caller()];
    work.broken = false;
    expect(await codesOf(good, 4)).toEqual(['none', 'none', 'none', 'none']);
    const own = (): Promise<unknown> => codeOf(bad.call('work', { isBad: true }));
    const since = performance.now();
    while (performance.now() - since < 1_000) expect(await own()).toBe('HANDLER_FAILED');
    const circuit = good.getCircuit('work');
    const { calls, failures, ...callers } = await circuit.counts();
    expect(failures / calls).toBeGreaterThan(0.5);
    expect(callers).toEqual({ callers: 2, failingCallers: 1 });
    expect(circuit.state).toBe('closed');
    expect(await codesOf(bad, 1)).toEqual(['none']);
  });

  it('open when calls are not answered in time, and not for what is the fault of the call', async () => {
    const stage = new Stage();
    const strict = { name: 'strict', parameters: [{ name: 'n', type: 'number' }] } as const;
    await fleet.start({
      options: { drainTimeoutMs: 50 },
      providers: [stage.as('slow'), hosting(strict, () => 'done'), stage.as('cancelled')],
    });
    const registry = await caller();
    await eventually('it is open', async () => {
      return (await codeOf(registry.call('slow', {}, { timeoutMs: 20 }))) === 'CIRCUIT_OPEN';
    });
    await registry.waitForFunction('strict', 'default');
    for (let count = 0; count < 10; count += 1) {
      expect(await codeOf(registry.call('strict', { n: 'x' }))).toBe('INVALID_PARAMETERS');
      const signal = AbortSignal.timeout(5);
      expect(await codeOf(registry.call('cancelled', {}, { signal }))).toBe('CALL_CANCELLED');
      const options = { ifUnavailable: 'fail' } as const;
      expect(await codeOf(registry.call('nobody', {}, options))).toBe('NO_WORKER');
    }
    for (const name of ['strict', 'cancelled', 'nobody'])
      expect((await registry.getCircuit(name).counts()).calls).toBe(0);
  });

  it('belong to the functions that the module lists, and those whose contract says so', async () => {
    const listed = await caller({
      enabled: false,
      functions: [{ functionName: 'work', minimumCalls: 4 }],
    });
    await callUntilOpen(listed);
    expect(() => listed.getCircuit('other')).toThrow(/has no circuit/);
    await listed.getCircuit('work').close();
    const contract = defineFunction({ name: 'work', circuit: { minimumCalls: 4 } });
    const plain = (await fleet.start({ options: { worker: false } })).get(EnhancedFunctionRegistry);
    expect(() => plain.getCircuit('work')).toThrow(/has no circuit/);
    await eventually(
      'it is open',
      async () => (await codeOf(plain.call(contract, {}))) === 'CIRCUIT_OPEN',
    );
    // From here on by name as well; and not where a contract says no.
    expect(await codeOf(plain.call('work'))).toBe('CIRCUIT_OPEN');
    const without = defineFunction({ name: 'work', circuit: false });
    expect(await codeOf(plain.call(without, {}))).toBe('HANDLER_FAILED');
    expect(() => defineFunction({ name: 'work', circuit: { openMs: 1 } })).toThrow(
      /openMs.*whole milliseconds from 10/,
    );
    expect(() => defineFunction({ name: 'work', circuit: { functions: [] } as never })).toThrow(
      /functions.*does not exist/,
    );
  });

  it('let one call of the fleet try again, and close for all when it succeeds', async () => {
    const callers = [
      await caller({ ...QUICK, openMs: 150 }),
      await caller(QUICK),
      await caller(QUICK),
    ];
    const [first] = callers as [EnhancedFunctionRegistry];
    for (const one of callers) one.getCircuit('work');
    await callUntilOpen(first);
    for (const one of callers)
      await eventually('it is open', () => one.getCircuit('work').state === 'open');
    work.broken = false;
    const before = work.runs;
    await eventually(
      'it is due',
      () => (first.getCircuit('work').retryAt ?? Infinity) < Date.now(),
    );
    const codes = await Promise.all(
      callers.flatMap((one) => [1, 2, 3].map(() => codeOf(one.call('work')))),
    );
    expect(codes.filter((code) => code === 'none')).toHaveLength(1);
    expect(codes.filter((code) => code === 'CIRCUIT_OPEN')).toHaveLength(8);
    expect(work.runs - before).toBe(1);
    for (const one of callers)
      await eventually('it is closed', () => one.getCircuit('work').state === 'closed');
    expect(await Promise.all(callers.map((one) => codeOf(one.call('work'))))).toEqual(
      callers.map(() => 'none'),
    );
  });

  it('open again when the call that tries fails, and the next one tries later', async () => {
    const registry = await caller({ ...QUICK, openMs: 100 });
    const circuit = registry.getCircuit('work');
    const changes: string[] = [];
    circuit.on('change', ({ from, to, reason }) => changes.push(`${from} ${to} ${reason ?? ''}`));
    await callUntilOpen(registry);
    await eventually(
      'the probe failed',
      async () => (await codeOf(registry.call('work'))) === 'HANDLER_FAILED',
    );
    expect(circuit.reason).toBe('probe-failed');
    work.broken = false;
    await eventually(
      'the next one succeeds',
      async () => (await codeOf(registry.call('work'))) === 'none',
    );
    expect(changes).toEqual([
      'closed open failure-rate',
      'open half-open failure-rate',
      'half-open open probe-failed',
      'open half-open probe-failed',
      'half-open closed ',
    ]);
  });

  it.each([
    ['runs', true],
    ['waits for a worker', false],
  ])(
    'are left for others to probe at once by a process that is closed while its probe %s',
    async (_title, isHosted) => {
      const stage = new Stage();
      if (isHosted)
        await fleet.start({ options: { drainTimeoutMs: 50 }, providers: [stage.as('slow')] });
      const leaving = await start(QUICK);
      const registry = leaving.get(EnhancedFunctionRegistry);
      const circuit = (await caller()).getCircuit('slow');
      await circuit.open('for a moment', 1);
      const calls: Promise<unknown>[] = [];
      await eventually('it probes', () => {
        calls.push(codeOf(registry.call('slow')));
        return isHosted ? stage.runs.length > 0 : circuit.state === 'half-open';
      });
      await fleet.stop(leaving);
      expect(new Set(await Promise.all(calls))).toEqual(new Set(['CIRCUIT_OPEN', 'CLOSED']));
      expect(await circuit.refresh()).toBe('open');
      expect(circuit.reason).toBe('for a moment');
    },
  );

  it('are opened, closed and reset by hand, for all', async () => {
    const [one, two] = [await caller(), await caller()];
    work.broken = false;
    const [mine, theirs] = [one.getCircuit('work'), two.getCircuit('work')];
    await theirs.refresh();
    await mine.open('the bank is down');
    await eventually('the other one knows', () => theirs.state === 'open');
    expect([theirs.reason, theirs.retryAt]).toEqual(['the bank is down', undefined]);
    const error: unknown = await two.call('work').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'CIRCUIT_OPEN', retryAt: undefined });
    expect((error as Error).message).toMatch(/the bank is down.*opened by hand/);
    await theirs.close();
    await eventually('the first one knows', () => mine.state === 'closed');
    expect(await codesOf(one, 1)).toEqual(['none']);
    await mine.open('for a moment', 50);
    await eventually('the other one knows', () => theirs.state === 'open');
    await eventually('a call tries', async () => (await codeOf(two.call('work'))) === 'none');
    await eventually('both know', () => mine.state === 'closed');
    work.broken = true;
    await codesOf(one, 3);
    expect((await mine.counts()).failures).toBe(3);
    await mine.reset();
    expect((await mine.counts()).calls).toBe(0);
    await codesOf(one, 3);
    expect(mine.state).toBe('closed');
    await expect(mine.open('')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(mine.open('x', 0)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('are gone through by every way to call', async () => {
    const app = await start(QUICK);
    const registry = app.get(EnhancedFunctionRegistry);
    await registry.getCircuit('work').open('closed for today');
    const outcome = await registry.callFunctionWithInstantReadiness('work', 'default');
    expect(outcome).toMatchObject({ success: false, error: { code: 'CIRCUIT_OPEN' } });
    const polled = await registry.callFunction('work', 'default');
    expect(polled).toMatchObject({
      success: false,
      error: { code: 'CIRCUIT_OPEN', retryable: true },
    });
    const sent = await new Promise((resolve) =>
      app.get(FunctionsClientProxy).send('work', {}).subscribe({ error: resolve }),
    );
    expect(sent).toMatchObject({ code: 'CIRCUIT_OPEN' });
    expect(work.runs).toBe(0);
  });

  it('tell their changes as Nest packets, checked, and as events of all', async () => {
    const app = await start(QUICK);
    const heard: unknown[] = [];
    await app
      .get(NotificationManager)
      .subscribe('circuit:state:work:default', ({ data }) => heard.push(data));
    const [events, observed]: [CircuitChange[], CircuitChange[]] = [[], []];
    const circuits = app.get(FunctionCircuits);
    circuits.on('closed', (change) => events.push(change));
    const subscription = circuits.changes().subscribe((change) => observed.push(change));
    const circuit = app.get(EnhancedFunctionRegistry).getCircuit('work');
    await circuit.open('news');
    await circuit.close();
    await eventually('both are heard', () => heard.length === 2);
    expect(heard).toMatchObject([
      {
        type: 'circuit',
        functionName: 'work',
        workflowId: 'default',
        state: 'open',
        reason: 'news',
      },
      { type: 'circuit', state: 'closed' },
    ]);
    expect(events).toMatchObject([{ from: 'open', to: 'closed' }]);
    expect(observed.map(({ to }) => to)).toEqual(['open', 'closed']);
    subscription.unsubscribe();
  });
});
