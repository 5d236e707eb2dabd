/**
 * A worker process of the tests of workflows. It hosts `a` and `b` of the workflow `flow`, each of which answers with
 * the version that the process has loaded: the details of its generation. It says by process.send what happens, loads
 * when it is told to `go` where `HELD` is set, and restarts the workflow when it is told to `lead`.
 */
import 'reflect-metadata';
import { Injectable, Module, type OnModuleInit } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
  OnWorkflowEvent,
  WorkflowNotifier,
  type RestartOptions,
  type WorkflowEvent,
} from '../../src/index.js';

const { REDIS_URL: url = '', KEY_PREFIX: keyPrefix = '', WORKER_ID: workerId = '' } = process.env;
const tell = (message: object): void => void process.send?.(message);

let go: () => void = () => undefined;
process.on('message', ({ type, options }: { type: string; options?: RestartOptions }) => {
  if (type === 'go') go();
  if (type === 'lead') void lead(options);
});

async function lead(options: RestartOptions = {}): Promise<void> {
  try {
    const report = await app.get(EnhancedFunctionRegistry).coordinateRestart('flow', options);
    tell({ type: 'led', report });
  } catch (error) {
    tell({ type: 'led', failed: String(error) });
  }
}

@Injectable()
class Handlers implements OnModuleInit {
  private version: unknown = null;

  constructor(private readonly workflows: WorkflowNotifier) {}

  async onModuleInit(): Promise<void> {
    this.version = (await this.workflows.loadedGeneration('flow')).details;
  }

  @FunctionHandler({ name: 'a', workflowId: 'flow' })
  async a({ ms = 0 }: { ms?: number }): Promise<unknown> {
    await new Promise((resolve) => setTimeout(resolve, ms));
    return { workerId, version: this.version };
  }

  @FunctionHandler({ name: 'b', workflowId: 'flow' })
  b(): unknown {
    return { workerId, version: this.version };
  }

  @OnWorkflowEvent('restarting', 'flow')
  async reload({ details }: WorkflowEvent): Promise<void> {
    tell({ type: 'reloading' });
    if (process.env['HELD'] !== undefined) await new Promise<void>((resolve) => (go = resolve));
    this.version = details;
  }
}

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: url,
      keyPrefix,
      workerId,
      restart: process.env['RESTART'] === 'exit' ? 'exit' : 'reload',
    }),
  ],
  providers: [Handlers],
})
class WorkerModule {}

const app = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks(['SIGTERM'], { useProcessExit: true });
tell({ type: 'ready' });
