/** A process of the tests that restarts the workflow `flow`, and says how far it is. */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, FunctionsModule } from '../../src/index.js';

const { REDIS_URL: connection = '', KEY_PREFIX: keyPrefix = '' } = process.env;
const tell = (message: object): void => void process.send?.(message);

@Module({ imports: [FunctionsModule.forRoot({ connection, keyPrefix, worker: false })] })
class LeaderModule {}

const app = await NestFactory.createApplicationContext(LeaderModule, { logger: ['error', 'warn'] });
await app.get(EnhancedFunctionRegistry).coordinateRestart('flow', {
  onProgress: ({ phase, done }) => tell({ type: phase, done }),
});
tell({ type: 'done' });
