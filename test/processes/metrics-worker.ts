/**
 * A process of the tests that measures: it hosts `work`, which takes `WORK_MS`, unless WORKER is false, and does what
 * its parent says: `call` calls a function some times, one after another; `pace` lets `work` take `ms` from now on.
 */
import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  WorkerCoordinator,
} from '../../src/index.js';

const { REDIS_URL: connection = '', KEY_PREFIX: keyPrefix = '', WORKER_ID: workerId } = process.env;
const isWorker = process.env['WORKER'] !== 'false';
let workMs = Number(process.env['WORK_MS'] ?? 0);
const tell = (message: object): void => void process.send?.(message);

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'work', concurrency: Number(process.env['CONCURRENCY'] ?? 10) })
  async work(): Promise<string> {
    if (workMs > 0) await new Promise((resolve) => setTimeout(resolve, workMs));
    return workerId ?? '';
  }
}

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection,
      keyPrefix,
      worker: isWorker,
      leaseMs: Number(process.env['LEASE_MS'] ?? 1_000),
      ...(workerId === undefined ? {} : { workerId }),
    }),
  ],
  providers: isWorker ? [Handlers] : [],
})
class ProcessModule {}

const app = await NestFactory.createApplicationContext(ProcessModule, {
  logger: ['error', 'warn'],
});
app.enableShutdownHooks(['SIGTERM'], { useProcessExit: true });
const functions = app.get(EnhancedFunctionRegistry);

let open: NodeJS.Timeout | undefined;
const orders: Record<string, (order: Record<string, number>) => unknown> = {
  /** Some calls, `inFlight` at once. */
  call: async ({ count = 1, inFlight = 1 }) => {
    let left = count;
    const caller = async (): Promise<void> => {
      while (left-- > 0) await functions.call('work').catch(() => undefined);
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
    tell({ type: 'called' });
  },
  /** So many calls a second, whether or not they are answered; 0 ends it. */
  stream: ({ perSecond = 0 }) => {
    clearInterval(open);
    if (perSecond === 0) return;
    const startedAt = performance.now();
    let sent = 0;
    open = setInterval(() => {
      const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
      for (; sent < due; sent += 1)
        functions.call('work', {}, { readinessTimeoutMs: 60_000 }).catch(() => undefined);
    }, 10);
  },
  pace: ({ ms = 0 }) => {
    workMs = ms;
    tell({ type: 'paced' });
  },
  /** Names ever new functions, and waits for none. */
  name: async ({ count = 0 }) => {
    for (let i = 0; i < count; i += 1)
      await functions
        .call(`f${i}`, {}, { timeoutMs: 5_000, readinessTimeoutMs: 0 })
        .catch(() => undefined);
    tell({ type: 'named', heapMb: process.memoryUsage().heapUsed / 2 ** 20 });
  },
};
process.on('message', (order: Record<string, number> & { type: string }) => {
  void orders[order.type]?.(order);
});
tell({ type: 'ready', supervises: app.get(WorkerCoordinator).isSupervisor });
