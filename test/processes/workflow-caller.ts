/** A process of the tests that calls the workflow `flow` in groups until it is told to end, and says what they saw. */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, FunctionsModule } from '../../src/index.js';
import { callInGroups } from '../workflow/groups.js';

const { REDIS_URL: connection = '', KEY_PREFIX: keyPrefix = '' } = process.env;
const tell = (message: object): void => void process.send?.(message);

@Module({ imports: [FunctionsModule.forRoot({ connection, keyPrefix, worker: false })] })
class CallerModule {}

const app = await NestFactory.createApplicationContext(CallerModule, { logger: ['error', 'warn'] });
const groups = callInGroups(app.get(EnhancedFunctionRegistry));
process.on('message', () => {
  void groups.end().then(() => tell({ type: 'seen', groups: groups.seen }));
});
tell({ type: 'ready' });
