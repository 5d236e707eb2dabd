import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, type FunctionsOptions } from '../../src/index.js';
import { CallConsumer } from '../../src/execution/worker/call-consumer.js';
import { Fleet, redisUrl, rootModule } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { eventually } from '../harness/eventually.js';
import { hosting, Stage } from '../harness/host.js';

/** A process whose handlers call functions that it hosts itself can use up its places, and wait for them. */
describe('a process whose places are all taken', () => {
  let fleet: Fleet;
  let logger: CapturingLogger;
  let apps: INestApplicationContext[];
  let functions: EnhancedFunctionRegistry | undefined;

  beforeEach(() => {
    fleet = new Fleet();
    logger = new CapturingLogger();
    apps = [];
  });
  afterEach(async () => {
    await Promise.all(apps.map((app) => app.close()));
    await fleet.close();
  });

  const MODULE: FunctionsOptions = { leaseMs: 1_200, concurrency: 2, drainTimeoutMs: 50 };

  async function start(
    providers: Type<unknown>[],
    options: FunctionsOptions = {},
  ): Promise<INestApplicationContext> {
    const own = { connection: redisUrl(), keyPrefix: fleet.prefix, ...MODULE, ...options };
    const app = await NestFactory.createApplicationContext(rootModule(own, { providers }), {
      logger,
    });
    apps.push(app);
    functions = app.get(EnhancedFunctionRegistry);
    return app;
  }

  /** A handler that waits for a call that it makes. */
  const asking = (name: string, asked: string): Type<unknown> =>
    hosting(name, () => functions?.call(asked, {}, { timeoutMs: 10_000 }));
  const call = (name: string): Promise<unknown> =>
    (functions as EnhancedFunctionRegistry)
      .call(name, {}, { timeoutMs: 10_000 })
      .catch(() => undefined);
  const warnings = (): string[] =>
    logger.of('COORDINATOR', 'warn').filter((line) => line.includes('place'));

  /** Its heart has beaten so many times since. */
  async function beats(app: INestApplicationContext, count: number): Promise<void> {
    const consumer = app.get(CallConsumer);
    const { pulse } = consumer;
    let seen = 0;
    consumer.pulse = (...args) => {
      pulse.apply(consumer, args);
      seen += 1;
    };
    await eventually(`${count} beats`, () => seen >= count);
  }

  it('by handlers that wait for calls of its own functions says so once, with the cure', async () => {
    const app = await start([asking('outer', 'inner'), hosting('inner', () => 'done')]);
    const calls = [call('outer'), call('outer')];
    await eventually('it is told', () => warnings().length > 0);
    expect(warnings()[0]).toMatch(
      /^the 2 place\(s\) of this process .* 2 call\(s\) wait .* raise concurrency/,
    );
    await beats(app, 4);
    expect(warnings()).toHaveLength(1);
    await app.close();
    await Promise.all(calls);
  });

  it('of one function that calls itself names that function', async () => {
    let depth = 0;
    const app = await start([
      hosting({ name: 'tree', concurrency: 1 }, () => ((depth += 1) < 3 ? call('tree') : 'leaf')),
    ]);
    const called = call('tree');
    await eventually('it is told', () => warnings().length > 0);
    expect(warnings()[0]).toMatch(/^the 1 place\(s\) of tree are taken/);
    await app.close();
    await called;
  });

  it('by long calls that it made itself says nothing', async () => {
    const stage = new Stage();
    const app = await start([stage.as('work')]);
    const calls = [call('work'), call('work'), call('work')];
    await stage.started(2);
    await beats(app, 4);
    expect(warnings()).toEqual([]);
    stage.finishAll();
    await eventually('the third', () => stage.runs.length === 3);
    stage.finishAll();
    await Promise.all(calls);
  });

  it('by handlers that wait for functions of others says nothing', async () => {
    const stage = new Stage();
    await start([stage.as('inner')]);
    const app = await start([asking('outer', 'inner')]);
    const calls = [call('outer'), call('outer')];
    await stage.started(2);
    await beats(app, 4);
    expect(warnings()).toEqual([]);
    stage.finishAll();
    await Promise.all(calls);
  });

  it('and changing hands says nothing', async () => {
    const stages = new Stage();
    const app = await start([stages.as('work')]);
    const calls = Array.from({ length: 12 }, () => call('work'));
    for (let done = 2; done <= 12; done += 2) {
      await stages.started(done);
      await beats(app, 1);
      stages.finishAll();
    }
    await Promise.all(calls);
    expect(warnings()).toEqual([]);
  });
});
