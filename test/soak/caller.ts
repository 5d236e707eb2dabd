/**
 * A caller of the storm: several loops, each with one call out at a time, of all kinds; every call and how it
 * settled is in its history. Two loops call a function with a circuit, two the workflow `flow`. It ends its loops when
 * it is told `stop`, and says `idle` when nothing is out.
 */
import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionCircuits,
  FunctionsModule,
  OnWorkflowEvent,
  WorkflowNotifier,
  type WorkflowEvent,
} from '../../src/index.js';
import { Random } from '../harness/random.js';
import { RecordedCalls } from './caller-calls.js';
import { FlowCaller, type RestartOrder } from './caller-flow.js';
import { flowKindsOf, fusedCall, kindsOf } from './caller-kinds.js';
import { HistoryLog } from './history.js';
import { CIRCUIT } from './plan.js';
import { bootStep, StormLogger } from './storm-log.js';

const env = (name: string): string => process.env[name] ?? '';
const history = new HistoryLog(env('HISTORY'), env('WHO'));
const random = new Random(Number(env('SEED')));

@Injectable()
class Saves {
  @OnWorkflowEvent('saved', 'flow')
  saved({ generation }: WorkflowEvent): void {
    history.note({ e: 'heard', generation });
  }
}

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: env('REDIS_URL'),
      keyPrefix: env('KEY_PREFIX'),
      leaseMs: Number(env('LEASE_MS')),
      worker: false,
      circuit: { ...CIRCUIT, enabled: false, functions: [{ functionName: 'fused' }] },
    }),
  ],
  providers: [Saves],
})
class CallerModule {}

const app = await NestFactory.createApplicationContext(CallerModule, {
  logger: new StormLogger(history),
});
const registry = app.get(EnhancedFunctionRegistry);
const calls = new RecordedCalls(registry, history);
const flow = new FlowCaller(registry, app.get(WorkflowNotifier), calls, history, random);
const circuits = app.get(FunctionCircuits);
circuits.on('alone', ({ problem }) => history.note({ e: 'alone', problem }));
circuits.on('shared', () => history.note({ e: 'shared' }));
let going = true;

async function loop(step: () => Promise<unknown>, longestGapMs: number): Promise<void> {
  while (going) {
    await step();
    const gapMs = random.below(longestGapMs);
    await new Promise((resolve) => setTimeout(resolve, gapMs));
  }
}

process.on('message', (message: { type: string } | RestartOrder) => {
  if (message.type === 'stop') going = false;
  if (message.type === 'restart-workflow') flow.lead(message as RestartOrder);
  if (message.type === 'circuit')
    process.send?.({ type: 'circuit', state: registry.getCircuit('fused').state });
});
process.once('SIGTERM', () => {
  going = false;
  history.note({ e: 'stopping' });
  void app.close().then(() => {
    process.disconnect();
    setImmediate(() => history.note({ e: 'closed', resources: process.getActiveResourcesInfo() }));
  });
});
history.note(bootStep());
process.send?.({ type: 'ready' });
const kinds = kindsOf(random, Number(env('BELLS')));
const flowKinds = flowKindsOf(random);
const loops = Array.from({ length: Number(env('LOOPS')) }, () =>
  loop(() => calls.make(random.pick(kinds)()), 60),
);
await Promise.all([
  ...loops,
  loop(() => calls.make(fusedCall(random)), 120),
  loop(() => calls.make(fusedCall(random)), 120),
  loop(() => calls.make(random.pick(flowKinds)()), 100),
  loop(() => flow.callGroup(), 100),
]);
await flow.settled();
if (process.connected) process.send?.({ type: 'idle' });
