/**
 * A worker process of the recovery bench. `hold` lasts until its signal aborts when it is the first attempt, `paced`
 * takes `ms`. Every run is told to the parent with the time of its start, on the machine's one clock.
 */
import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  WorkerCoordinator,
  type FunctionContext,
} from '../../src/index.js';

const { REDIS_URL: url = '', KEY_PREFIX: keyPrefix = '', WORKER_ID: workerId = '' } = process.env;
const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const tell = (message: object): void => void process.send?.(message);

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'hold' })
  async hold({ id }: { id: string }, { attempt, signal }: FunctionContext): Promise<string> {
    tell({ type: 'run', id, t: now() });
    if (attempt > 1) return workerId;
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    return workerId;
  }

  @FunctionHandler({ name: 'paced' })
  async paced({ id, ms }: { id: string; ms: number }): Promise<string> {
    tell({ type: 'run', id, t: now() });
    await new Promise((resolve) => setTimeout(resolve, ms));
    return workerId;
  }
}

@Module({
  imports: [FunctionsModule.forRoot({ connection: url, keyPrefix, workerId })],
  providers: [Handlers],
})
class WorkerModule {}

const app = await NestFactory.createApplicationContext(WorkerModule, { logger: false });
app.enableShutdownHooks(['SIGTERM'], { useProcessExit: true });
const registry = app.get(EnhancedFunctionRegistry);
app.get(WorkerCoordinator).on('registered', ({ ref }) => {
  tell({ type: 'registered', fn: ref.functionName, t: now() });
});

const orders: Record<string, () => Promise<unknown>> = {
  /** Takes no calls for a while. */
  pause: () => registry.notifyWorkerHealth('hold', 'default', workerId, false, 'the bench'),
  resume: () => registry.notifyWorkerHealth('hold', 'default', workerId, true),
  leave: () => registry.coordinateShutdown('paced', 'default', workerId),
  /** Tells whether this process supervises the fleet. */
  role: () => Promise.resolve(app.get(WorkerCoordinator).isSupervisor),
  join: () => registry.registerWorkerWithInstantNotification(workerId, 'paced', 'default'),
};
process.on('message', ({ type, token }: { type: string; token: string }) => {
  void orders[type]?.().then((answer) => tell({ type: token, answer }));
});
tell({ type: 'ready' });
