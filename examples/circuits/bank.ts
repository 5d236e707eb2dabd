import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FunctionHandler, FunctionsModule, WorkerCoordinator } from 'nestjs-functions';
import { charge } from './charge.contract.js';

/** Whether the bank answers is up to the parent. */
let isDown = false;
let calls = 0;

@Injectable()
class Bank {
  @FunctionHandler(charge)
  charge({ cents }: { cents: number }): { receipt: string } {
    calls += 1;
    if (isDown) throw new Error('the bank does not answer');
    return { receipt: `${cents} cents` };
  }
}

@Module({ imports: [FunctionsModule.forRoot()], providers: [Bank] })
class BankModule {}

// Without a logger: that calls fail is what this is about.
const app = await NestFactory.createApplicationContext(BankModule, { logger: false });
app.enableShutdownHooks([], { useProcessExit: true });
await app.get(WorkerCoordinator).whenActive();
process.on('message', (message: { isDown?: boolean }) => {
  if (message.isDown !== undefined) isDown = message.isDown;
  process.send?.({ calls });
  calls = 0;
});
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
process.send?.('ready');
