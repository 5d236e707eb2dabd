import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, FunctionsModule, isFunctionsError } from 'nestjs-functions';
import { charge } from './charge.contract.js';

/** Ten customers a second. */
const EVERY_MS = 100;
const name = process.argv[2] ?? 'shop';

@Module({ imports: [FunctionsModule.forRoot({ worker: false })] })
class ShopModule {}

const app = await NestFactory.createApplicationContext(ShopModule, { logger: ['error'] });
const functions = app.get(EnhancedFunctionRegistry);
const circuit = functions.getCircuit(charge);
circuit.on('change', ({ from, to, reason }) => {
  process.send?.({ name, from, to, reason, at: performance.timeOrigin + performance.now() });
});

/** What a customer sees. */
async function pay(): Promise<string> {
  try {
    return (await functions.call(charge, { cents: 499 })).receipt;
  } catch (error) {
    // At once, and without troubling the bank: pay later.
    if (isFunctionsError(error, 'CIRCUIT_OPEN')) return 'later';
    return 'failed';
  }
}

const calling = setInterval(() => void pay(), EVERY_MS);
process.once('disconnect', () => {
  clearInterval(calling);
  void app.close();
});
process.send?.('ready');
