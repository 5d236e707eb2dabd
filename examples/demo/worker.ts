import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { FunctionsModule, WorkerCoordinator } from 'nestjs-functions';
import { demoEnvironment } from './environment.js';
import { endWithParent, tell } from './messages.js';
import { OUTPUT_FOLDER, Renderer } from './renderer.js';
import { RunLog } from './run-log.js';

const { redisUrl, keyPrefix, runsKey, workerId, port, folder } = demoEnvironment();

@Module({
  imports: [FunctionsModule.forRoot({ connection: redisUrl, keyPrefix, workerId, health: true })],
  providers: [
    Renderer,
    { provide: RunLog, useFactory: () => new RunLog(redisUrl, runsKey) },
    { provide: OUTPUT_FOLDER, useValue: folder },
  ],
})
class WorkerModule {}

/** A worker process: hosts `render`, answers /health, and drains on SIGTERM. */
async function main(): Promise<void> {
  const app = await NestFactory.create<NestExpressApplication>(WorkerModule, {
    logger: ['error', 'fatal'],
  });
  app.enableShutdownHooks([], { useProcessExit: true });
  endWithParent();
  process.once('SIGTERM', () => void reportDrain(app.get(WorkerCoordinator)));
  await app.listen(port, '127.0.0.1');
  tell({ event: 'up', port });
}

/** The drain is Nest's shutdown hook; asked for it once more, the coordinator tells what came of it. */
async function reportDrain(coordinator: WorkerCoordinator): Promise<void> {
  tell({ event: 'drained', ...(await coordinator.drain()) });
}

void main();
