/**
 * A process of test/metrics/price.ts: calls or hosts `echo`, or watches its fleet, with the code of FOLDER. Asked with
 * a number it calls so many at once for a while, and answers what it did and took.
 */
import 'reflect-metadata';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Type } from '@nestjs/common';
import type * as common from '@nestjs/common';
import type * as core from '@nestjs/core';
import type * as library from '../../src/index.js';

const PHASE_MS = Number(process.env['PHASE_MS'] ?? 1_500);

/** What it did, and took of the processor until now, in microseconds. */
export interface Answer {
  readonly calls: number;
  readonly cpu: number;
}

const { ROLE: role, PREFIX: keyPrefix = '', FOLDER: folder = '.' } = process.env;
const connection = process.env['PRICE_REDIS_URL'] ?? '';
const isWorker = role === 'worker';
const { EnhancedFunctionRegistry, FunctionHandler, FunctionsMetrics, FunctionsModule } =
  await load<typeof library>('src/index.ts');
const { Module } = await load<typeof common>('node_modules/@nestjs/common/index.js');
const { NestFactory } = await load<typeof core>('node_modules/@nestjs/core/index.js');

class Echo {
  @FunctionHandler({ name: 'echo', concurrency: 1_024 })
  echo(input: unknown): unknown {
    return input;
  }
}

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection,
      keyPrefix,
      worker: isWorker,
      ...(isWorker ? { concurrency: 1_024 } : {}),
    }),
  ],
  providers: isWorker ? [Echo] : [],
})
class Root {}

const app = await NestFactory.createApplicationContext(Root as Type<unknown>, {
  logger: ['error'],
});
const registry = app.get(EnhancedFunctionRegistry);
if (role === 'watcher') {
  app.get(FunctionsMetrics).watch().subscribe();
  app.get(FunctionsMetrics).bottlenecks().subscribe();
}
process.on('message', (inFlight: number) => {
  void callFor(inFlight).then((calls) => {
    const { user, system } = process.cpuUsage();
    process.send?.({ calls, cpu: user + system } satisfies Answer);
  });
});
process.once('disconnect', () => process.exit(0));
process.send?.('ready');

async function load<T>(path: string): Promise<T> {
  return (await import(pathToFileURL(resolve(folder, path)).href)) as T;
}

async function callFor(inFlight: number): Promise<number> {
  let done = 0;
  const begin = performance.now();
  const chain = async (): Promise<void> => {
    while (performance.now() - begin < PHASE_MS) {
      await registry.call('echo', { n: 1 });
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, chain));
  return done;
}
