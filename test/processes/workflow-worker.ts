/**
 * A worker process of the tests of workflows. It hosts `a` and `b` of the workflow `flow`, each of which answers with
 * the version that the process has loaded: the details of its generation. It says by process.send what happens, and loads
 * when it is told to `go` where `HELD` is set.
 */
import 'reflect-metadata';
import { Injectable, Module, type OnModuleInit } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  FunctionHandler,
  FunctionsModule,
  OnWorkflowEvent,
  WorkflowNotifier,
  type WorkflowEvent,
} from '../../src/index.js';

const { REDIS_URL: url = '', KEY_PREFIX: keyPrefix = '', WORKER_ID: workerId = '' } = process.env;
const tell = (message: object): void => void process.send?.(message);

let go: () => void = () => undefined;
process.on('message', ({ type }: { type: string }) => {
  if (type === 'go') go();
});

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
