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
import {
  EnhancedFunctionRegistry,
  FunctionCircuits,
  NotificationManager,
  type CircuitOptions,
} from '../../src/index.js';
import { startRedis, type StartedRedis } from '../../tools/redis.mjs';
import { AclFleet } from '../harness/acl-fleet.js';
import { Fleet } from '../harness/apps.js';
import { codeOf } from '../harness/caught.js';
import { eventually } from '../harness/eventually.js';
import { hosting } from '../harness/host.js';

jest.setTimeout(60_000);

const QUICK: CircuitOptions = { minimumCalls: 4, openMs: 60_000 };

let server: StartedRedis;
let fleet: AclFleet;
let broken: boolean;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  fleet = await AclFleet.on(server);
  broken = false;
});
afterEach(async () => {
  await fleet.close();
  jest.restoreAllMocks();
});

const host = (): Promise<INestApplicationContext> =>
  fleet.start({
    providers: [
      hosting('work', () => {
        if (broken) throw new Error('broken');
        return 'done';
      }),
    ],
  });
const start = (options: object = {}): Promise<INestApplicationContext> =>
  fleet.start({ options: { worker: false, supervise: false, circuit: QUICK, ...options } });
const key = (name = 'circuit'): string => fleet.key('work', name);

async function callUntil(code: string, registry: EnhancedFunctionRegistry): Promise<void> {
  await eventually(
    `a call ends with ${code}`,
    async () => (await codeOf(registry.call('work', {}, { timeoutMs: 20_000 }))) === code,
    20_000,
  );
}

describe('a circuit without pub/sub', () => {
  it('is read while it is not closed, and by reports while it is', async () => {
    await host();
    const operator = (await start()).get(EnhancedFunctionRegistry).getCircuit('work');
    await fleet.takeAway('breaker', '+subscribe', '+subscribe circuit:state:*');
    const deaf = await fleet.startAs('breaker', [], { circuit: QUICK, pollIntervalMs: 50 });
    expect(deaf.get(NotificationManager).state).not.toBe('connected');
    const registry = deaf.get(EnhancedFunctionRegistry);
    await callUntil('none', registry);
    await operator.open('for all');
    await callUntil('CIRCUIT_OPEN', registry);
    await operator.close();
    await eventually('it is read', () => registry.getCircuit('work').state === 'closed');
    await callUntil('none', registry);
  });

  it('is read anew when the subscription comes back', async () => {
    await host();
    const operator = (await start()).get(EnhancedFunctionRegistry).getCircuit('work');
    const app = await start();
    const circuit = app.get(EnhancedFunctionRegistry).getCircuit('work');
    await circuit.refresh();
    await operator.open('for all');
    await eventually('it is heard', () => circuit.state === 'open');
    // While nobody hears it.
    const record = JSON.parse((await fleet.redis.get(key())) ?? '') as { generation: number };
    await fleet.redis.set(
      key(),
      JSON.stringify({ ...record, generation: record.generation + 5, state: 'closed' }),
    );
    expect(circuit.state).toBe('open');
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await eventually('it is read', () => circuit.state === 'closed', 4_000);
  });
});

describe('a circuit of a caller that may not share it', () => {
  it.each([
    ['a right that is missing', () => fleet.takeAway('breaker', '+get nf:{*}:circuit'), undefined],
    ['a key that holds something else', () => fleet.redis.hset(key(), 'a', '1'), key],
  ])('opens by itself, says so once, and is shared again: %s', async (_title, harm, wrong) => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    await host();
    await harm();
    const app = await fleet.startAs('breaker', [], { circuit: QUICK, pollIntervalMs: 50 });
    const registry = app.get(EnhancedFunctionRegistry);
    const seen: string[] = [];
    app.get(FunctionCircuits).on('alone', () => seen.push('alone'));
    app.get(FunctionCircuits).on('shared', () => seen.push('shared'));
    broken = true;
    await callUntil('CIRCUIT_OPEN', registry);
    const circuit = registry.getCircuit('work');
    expect([circuit.isShared, circuit.state]).toEqual([false, 'open']);
    await expect(circuit.close()).rejects.toMatchObject({ code: 'BACKEND_REFUSED' });
    const said = warn.mock.calls.filter(([text]) => String(text).includes('cannot be shared'));
    expect(said).toHaveLength(1);
    broken = false;
    if (wrong === undefined) await fleet.takeAway('breaker');
    else await fleet.redis.del(wrong());
    await eventually('it is shared again', () => circuit.isShared);
    await callUntil('none', registry);
    expect(seen.at(-1)).toBe('shared');
  });

  it('says so once, however often it may read it and not change it', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    await host();
    await fleet.takeAway('breaker', '+set nf:{*}:circuit');
    const app = await fleet.startAs('breaker', [], { circuit: QUICK, pollIntervalMs: 50 });
    let alone = 0;
    app.get(FunctionCircuits).on('alone', () => (alone += 1));
    broken = true;
    await eventually(
      'it is alone again and again',
      async () => {
        await codeOf(app.get(EnhancedFunctionRegistry).call('work'));
        return alone >= 3;
      },
      30_000,
    );
    const said = warn.mock.calls.filter(([text]) => String(text).includes('cannot be shared'));
    expect(said).toHaveLength(1);
  });
});

describe('a circuit of a Redis that goes away', () => {
  it('lets each caller decide meanwhile, and holds again when it is back with nothing', async () => {
    const own = await startRedis();
    const apps = new Fleet(own.url);
    try {
      await apps.start({ providers: [hosting('work', () => 'done')] });
      const app = await apps.start({
        options: { worker: false, circuit: QUICK, pollIntervalMs: 50 },
      });
      const registry = app.get(EnhancedFunctionRegistry);
      const circuit = registry.getCircuit('work');
      await circuit.open('held');
      await own.kill('SIGKILL');
      await eventually('it is alone', async () => {
        await circuit.refresh();
        return !circuit.isShared;
      });
      expect(await codeOf(registry.call('work'))).toBe('CIRCUIT_OPEN');
      await own.restart();
      await eventually('it is shared', () => circuit.isShared);
      expect([circuit.state, circuit.reason]).toEqual(['open', 'held']);
      const again = await apps.start({ options: { worker: false, circuit: QUICK } });
      expect(await codeOf(again.get(EnhancedFunctionRegistry).call('work'))).toBe('CIRCUIT_OPEN');
      await circuit.close();
      await callUntil('none', registry);
    } finally {
      await apps.close();
      await own.stop();
    }
  });

  it('is written back when Redis is emptied, also when its time is up then', async () => {
    await host();
    const app = await start();
    const registry = app.get(EnhancedFunctionRegistry);
    const circuit = registry.getCircuit('work');
    await circuit.open('x', 60_000);
    await fleet.redis.del(key());
    await circuit.refresh();
    expect(circuit.state).toBe('open');
    expect(await fleet.redis.get(key())).toContain('"open"');
    await circuit.open('x', 1);
    await fleet.redis.del(key());
    await callUntil('none', registry);
    expect(circuit.state).toBe('closed');
  });
});

describe('a circuit of fleets of several versions', () => {
  it('keeps what a later version added to it', async () => {
    const circuit = (await start()).get(EnhancedFunctionRegistry).getCircuit('work');
    await circuit.open('x');
    const record = JSON.parse((await fleet.redis.get(key())) ?? '') as object;
    await fleet.redis.set(key(), JSON.stringify({ ...record, later: { a: 1 } }));
    await circuit.close();
    expect(JSON.parse((await fleet.redis.get(key())) ?? '')).toMatchObject({
      state: 'closed',
      later: { a: 1 },
    });
  });

  it('is left alone in a state that this version does not know, until an operator changes it', async () => {
    await host();
    const text = '{"generation":5,"state":"throttled","since":1}';
    await fleet.redis.set(key(), text);
    const registry = (await start()).get(EnhancedFunctionRegistry);
    broken = true;
    for (let count = 0; count < 30; count += 1)
      expect(await codeOf(registry.call('work'))).toBe('HANDLER_FAILED');
    const circuit = registry.getCircuit('work');
    expect((await circuit.counts()).calls).toBe(0);
    expect(await fleet.redis.get(key())).toBe(text);
    await circuit.open('by hand');
    expect(await codeOf(registry.call('work'))).toBe('CIRCUIT_OPEN');
  });

  it('is begun anew where its key holds a text that is none', async () => {
    await fleet.redis.set(key(), '{"generation":1e400}');
    const circuit = (await start()).get(EnhancedFunctionRegistry).getCircuit('work');
    expect(await circuit.refresh()).toBe('closed');
    await circuit.open('x');
    expect(circuit.state).toBe('open');
  });

  it('drops, and counts, news that are none', async () => {
    const app = await start();
    const circuit = app.get(EnhancedFunctionRegistry).getCircuit('work');
    await circuit.refresh();
    const manager = app.get(NotificationManager);
    const channel = 'circuit:state:work:default';
    await eventually('it listens', () => manager.stats().channels > 0);
    for (const text of ['{', '{"pattern":"x","data":{"type":"circuit","state":"open"}}'])
      await fleet.redis.publish(fleet.prefix + channel, text);
    await eventually('both are dropped', () => manager.stats().dropped === 2);
    expect(circuit.state).toBe('closed');
  });
});
