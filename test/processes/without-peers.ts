/**
 * One application, on memory://, in a process that can load neither prom-client, nor OpenTelemetry, nor (unless it
 * measures) hdr-histogram-js: sends what a call gave, or why it did not boot, and ends by itself.
 */
import 'reflect-metadata';
import { register } from 'node:module';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

const hooks = `export function resolve(specifier, context, next) {
  if (/^(prom-client|@opentelemetry\\/api|hdr-histogram-js)$/.test(specifier))
    throw Object.assign(new Error("Cannot find package '" + specifier + "'"), { code: 'ERR_MODULE_NOT_FOUND' });
  return next(specifier, context);
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
const tell = (message: object): void => void process.send?.(message);

const { EnhancedFunctionRegistry, FunctionHandler, FunctionsModule } =
  await import('../../src/index.js');
const options = JSON.parse(process.env['OPTIONS'] ?? '{}') as object;

class Handlers {
  @FunctionHandler({ name: 'add' })
  add({ a, b }: { a: number; b: number }): number {
    return a + b;
  }
}

@Module({
  imports: [FunctionsModule.forRoot({ connection: 'memory://', ...options })],
  providers: [Handlers],
})
class AppModule {}

try {
  const app = await NestFactory.createApplicationContext(AppModule, {
    logger: ['error'],
    abortOnError: false,
  });
  tell({ type: 'sum', sum: await app.get(EnhancedFunctionRegistry).call('add', { a: 1, b: 2 }) });
  await app.close();
} catch (error) {
  tell({ type: 'failed', code: (error as { code?: unknown }).code, message: String(error) });
}
process.disconnect();
