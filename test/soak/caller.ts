/**
 * A caller of the storm: several loops, each with one call out at a time, of all kinds; every call and how it
 * settled is in its history. It ends its loops when it is told `stop`, and says `idle` when nothing is out.
 */
import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  EnhancedFunctionRegistry,
  FunctionsModule,
  isFunctionsError,
  type CallOptions,
} from '../../src/index.js';
import { Random } from '../harness/random.js';
import { HistoryLog, monotonicMs, type CallMade } from './history.js';
import { StormLogger } from './storm-log.js';

const env = (name: string): string => process.env[name] ?? '';
const history = new HistoryLog(env('HISTORY'), env('WHO'));
const random = new Random(Number(env('SEED')));
const bells = Number(env('BELLS'));

/** Long enough to outlast every fault of the plan: such a call has to succeed. */
const PATIENT_MS = 40_000;
/** Calls of this long share an idempotency key, whichever process makes them. */
const KEY_PERIOD_MS = 900;

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
class CallerModule {}

interface Plan {
  readonly kind: string;
  readonly fn: string;
  readonly ms: number;
  readonly fails?: number;
  readonly options?: CallOptions;
  readonly impatient?: boolean;
  /** Cancels after so long. */
  readonly cancelMs?: number;
}

const KINDS: readonly (() => Plan)[] = [
  () => ({ kind: 'plain', fn: 'work', ms: random.below(30) }),
  () => ({ kind: 'plain', fn: 'work', ms: random.below(30) }),
  () => ({ kind: 'slow', fn: 'work', ms: 200 + random.below(1_500) }),
  () => ({
    kind: 'once',
    fn: 'work',
    ms: random.below(400),
    options: { delivery: 'at-most-once' },
  }),
  () => ({
    kind: 'hasty',
    fn: 'work',
    ms: random.below(200),
    options: { timeoutMs: 20 + random.below(250) },
    impatient: true,
  }),
  () => ({
    kind: 'stubborn',
    fn: 'stubborn',
    ms: random.below(500),
    options: { timeoutMs: 50 + random.below(400) },
    impatient: true,
  }),
  () => ({
    kind: 'cancelled',
    fn: 'work',
    ms: random.below(300),
    cancelMs: random.below(120),
    impatient: true,
  }),
  () => ({ kind: 'flaky', fn: 'flaky', ms: random.below(20), fails: random.below(4) }),
  () => ({ kind: 'chatty', fn: 'chatty', ms: random.below(60) }),
  () => ({
    kind: 'keyed',
    fn: 'work',
    ms: random.below(250),
    options: { idempotencyKey: `k-${Math.floor(monotonicMs() / KEY_PERIOD_MS)}` },
  }),
  () => ({ kind: 'bell', fn: `bell-${random.below(bells)}`, ms: random.below(80) }),
  () => ({ kind: 'bell', fn: `bell-${random.below(bells)}`, ms: random.below(80) }),
  () => ({
    kind: 'unwaiting',
    fn: 'work',
    ms: 5,
    options: { ifUnavailable: 'fail' },
    impatient: true,
  }),
];

const app = await NestFactory.createApplicationContext(CallerModule, {
  logger: new StormLogger(history),
});
const registry = app.get(EnhancedFunctionRegistry);
let going = true;

async function call(plan: Plan): Promise<void> {
  const { kind, fn, ms, fails = 0, impatient = false, cancelMs } = plan;
  const timeoutMs = plan.options?.timeoutMs ?? PATIENT_MS;
  const options: CallOptions = { ...plan.options, timeoutMs, readinessTimeoutMs: PATIENT_MS };
  const id = randomUUID();
  const made: CallMade = {
    e: 'call',
    id,
    kind,
    fn,
    delivery: options.delivery ?? 'at-least-once',
    key: options.idempotencyKey,
    fails,
    timeoutMs,
    readinessTimeoutMs: PATIENT_MS,
    impatient,
  };
  const cancel = new AbortController();
  const timer = cancelMs === undefined ? undefined : setTimeout(() => cancel.abort(), cancelMs);
  history.note(made);
  try {
    const { run, attempt } = await registry.call<{ run: string; attempt: number }>(
      fn,
      { id, ms, fails },
      { ...options, signal: cancel.signal, onProgress: () => undefined },
    );
    history.note({ e: 'settled', id, run, attempt });
  } catch (error) {
    history.note({ e: 'settled', id, code: isFunctionsError(error) ? error.code : String(error) });
  } finally {
    clearTimeout(timer);
  }
}

async function loop(): Promise<void> {
  while (going) {
    await call(random.pick(KINDS)());
    const gapMs = random.below(60);
    await new Promise((resolve) => setTimeout(resolve, gapMs));
  }
}

process.on('message', (message: { type: string }) => {
  if (message.type === 'stop') going = false;
});
process.once('SIGTERM', () => {
  going = false;
  history.note({ e: 'stopping' });
  void app.close().then(() => {
    process.disconnect();
    setImmediate(() => history.note({ e: 'closed', resources: process.getActiveResourcesInfo() }));
  });
});
history.note({ e: 'booted' });
process.send?.({ type: 'ready' });
await Promise.all(Array.from({ length: Number(env('LOOPS')) }, loop));
if (process.connected) process.send?.({ type: 'idle' });
