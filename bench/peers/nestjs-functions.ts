import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  defineFunction,
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsModule,
} from 'nestjs-functions';
import { WORKER_CONCURRENCY, type Payload, type Peer } from './peer.js';

const echo = defineFunction<Payload, Payload>({ name: 'echo' });

@Injectable()
class Echo {
  @FunctionHandler(echo)
  echo(payload: Payload): Payload {
    return payload;
  }
}

/** The project as a user has it: Nest applications, the built package, default options, everything on. */
export const nestjsFunctions: Peer = {
  async openWorker({ redisUrl, keyPrefix }) {
    @Module({
      imports: [
        FunctionsModule.forRoot({
          connection: redisUrl,
          keyPrefix,
          concurrency: WORKER_CONCURRENCY,
        }),
      ],
      providers: [Echo],
    })
    class WorkerModule {}
    const app = await NestFactory.createApplicationContext(WorkerModule, {
      logger: ['warn', 'error'],
    });
    return () => app.close();
  },

  async openCaller({ redisUrl, keyPrefix }) {
    @Module({
      imports: [FunctionsModule.forRoot({ connection: redisUrl, keyPrefix, worker: false })],
    })
    class CallerModule {}
    const app = await NestFactory.createApplicationContext(CallerModule, {
      logger: ['warn', 'error'],
    });
    const functions = app.get(EnhancedFunctionRegistry);
    await functions.waitForFunction(echo.name, 'default');
    return { call: (payload) => functions.call(echo, payload), close: () => app.close() };
  },
};
