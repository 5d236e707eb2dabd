/**
 * A worker of the storm: every run of every handler is in its history. `work` takes `ms` and ends early when its
 * signal aborts, `stubborn` does not look at its signal, `flaky` fails its first `fails` runs and is retried,
 * `chatty` tells its progress; `bell-0`, `bell-1`, ... are so many that the process waits for the bell. `fused` fails by
 * the clock of the storm; `plan` and `render` of the workflow `flow` answer with the save that the process has loaded.
 * With METRICS it serves them to Prometheus.
 */
import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  Injectable,
  Module,
  type INestApplication,
  type INestApplicationContext,
  type OnModuleInit,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionError,
  FunctionHandler,
  FunctionsModule,
  OnWorkflowEvent,
  WorkerCoordinator,
  WorkflowNotifier,
  type FunctionContext,
  type WorkflowEvent,
} from '../../src/index.js';
import { hosting } from '../harness/host.js';
import { isFuseBroken, type FuseTimes } from './fuse.js';
import { HistoryLog, monotonicMs } from './history.js';
import { bootStep, StormLogger } from './storm-log.js';

const env = (name: string): string => process.env[name] ?? '';
const history = new HistoryLog(env('HISTORY'), env('WHO'));
const workerId = env('WHO');
const isScraped = env('METRICS') !== '';
const fuse = JSON.parse(env('FUSE')) as FuseTimes;

interface Task {
  readonly id: string;
  readonly ms: number;
  readonly fails?: number;
}

/** A run with its start and end in the history. */
async function recorded<T extends object>(
  { id }: Task,
  context: FunctionContext,
  body: () => Promise<T | void>,
): Promise<{ run: string; attempt: number } & Partial<T>> {
  const run = randomUUID();
  const { callId, attempt } = context;
  const leftMs = context.deadline - Date.now();
  history.note({ e: 'start', run, id, callId, attempt, worker: workerId, leftMs });
  try {
    const answer = await body();
    history.note({ e: 'end', run, how: 'returned' });
    return { ...(answer as Partial<T>), run, attempt };
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

  @FunctionHandler({ name: 'fused', concurrency: 24 })
  fused(task: Task, context: FunctionContext): Promise<unknown> {
    return recorded(task, context, async () => {
      const isBroken = isFuseBroken(fuse, monotonicMs());
      // Some do not answer at all, until their deadline.
      await lasting(isBroken && task.ms % 3 === 0 ? 60_000 : task.ms, context.signal);
      if (isBroken) throw new FunctionError('FUSED', 'it is broken', { retryable: true });
    });
  }
}

/** What this process has loaded of the workflow. */
@Injectable()
class Flow implements OnModuleInit {
  private loaded: { generation: number; version: number | null } = {
    generation: -1,
    version: null,
  };

  constructor(private readonly workflows: WorkflowNotifier) {}

  async onModuleInit(): Promise<void> {
    for (;;) {
      try {
        return this.load(await this.workflows.loadedGeneration('flow'));
      } catch {
        // Redis is away, or stands still.
        await lasting(100);
      }
    }
  }

  @OnWorkflowEvent('restarting', 'flow')
  async reload(event: WorkflowEvent): Promise<void> {
    await lasting(Number(env('LOAD_MS')));
    this.load(event);
  }

  @FunctionHandler({ name: 'plan', workflowId: 'flow', concurrency: 24 })
  plan(task: Task, context: FunctionContext): Promise<unknown> {
    return this.run(task, context);
  }

  @FunctionHandler({ name: 'render', workflowId: 'flow', concurrency: 24 })
  render(task: Task, context: FunctionContext): Promise<unknown> {
    return this.run(task, context);
  }

  /** What is loaded is looked at when the run ends: it must not have changed since the run began. */
  private run(task: Task, context: FunctionContext): Promise<unknown> {
    return recorded(task, context, async () => {
      await lasting(task.ms, context.signal);
      return this.loaded;
    });
  }

  private load({ generation, details }: { generation: number; details: unknown }): void {
    const { version = null } = (details ?? {}) as { version?: number | null };
    this.loaded = { generation, version };
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
      metrics: isScraped,
    }),
  ],
  providers: [Handlers, Flow, ...bells],
})
class WorkerModule {}

const logger = new StormLogger(history);
const app = await (isScraped
  ? serve()
  : NestFactory.createApplicationContext(WorkerModule, { logger }));

async function serve(): Promise<INestApplicationContext> {
  const served = await NestFactory.create(WorkerModule, { logger });
  await served.listen(0, '127.0.0.1');
  return served;
}

/** Where it is scraped. */
function portOf(served: INestApplicationContext): number | undefined {
  if (!isScraped) return undefined;
  const server = (served as INestApplication<Server>).getHttpServer();
  return (server.address() as AddressInfo).port;
}

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
history.note(bootStep());
process.send?.({ type: 'ready', port: portOf(app) });
