/**
 * A worker process of the chaos tests. `work` takes `ms`; it and what it says of itself go over process.send only,
 * so that nothing but the library's own connections meets the faults.
 */
import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  FunctionHandler,
  FunctionsModule,
  WorkerCoordinator,
  type FunctionContext,
} from '../../src/index.js';

const { REDIS_URL: url = '', KEY_PREFIX: keyPrefix = '', WORKER_ID: workerId = '' } = process.env;
const leaseMs = Number(process.env['LEASE_MS']);
const tell = (message: object): void => void process.send?.(message);

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'work' })
  async work(
    { id, ms }: { id: string; ms: number },
    { attempt }: FunctionContext,
  ): Promise<{ workerId: string; attempt: number }> {
    tell({ type: 'run', id, attempt });
    await new Promise((resolve) => setTimeout(resolve, ms));
    return { workerId, attempt };
  }
}

@Module({
  imports: [FunctionsModule.forRoot({ connection: url, keyPrefix, workerId, leaseMs })],
  providers: [Handlers],
})
class WorkerModule {}

const app = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks(['SIGTERM'], { useProcessExit: true });
app.get(WorkerCoordinator).on('lost', () => tell({ type: 'lost' }));
tell({ type: 'ready' });
