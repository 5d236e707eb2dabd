/**
 * A listener of the storm: it watches the metrics of the fleet, and its bottlenecks, for some seconds, then looks once
 * at one function, and begins anew. What it is told is in its history.
 */
import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  FunctionsMetrics,
  FunctionsModule,
  isFunctionsError,
  type FleetMetrics,
} from '../../src/index.js';
import { Random } from '../harness/random.js';
import { HistoryLog, type Count } from './history.js';
import { bootStep, StormLogger } from './storm-log.js';

const env = (name: string): string => process.env[name] ?? '';
const history = new HistoryLog(env('HISTORY'), env('WHO'));
const random = new Random(Number(env('SEED')));

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: env('REDIS_URL'),
      keyPrefix: env('KEY_PREFIX'),
      leaseMs: Number(env('LEASE_MS')),
      worker: false,
    }),
  ],
})
class ListenerModule {}

const app = await NestFactory.createApplicationContext(ListenerModule, {
  logger: new StormLogger(history),
});
const metrics = app.get(FunctionsMetrics);
const ended = new AbortController();

function countsOf({ functions }: FleetMetrics): Count[] {
  return functions
    .filter(({ functionName }) => !functionName.startsWith('bell-'))
    .flatMap(({ functionName: fn, processes }) =>
      processes.map(({ processId, since, timestamp, calls, run }) => {
        return { fn, process: processId, since, at: timestamp, calls, runs: run.count };
      }),
    );
}

/** Watches for so long, or until it fails. */
async function watch(ms: number): Promise<void> {
  let code: string | undefined;
  history.note({ e: 'listening' });
  const failed = new AbortController();
  const watching = metrics.watch().subscribe({
    next: (view) => history.note({ e: 'measured', via: 'watch', counts: countsOf(view) }),
    error: (error: unknown) => {
      code = isFunctionsError(error) ? error.code : String(error);
      failed.abort();
    },
  });
  const bottlenecks = metrics.bottlenecks().subscribe({ error: () => undefined });
  await pause(ms, undefined, { signal: AbortSignal.any([failed.signal, ended.signal]) }).catch(
    () => undefined,
  );
  watching.unsubscribe();
  bottlenecks.unsubscribe();
  history.note({ e: 'deaf', code });
}

async function look(): Promise<void> {
  try {
    const view = await metrics.snapshot({ functionName: 'work' });
    history.note({ e: 'measured', via: 'snapshot', counts: countsOf(view) });
  } catch (error) {
    const code = isFunctionsError(error) ? error.code : String(error);
    if (code !== 'CLOSED') history.note({ e: 'deaf', code });
  }
}

process.once('SIGTERM', () => {
  ended.abort();
  history.note({ e: 'stopping' });
  void app.close().then(() => {
    process.disconnect();
    setImmediate(() => history.note({ e: 'closed', resources: process.getActiveResourcesInfo() }));
  });
});
history.note(bootStep());
process.send?.({ type: 'ready' });
while (!ended.signal.aborted) {
  await watch(4_000 + random.below(8_000));
  if (ended.signal.aborted) break;
  if (random.below(2) === 0) await look();
  await pause(random.below(1_000), undefined, { signal: ended.signal }).catch(() => undefined);
}
