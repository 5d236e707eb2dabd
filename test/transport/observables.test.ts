import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, type INestApplication, type Type } from '@nestjs/common';
import { Ctx, MessagePattern, type MicroserviceOptions } from '@nestjs/microservices';
import { Observable } from 'rxjs';
import {
  EnhancedFunctionRegistry,
  FunctionsTransport,
  type FunctionsOptions,
  type FunctionsRpcContext,
} from '../../src/index.js';
import { rootModule } from '../harness/apps.js';
import { createDeferred, type Deferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';

const apps = new NestApps();
afterEach(() => apps.close());

const CALLS = (): string => `${apps.prefix}nf:{endless:default}:calls`;

/** A source that never completes, and what the test sees of it. */
class Endless {
  subscribed = 0;
  readonly first = createDeferred();
  readonly ended = createDeferred();
  readonly reasons: unknown[] = [];
  /** The handler waits for it before it gives its source. */
  made: Promise<unknown> = Promise.resolve();

  controller(): Type<unknown> {
    const open = (): Observable<unknown> => this.open();
    const before = (): Promise<unknown> => this.made;
    const note = (signal: AbortSignal): void =>
      signal.addEventListener('abort', () => this.reasons.push(signal.reason));

    @Controller()
    class Handlers {
      @MessagePattern('endless')
      async endless(@Ctx() context: FunctionsRpcContext): Promise<Observable<unknown>> {
        const { signal } = context.getCall() as { signal: AbortSignal };
        note(signal);
        await before();
        return open();
      }

      @MessagePattern('ping')
      ping(): string {
        return 'pong';
      }
    }
    return Handlers;
  }

  private open(): Observable<unknown> {
    return new Observable(() => {
      this.subscribed += 1;
      this.first.resolve();
      return () => this.ended.resolve();
    });
  }
}

async function serve(source: Endless, options: FunctionsOptions = {}): Promise<INestApplication> {
  const app = await apps.http(
    rootModule(apps.options(options), { controllers: [source.controller()] }),
  );
  app.connectMicroservice<MicroserviceOptions>({ strategy: app.get(FunctionsTransport) });
  await app.startAllMicroservices();
  return app.init();
}

async function caller(): Promise<EnhancedFunctionRegistry> {
  const app = await apps.context(rootModule(apps.options({ worker: false })));
  return app.get(EnhancedFunctionRegistry);
}

async function expectNothingLeft(registry: EnhancedFunctionRegistry): Promise<void> {
  await eventually('no entry is left', async () => (await apps.redis.xlen(CALLS())) === 0);
  expect(await apps.redis.xpending(CALLS(), 'workers')).toEqual([0, null, null, null]);
  // With one place for the whole process: it is free again.
  await expect(registry.call('ping', {}, { timeoutMs: 5_000 })).resolves.toBe('pong');
}

type Ending = readonly [
  title: string,
  code: string,
  call: (registry: EnhancedFunctionRegistry, source: Endless) => Promise<unknown>,
];

const endings: readonly Ending[] = [
  [
    'is cancelled',
    'CALL_CANCELLED',
    async (registry, source) => {
      const cancel = new AbortController();
      const outcome = registry.call('endless', {}, { signal: cancel.signal });
      outcome.catch(() => undefined);
      await source.first.promise;
      cancel.abort();
      return outcome;
    },
  ],
  ['expires', 'DEADLINE_EXCEEDED', (registry) => registry.call('endless', {}, { timeoutMs: 150 })],
];

describe('a handler whose Observable never completes', () => {
  it.each(endings)('gives its place back when its call %s', async (_title, code, call) => {
    const source = new Endless();
    await serve(source, { concurrency: 1, drainTimeoutMs: 0 });
    const registry = await caller();
    await expect(call(registry, source)).rejects.toMatchObject({ code });
    await source.ended.promise;
    await expectNothingLeft(registry);
    // At the deadline the caller gives up, too, and its word may come first.
    const codes = source.reasons.map((reason) => (reason as { code?: string }).code);
    expect([[code], ['CALL_CANCELLED']]).toContainEqual(codes);
  });

  it('gives its place back when its call is cancelled before the Observable is there', async () => {
    const source = new Endless();
    const made: Deferred<void> = createDeferred();
    source.made = made.promise;
    await serve(source, { concurrency: 1, drainTimeoutMs: 0 });
    const registry = await caller();
    const cancel = new AbortController();
    const outcome = registry.call('endless', {}, { signal: cancel.signal });
    outcome.catch(() => undefined);
    await eventually('the call runs', async () => {
      const [pending] = (await apps.redis.xpending(CALLS(), 'workers')) as [number];
      return pending === 1;
    });
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await eventually('its signal has aborted', () => source.reasons.length === 1);
    made.resolve();
    await expectNothingLeft(registry);
  });

  it('is not run elsewhere when its worker drains after its call was cancelled', async () => {
    const source = new Endless();
    const worker = await serve(source, { drainTimeoutMs: 0 });
    const registry = await caller();
    const cancel = new AbortController();
    const outcome = registry.call('endless', {}, { signal: cancel.signal });
    outcome.catch(() => undefined);
    await source.first.promise;
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await source.ended.promise;
    const second = new Endless();
    await serve(second, { drainTimeoutMs: 0 });
    await worker.close();
    await expectNothingLeft(registry);
    expect(second.subscribed).toBe(0);
  });

  it('is run elsewhere when its worker drains while somebody waits for it', async () => {
    const source = new Endless();
    const worker = await serve(source, { drainTimeoutMs: 50 });
    const registry = await caller();
    const cancel = new AbortController();
    const outcome = registry.call('endless', {}, { signal: cancel.signal });
    outcome.catch(() => undefined);
    await source.first.promise;
    const second = new Endless();
    await serve(second, { drainTimeoutMs: 0 });
    await worker.close();
    expect(source.reasons).toEqual([expect.objectContaining({ code: 'DRAINING' })]);
    await second.first.promise;
    cancel.abort();
    await expect(outcome).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
    await expectNothingLeft(registry);
  });
});
