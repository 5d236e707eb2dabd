/**
 * The process that test/security/fuzz.test.ts attacks: it hosts and calls. It answers `do` by process.send, and dies
 * of what nobody caught, as any process does.
 */
import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { CallClient } from '../../src/execution/caller/call-client.js';
import { CallConsumer } from '../../src/execution/worker/call-consumer.js';
import {
  DeadLetters,
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  isFunctionsError,
  NotificationManager,
  WorkerCoordinator,
} from '../../src/index.js';

const { REDIS_URL: connection = '', KEY_PREFIX: keyPrefix = '' } = process.env;
const runs = { work: 0 };

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'work', retry: { maxAttempts: 2, backoffMs: 1 } })
  work(input: { n?: unknown; fail?: unknown } | null | undefined): unknown {
    runs.work += 1;
    if (input?.fail !== undefined) throw new Error('as asked');
    return input?.n;
  }
}

@Module({
  imports: [
    FunctionsModule.forRoot({ connection, keyPrefix, leaseMs: 1_000, maxPayloadBytes: 100_000 }),
  ],
  providers: [Handlers],
})
class FuzzedModule {}

const app = await NestFactory.createApplicationContext(FuzzedModule, { logger: ['error', 'warn'] });
const registry = app.get(EnhancedFunctionRegistry);
const letters = app.get(DeadLetters);
const calls = app.get(CallClient, { strict: false });
const consumer = app.get(CallConsumer, { strict: false });

/** A channel and a pattern that get what is published; nothing of them may fail. */
const heard = { count: 0 };
await app.get(NotificationManager).subscribePattern('*:work:default', () => (heard.count += 1));

const ACTIONS = {
  call: async ({ options = {} }: { options?: object }): Promise<unknown> => {
    const n = Math.random();
    const result = await registry.call('work', { n }, { timeoutMs: 8_000, ...options });
    return result === n ? 'same' : 'another';
  },
  ask: async (): Promise<unknown> => {
    await registry.getInstantWorkerStatus('work', 'default');
    await registry.getAvailableFunctions();
    await registry.getFunctionParameters('work', 'default');
    return 'asked';
  },
  bury: async (): Promise<unknown> => {
    const page = await letters.list('work', 'default', { limit: 1_000 });
    const retried = page.slice(0, 3).map(({ id }) => letters.retry('work', 'default', id));
    await Promise.all(retried);
    if (page.length > 3)
      await letters.remove(
        'work',
        'default',
        page.slice(3).map(({ id }) => id),
      );
    return page.length;
  },
  stats: () => ({
    process: app.get(WorkerCoordinator).processId,
    state: app.get(WorkerCoordinator).state,
    calls: calls.stats(),
    consumer: consumer.report(),
    notifications: app.get(NotificationManager).stats(),
    runs: runs.work,
    heard: heard.count,
    polluted: [...Object.keys(Object.prototype), ...Object.keys(Array.prototype)].concat(
      ({} as Record<string, unknown>)['polluted'] === undefined ? [] : ['polluted'],
    ),
  }),
};

process.on('message', (message: { id: number; do: keyof typeof ACTIONS; options?: object }) => {
  void (async () => {
    try {
      process.send?.({ type: `answer-${message.id}`, value: await ACTIONS[message.do](message) });
    } catch (error) {
      const code = isFunctionsError(error) ? error.code : `untyped: ${String(error)}`;
      process.send?.({ type: `answer-${message.id}`, code });
    }
  })();
});
process.send?.({ type: 'ready' });
