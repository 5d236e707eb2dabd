/**
 * What a closed circuit costs a call: `node --import ./tools/register-ts.mjs test/circuit/price.ts`. One caller and one
 * worker, as processes of their own, with a Redis of their own; calls with and without a circuit take turns.
 */
import 'reflect-metadata';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { NestFactory } from '@nestjs/core';
import { defineFunction, EnhancedFunctionRegistry } from '../../src/index.js';
import { startRedis } from '../../tools/redis.mjs';
import { rootModule } from '../harness/apps.js';
import { hosting } from '../harness/host.js';

const [PHASE_MS, TURNS] = [
  Number(process.env['PHASE_MS'] ?? 1_500),
  Number(process.env['TURNS'] ?? 8),
];
const connection = process.env['PRICE_REDIS_URL'];
const logger: ['error'] = ['error'];

if (connection !== undefined) {
  const hosts = ['off', 'on'].map((name) => hosting(name, (input) => input));
  const root = rootModule({ connection, concurrency: 1_000 }, { providers: hosts });
  await NestFactory.createApplicationContext(root, { logger });
  process.once('disconnect', () => process.exit(0));
  process.send?.('ready');
} else {
  const redis = await startRedis();
  const env = { ...process.env, PRICE_REDIS_URL: redis.url };
  const worker = fork(fileURLToPath(import.meta.url), { env, execArgv: process.execArgv });
  await once(worker, 'message');
  const root = rootModule({ connection: redis.url, worker: false });
  const app = await NestFactory.createApplicationContext(root, { logger });
  await measure(app.get(EnhancedFunctionRegistry));
  await app.close();
  worker.disconnect();
  await once(worker, 'exit');
  await redis.stop();
}

async function measure(registry: EnhancedFunctionRegistry): Promise<void> {
  const functions = {
    off: defineFunction<{ n: number }>({ name: 'off' }),
    on: defineFunction<{ n: number }>({ name: 'on', circuit: true }),
  };
  for (const inFlight of [1, 64]) {
    const rates: Record<keyof typeof functions, number[]> = { off: [], on: [] };
    for (let turn = 0; turn <= TURNS; turn += 1) {
      for (const name of turn % 2 === 0 ? (['off', 'on'] as const) : (['on', 'off'] as const)) {
        const rate = await rateOf(() => registry.call(functions[name], { n: 1 }), inFlight);
        // The first turn warms up.
        if (turn > 0) rates[name].push(rate);
      }
    }
    const [off, on] = [median(rates.off), median(rates.on)];
    const ratios = rates.on.map((rate, index) => rate / (rates.off[index] ?? NaN));
    console.log(
      `${inFlight} in flight: off ${off.toFixed(0)} calls/s, on ${on.toFixed(0)}; ` +
        `on/off per turn: median ${median(ratios).toFixed(3)}, ${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}`,
    );
  }
}

async function rateOf(call: () => Promise<unknown>, inFlight: number): Promise<number> {
  let done = 0;
  const begin = performance.now();
  const chain = async (): Promise<void> => {
    while (performance.now() - begin < PHASE_MS) {
      await call();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, chain));
  return (done * 1_000) / (performance.now() - begin);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}
