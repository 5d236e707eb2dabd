import 'reflect-metadata';
import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionReadinessWatcher,
  FunctionsMetrics,
  FunctionsModule,
  WorkerCoordinator,
} from 'nestjs-functions';
import { inFlight, type ThroughputReport } from '../load/in-flight.js';
import { oneAtATime, type LatencyReport } from '../load/one-at-a-time.js';
import type { PeerSettings } from '../peers/peer.js';
import { cpuMs } from './cpu-ms.js';
import { functionName, WORKFLOW } from './function-name.js';
import { Listening, type Wait } from './listening.js';
import { Pending } from './pending.js';
import { benchSettings, serve } from './serve.js';

interface Load {
  /** Calls go to functions 0 to this in turn. */
  readonly functions: number;
  readonly durationMs: number;
  readonly leadInMs: number;
}

const settings = benchSettings<PeerSettings>();
const WAIT_LIMIT_MS = 60_000;
const TEXT = 'x'.repeat(100);

/** The caller of the growth benchmarks: a Nest application that only calls. */
async function main(): Promise<void> {
  const app = await createApp();
  serve(createCommands(app), () => app.close());
}

export type ProjectCallerCommands = ReturnType<typeof createCommands>;

function createCommands(app: INestApplicationContext) {
  const functions = app.get(EnhancedFunctionRegistry);
  const listening = new Listening(functions);
  const pending = new Pending(functions);
  return {
    /** Watches functions 0 to `count`: the first call of each would do it. */
    prepare: async (count: number): Promise<void> => {
      const names = Array.from({ length: count }, (_, index) => functionName(index));
      await Promise.all(
        names.map((name) => functions.waitForFunction(name, WORKFLOW, WAIT_LIMIT_MS)),
      );
    },
    latency: (load: Load): Promise<LatencyReport> =>
      oneAtATime(callInTurn(functions, load.functions), load.durationMs, load.leadInMs),
    throughput: (load: Load & { lanes: number }): Promise<ThroughputReport> =>
      inFlight(callInTurn(functions, load.functions), load.lanes, load.durationMs, load.leadInMs),
    arm: ({ how, count }: { how: Wait; count: number }): Promise<void> => listening.arm(how, count),
    released: () => listening.released(),
    /** Forgets the function: another listener is measured alone. */
    stopWatching: (): Promise<boolean> =>
      app.get(FunctionReadinessWatcher).stopWatching(functionName(0), WORKFLOW),
    /** Watches what is measured of the first function, until the process ends. */
    listenToMetrics: (): void => {
      const metrics = app.get(FunctionsMetrics);
      const filter = { functionName: functionName(0), workflowId: WORKFLOW };
      metrics.watch(filter).subscribe();
      metrics.bottlenecks(filter).subscribe();
    },
    status: (count: number): Promise<number> => statusMs(functions, count),
    submit: (count: number): number => pending.submit(count),
    settled: (): Promise<number> => pending.settled(),
    usedBytes: (): number => pending.usedBytes(),
    cpuMs: (): number => cpuMs(),
    isSupervisor: (): boolean => app.get(WorkerCoordinator).isSupervisor,
  };
}

function createApp(): Promise<INestApplicationContext> {
  @Module({
    imports: [
      FunctionsModule.forRoot({
        connection: settings.redisUrl,
        keyPrefix: settings.keyPrefix,
        worker: false,
      }),
    ],
  })
  class CallerModule {}
  return NestFactory.createApplicationContext(CallerModule, { logger: ['error'] });
}

function callInTurn(functions: EnhancedFunctionRegistry, count: number): () => Promise<unknown> {
  const names = Array.from({ length: count }, (_, index) => functionName(index));
  let turn = 0;
  return () => {
    const name = names[turn++ % count] ?? '';
    return functions.call(name, { text: TEXT }, { workflowId: WORKFLOW });
  };
}

/** Milliseconds that so many questions for a function's status take, one awaited after the other. */
async function statusMs(functions: EnhancedFunctionRegistry, count: number): Promise<number> {
  const name = functionName(0);
  const from = performance.now();
  for (let question = 0; question < count; question++)
    await functions.getInstantWorkerStatus(name, WORKFLOW);
  return performance.now() - from;
}

void main();
