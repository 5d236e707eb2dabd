import 'reflect-metadata';
import { Logger } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WorkerCoordinator } from 'nestjs-functions';
import { WorkerModule } from './worker.module.js';

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
