/**
 * A caller of `work`, in a process of its own, whose circuit the parent configures. It tells every change of the circuit
 * and, on `stop`, what became of its calls.
 */
import 'reflect-metadata';
import { createRequire } from 'node:module';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, FunctionsModule, type CircuitOptions } from '../../src/index.js';

const {
  REDIS_URL: connection = '',
  KEY_PREFIX: keyPrefix = '',
  CIRCUIT: circuit = 'false',
} = process.env;
const tell = (message: object): void => void process.send?.(message);
/** One clock for all processes of a host. */
const now = (): number => performance.timeOrigin + performance.now();

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection,
      keyPrefix,
      worker: false,
      supervise: false,
      leaseMs: Number(process.env['LEASE_MS'] ?? 5_000),
      circuit: JSON.parse(circuit) as boolean | CircuitOptions,
    }),
  ],
})
class CallerModule {}

const app = await NestFactory.createApplicationContext(CallerModule, { logger: ['error'] });
const functions = app.get(EnhancedFunctionRegistry);
const results: Record<string, number> = {};
let calling: NodeJS.Timeout | undefined;

if (circuit !== 'false') {
  functions.getCircuit('work').on('change', ({ from, to, reason }) => {
    tell({ type: to, from, reason, at: now() });
  });
  await functions.getCircuit('work').refresh();
}

async function call(): Promise<void> {
  const code = await functions.call('work', {}, { timeoutMs: 60_000 }).then(
    () => 'OK',
    ({ code, message }: { code?: string; message: string }) => code ?? message,
  );
  results[code] = (results[code] ?? 0) + 1;
  tell({ type: `called ${code}` });
}

process.on('message', (message: { type: string; everyMs?: number; forMs?: number }) => {
  const { type, everyMs = 5, forMs } = message;
  if (type === 'call') void call();
  if (type === 'calls') calling = setInterval(() => void call(), everyMs);
  if (type === 'stop') {
    clearInterval(calling);
    tell({ type: 'results', results: { ...results } });
  }
  if (type === 'open') void functions.getCircuit('work').open('by hand', forMs);
  if (type === 'close') void functions.getCircuit('work').close();
  if (type === 'loaded') {
    const files = Object.keys(createRequire(import.meta.url).cache);
    tell({ type: 'files', breaker: files.some((file) => file.includes('/cockatiel/')) });
  }
});
tell({ type: 'ready' });
