import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MemoryBackend } from '../../src/backend/memory/memory-backend.js';
import { BACKEND } from '../../src/backend/tokens.js';
import {
  BackendRefusedError,
  BackendUnavailableError,
  EnhancedFunctionRegistry,
  FunctionRegistry,
  FunctionsHealthIndicator,
  type FunctionsOptions,
} from '../../src/index.js';
import { rootModule, uniquePrefix } from '../harness/apps.js';
import { CapturingLogger } from '../harness/capturing-logger.js';
import { eventually } from '../harness/eventually.js';
import { Stage } from '../harness/host.js';

/** Who runs on memory:// is not sent to a Redis to look for the cause. */
describe('what an application without Redis says', () => {
  const name = uniquePrefix().replace(':', '');
  const logger = new CapturingLogger();
  const stage = new Stage();
  let apps: INestApplicationContext[];

  beforeEach(() => {
    apps = [];
  });
  afterEach(() => Promise.all(apps.map((app) => app.close())));

  async function start(
    providers: Type<unknown>[],
    options: FunctionsOptions,
  ): Promise<INestApplicationContext> {
    const module = rootModule({ connection: `memory://${name}`, ...options }, { providers });
    const app = await NestFactory.createApplicationContext(module, { logger });
    apps.push(app);
    return app;
  }

  it('names the memory, and no Redis', async () => {
    const leaseMs = 1_200;
    await start([stage.as('work')], { leaseMs, drainTimeoutMs: 50 });
    const caller = await start([], { worker: false, leaseMs });
    const functions = caller.get(EnhancedFunctionRegistry);
    const backend = caller.get<MemoryBackend>(BACKEND);
    const problems: unknown[] = [];
    const note = (error: unknown): void => void problems.push(error);

    await functions.call('nobody', {}, { readinessTimeoutMs: 20 }).catch(note);
    await caller.get(FunctionRegistry).callFunction('nobody', 'default', {}, null, 20).then(note);
    const kept = functions.call('work', { n: 1 }).catch(note);
    const once = functions.call('work', {}, { delivery: 'at-most-once' }).catch(note);
    await eventually('both run', () => stage.runs.length === 2);
    backend.server.forget('');
    await once;
    await eventually('the loss is told', () => logger.text.includes('was emptied'));
    stage.finishAll();
    await kept;
    await backend.close();
    problems.push(await caller.get(FunctionsHealthIndicator).ready());
    await functions.call('work', {}, { timeoutMs: 50, readinessTimeoutMs: 50 }).catch(note);
    await Promise.all(apps.splice(0).map((app) => app.close()));

    const text = [logger.text, ...problems.map((one) => JSON.stringify(one) + String(one))].join(
      '\n',
    );
    expect(text).toContain(`memory://${name} was emptied`);
    expect(text).toContain(`memory://${name} has forgotten`);
    expect(text).toContain(`memory://${name} does not answer`);
    expect(text).toContain('uses the same connection and keyPrefix');
    expect(text.split('\n').filter((line) => line.includes('Redis'))).toEqual([]);
  });
});

describe('an error of a backend', () => {
  const said = (where: string): string[] => [
    new BackendUnavailableError('joining', where).message,
    new BackendRefusedError('joining', where, 'OOM').message,
  ];

  it.each(['redis://127.0.0.1:6379', 'rediss://r.example:1', '/run/redis.sock'])(
    'says where its Redis is, and what to look at: %s',
    (where) => {
      const [unavailable, refused] = said(where);
      expect(unavailable).toMatch(`no answer from Redis at ${where}. Check that it runs there`);
      expect(refused).toMatch(`refused by Redis at ${where} (OOM)`);
    },
  );

  it.each(['memory://', 'memory://unit', 'postgres://db.example'])(
    'names what is no Redis: %s',
    (where) => {
      const [unavailable, refused] = said(where);
      expect(unavailable).toBe(
        `joining got no answer from ${where}. The library tries again by itself.`,
      );
      expect(refused).toMatch(`refused by ${where} (OOM)`);
    },
  );
});
