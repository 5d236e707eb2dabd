/**
 * A worker of the storm: every run of every handler is in its history. `work` takes `ms` and ends early when its
 * signal aborts, `stubborn` does not look at its signal, `flaky` fails its first `fails` runs and is retried,
 * `chatty` tells its progress; `bell-0`, `bell-1`, ... are so many that the process waits for the bell.
 */
import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionHandler,
  FunctionsModule,
  WorkerCoordinator,
  type FunctionContext,
} from '../../src/index.js';
import { hosting } from '../harness/host.js';
import { HistoryLog } from './history.js';
import { StormLogger } from './storm-log.js';

const env = (name: string): string => process.env[name] ?? '';
const history = new HistoryLog(env('HISTORY'), env('WHO'));
const workerId = env('WHO');

interface Task {
  readonly id: string;
  readonly ms: number;
  readonly fails?: number;
}

/** A run with its start and end in the history. */
async function recorded(
  { id }: Task,
  context: FunctionContext,
  body: () => Promise<void>,
): Promise<{ run: string; attempt: number }> {
  const run = randomUUID();
  const { callId, attempt } = context;
  const leftMs = context.deadline - Date.now();
  history.note({ e: 'start', run, id, callId, attempt, worker: workerId, leftMs });
  try {
    await body();
    history.note({ e: 'end', run, how: 'returned' });
    return { run, attempt };
  } catch (error) {
    const aborted = error instanceof Error && error.name === 'AbortError';
    history.note({ e: 'end', run, how: aborted ? 'aborted' : 'failed' });
    throw error;
  }
}

function lasting(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(Object.assign(new Error('stopped'), { name: 'AbortError' }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    if (signal?.aborted === true) stop();
    else signal?.addEventListener('abort', stop, { once: true });
  });
}

@Injectable()
class Handlers {
  @FunctionHandler({ name: 'work', concurrency: 24 })
  work(task: Task, context: FunctionContext): Promise<unknown> {
    return recorded(task, context, () => lasting(task.ms, context.signal));
  }

  @FunctionHandler({ name: 'stubborn' })
  stubborn(task: Task, context: FunctionContext): Promise<unknown> {
    return recorded(task, context, () => lasting(task.ms));
  }

  @FunctionHandler({
    name: 'flaky',
    retry: {
      maxAttempts: 6,
      backoffMs: 60,
      maxBackoffMs: 300,
      retryIf: (error) => error instanceof FunctionError,
    },
  })
  flaky(task: Task, context: FunctionContext): Promise<unknown> {
    return recorded(task, context, async () => {
      await lasting(task.ms, context.signal);
      if (context.attempt <= (task.fails ?? 0))
        throw new FunctionError('FLAKY', 'it is flaky', { retryable: true });
    });
  }

  @FunctionHandler({ name: 'chatty' })
  chatty(task: Task, context: FunctionContext): Promise<unknown> {
    return recorded(task, context, async () => {
      for (let step = 0; step < 3; step += 1) {
        context.progress(step);
        await lasting(task.ms / 3, context.signal);
      }
    });
  }
}

const bells = Array.from({ length: Number(env('BELLS')) }, (_, n) =>
  hosting<Task>({ name: `bell-${n}`, concurrency: 4 }, (task, context) =>
    recorded(task, context, () => lasting(task.ms, context.signal)),
  ),
);

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: env('REDIS_URL'),
      keyPrefix: env('KEY_PREFIX'),
      workerId,
      leaseMs: Number(env('LEASE_MS')),
      drainTimeoutMs: 8_000,
      concurrency: 40,
    }),
  ],
  providers: [Handlers, ...bells],
})
class WorkerModule {}

const app = await NestFactory.createApplicationContext(WorkerModule, {
  logger: new StormLogger(history),
});
const registry = app.get(EnhancedFunctionRegistry);
app.get(WorkerCoordinator).on('lost', () => history.note({ e: 'lost' }));
process.on('message', (message: { type: string; healthy?: boolean }) => {
  if (message.type !== 'health') return;
  registry
    .notifyWorkerHealth('work', 'default', workerId, message.healthy === true, 'the storm says so')
    .catch(() => undefined);
});
process.once('SIGTERM', () => {
  history.note({ e: 'stopping' });
  void app.close().then(() => {
    // The parent's line to this process is not the library's: without it nothing may be left.
    process.disconnect();
    setImmediate(() => history.note({ e: 'closed', resources: process.getActiveResourcesInfo() }));
  });
});
history.note({ e: 'booted' });
process.send?.({ type: 'ready' });
