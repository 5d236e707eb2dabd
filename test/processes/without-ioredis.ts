/** One application, on REDIS_URL, in a process that cannot load ioredis; sends what a call gave, and ends by itself. */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { forbidIoredis } from './forbid-ioredis.js';

forbidIoredis();
const tell = (message: object): void => void process.send?.(message);

const { EnhancedFunctionRegistry, FunctionHandler, FunctionsModule } =
  await import('../../src/index.js');

class Handlers {
  @FunctionHandler({ name: 'add' })
  add({ a, b }: { a: number; b: number }): number {
    return a + b;
  }
}

@Module({ imports: [FunctionsModule.forRoot()], providers: [Handlers] })
class AppModule {}

try {
  const app = await NestFactory.createApplicationContext(AppModule, {
    logger: ['error'],
    abortOnError: false,
  });
  tell({ type: 'sum', sum: await app.get(EnhancedFunctionRegistry).call('add', { a: 1, b: 2 }) });
  await app.close();
} catch (error) {
  tell({ type: 'failed', message: String(error) });
}
process.disconnect();
