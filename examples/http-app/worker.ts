import 'reflect-metadata';
import { Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FunctionsModule, WorkerCoordinator } from 'nestjs-functions';
import { Renderer } from './renderer.js';

@Module({ imports: [FunctionsModule.forRoot()], providers: [Renderer] })
class WorkerModule {}

/** A worker process: no HTTP, only the function. On SIGTERM it finishes what it runs, and exits with 0. */
async function main(): Promise<void> {
  const app = await NestFactory.createApplicationContext(WorkerModule, {
    logger: ['log', 'warn', 'error'],
  });
  app.enableShutdownHooks([], { useProcessExit: true });
  const coordinator = app.get(WorkerCoordinator);
  Logger.log(`${coordinator.workerId}: ${coordinator.state}`, 'Worker');
  await coordinator.whenActive();
  process.send?.('ready');
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
}

void main();
