/**
 * A worker process of the tests. What it hosts says what happens by process.send:
 * - `held`: tells `started`, and ends when the parent sends `release`, when its signal aborts, or at once when
 *   it is not the first attempt
 * - `paced`: takes `ms`
 * - `poison`: kills its process
 * Each run is counted in the hash `<prefix>runs`, by call.
 */
import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Redis } from 'ioredis';
import {
  FunctionHandler,
  FunctionsModule,
  isFunctionsError,
  WorkerCoordinator,
  type FunctionContext,
} from '../../src/index.js';

const { REDIS_URL: url = '', KEY_PREFIX: keyPrefix = '', WORKER_ID: workerId = '' } = process.env;
const leaseMs = Number(process.env['LEASE_MS'] ?? 5_000);
const redis = new Redis(url);
const tell = (message: object): void => void process.send?.(message);

let release: (value: unknown) => void = () => undefined;
process.on('message', (message: { type: string; value?: unknown }) => {
  if (message.type === 'release') release(message.value);
});

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'held' })
  async held(_input: object, context: FunctionContext): Promise<unknown> {
    const { callId, attempt, signal } = context;
    const runs = await count(callId);
    const value = new Promise((resolve) => (release = resolve));
    tell({ type: 'started', callId, attempt, runs });
    if (attempt > 1) return { workerId, attempt };
    signal.addEventListener('abort', () => {
      const { reason } = signal as { reason: unknown };
      tell({ type: 'aborted', code: isFunctionsError(reason) ? reason.code : String(reason) });
    });
    return { workerId, attempt, value: await value };
  }

  @FunctionHandler({ name: 'paced' })
  async paced({ ms }: { ms: number }, { callId }: FunctionContext): Promise<string> {
    await count(callId);
    await new Promise((resolve) => setTimeout(resolve, ms));
    return workerId;
  }

  @FunctionHandler({ name: 'poison' })
  async poison(_input: object, { callId }: FunctionContext): Promise<void> {
    await count(callId);
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => undefined);
  }
}

function count(callId: string): Promise<number> {
  return redis.hincrby(`${keyPrefix}runs`, callId, 1);
}

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: url,
      keyPrefix,
      workerId,
      leaseMs,
      supervise: process.env['SUPERVISE'] !== 'false',
    }),
  ],
  providers: [Handlers],
})
class WorkerModule {}

const app = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks(['SIGTERM'], { useProcessExit: true });
app.get(WorkerCoordinator).on('lost', () => tell({ type: 'lost' }));
app.get(WorkerCoordinator).on('registered', ({ epoch, ref }) => {
  tell({ type: 'registered', epoch, functionName: ref.functionName });
});
tell({ type: 'ready' });
