/**
 * A process of the tests without a handle of its own: on a memory it waits for one thing after the other, and says when it
 * begins to wait and what came of it. Nothing but its waits keeps it; at the end nothing does.
 */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsMetrics,
  FunctionsModule,
  WorkflowNotifier,
} from '../../src/index.js';

process.channel?.unref();
const tell = (message: object): void => void process.send?.(message);
let failures = 0;

class Handlers {
  @FunctionHandler({ name: 'stuck', workflowId: 'flow' })
  stuck(): Promise<unknown> {
    return new Promise(() => undefined);
  }

  @FunctionHandler({
    name: 'fails-once',
    workflowId: 'flow',
    retry: { maxAttempts: 2, backoffMs: 300, jitter: 0 },
  })
  failsOnce(): string {
    failures += 1;
    if (failures === 1) throw new Error('not yet');
    return 'done';
  }
}

@Module({ imports: [FunctionsModule.forRoot({ connection: 'memory://' })], providers: [Handlers] })
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error'] });
const registry = app.get(EnhancedFunctionRegistry);
await app.get(WorkflowNotifier).notifySaved('flow');
const fresh = await registry.atGeneration('flow');
const limit = { workflowId: 'flow', readinessTimeoutMs: 300 };

const waits: Record<string, () => Promise<unknown>> = {
  'a call that runs': () => registry.call('stuck', {}, { workflowId: 'flow', timeoutMs: 300 }),
  'a call that is to run again': () => registry.call('fails-once', {}, { workflowId: 'flow' }),
  'a call without a worker': () => registry.call('missing', {}, limit),
  'a bound call': () => fresh.call('stuck', {}, { readinessTimeoutMs: 300 }),
  waitForFunction: () => registry.waitForFunction('missing', 'flow', 300),
  'waitForWorkflow, of unknown functions': () =>
    registry.waitForWorkflow('elsewhere', { timeoutMs: 300 }),
  'waitForWorkflow, of named ones': () =>
    registry.waitForWorkflow('flow', { functions: ['missing'], timeoutMs: 300 }),
  snapshot: () => app.get(FunctionsMetrics).snapshot({ measureMs: 300 }),
};
for (const [name, wait] of Object.entries(waits)) {
  const came = await wait().then(
    (value) => (typeof value === 'string' ? value : 'settled'),
    (error: unknown) => (error as { code?: string }).code,
  );
  tell({ type: 'came', name, came });
}
tell({ type: 'end' });
