import 'reflect-metadata';
import { Injectable, Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsMetrics,
  FunctionsModule,
} from 'nestjs-functions';
import { filter, firstValueFrom, skip } from 'rxjs';

// In one process, so that it needs nothing: with a Redis these would be processes of a fleet.
const connection = process.env['REDIS_URL'] ?? 'memory://metrics-example';

/** How long `resize` takes at each worker. */
const paces = new Map([
  ['worker-1', 10],
  ['worker-2', 10],
]);

async function startWorker(workerId: string): Promise<INestApplicationContext> {
  @Injectable()
  class Images {
    @FunctionHandler({ name: 'resize', workflowId: 'media', concurrency: 10 })
    resize(): Promise<string> {
      return new Promise((resolve) => setTimeout(resolve, paces.get(workerId), workerId));
    }
  }
  @Module({ imports: [FunctionsModule.forRoot({ connection, workerId })], providers: [Images] })
  class WorkerModule {}
  return NestFactory.createApplicationContext(WorkerModule, { logger: ['error'] });
}

@Module({ imports: [FunctionsModule.forRoot({ connection, worker: false, workerId: 'caller' })] })
class CallerModule {}

const workers = await Promise.all([...paces.keys()].map(startWorker));
const caller = await NestFactory.createApplicationContext(CallerModule, { logger: ['error'] });
const functions = caller.get(EnhancedFunctionRegistry);
const metrics = caller.get(FunctionsMetrics);

/** A hundred calls a second. */
const calls = setInterval(() => {
  functions.call('resize', {}, { workflowId: 'media' }).catch(console.error);
}, 10);

const bottlenecks = metrics.bottlenecks();
const watching = metrics.watch().subscribe(({ functions: [resize] }) => {
  if (resize === undefined) return;
  const { callsPerSecond, roundTrip, running, backlog } = resize;
  console.log(
    `${callsPerSecond.toFixed(0)} calls/s, p50 ${roundTrip.p50Ms} ms, p99 ${roundTrip.p99Ms} ms, ` +
      `${running} running, ${backlog?.waiting ?? 0} waiting in Redis`,
  );
});
await firstValueFrom(metrics.watch().pipe(skip(3)));

console.log('worker-2 takes 20 times as long from now on');
paces.set('worker-2', 200);
const slow = await firstValueFrom(bottlenecks.pipe(filter(({ state }) => state === 'began')));
console.log(`bottleneck: ${slow.kind} ${'workerId' in slow ? slow.workerId : ''}`, slow.figures);

console.log('and is well again');
paces.set('worker-2', 10);
const ended = await firstValueFrom(bottlenecks.pipe(filter(({ state }) => state === 'ended')));
console.log(`${ended.kind} ended`);

clearInterval(calls);
watching.unsubscribe();
await Promise.all([caller, ...workers].map((app) => app.close()));
console.log('done');
