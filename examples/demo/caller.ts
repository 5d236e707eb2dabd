import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { FunctionsModule, NotificationManager, type Notification } from 'nestjs-functions';
import { CallMaker } from './call-maker.js';
import { POLL_INTERVAL_MS, render } from './contract.js';
import { demoEnvironment } from './environment.js';
import { endWithParent, now, tell, type NumberedCommand } from './messages.js';

const { redisUrl, keyPrefix, port } = demoEnvironment();

@Module({
  imports: [
    FunctionsModule.forRoot({
      connection: redisUrl,
      keyPrefix,
      worker: false,
      pollIntervalMs: POLL_INTERVAL_MS,
      // Without a worker of `render` this process is not ready, and says why.
      health: { required: [{ functionName: render.name, workflowId: 'demo' }] },
    }),
  ],
  providers: [CallMaker],
})
class CallerModule {}

/** The caller process: makes calls as it is told, and passes on what it hears of the workers. */
async function main(): Promise<void> {
  const app = await NestFactory.create<NestExpressApplication>(CallerModule, {
    logger: ['error', 'fatal'],
  });
  app.enableShutdownHooks([], { useProcessExit: true });
  endWithParent();
  await app.listen(port, '127.0.0.1');
  await app
    .get(NotificationManager)
    .subscribePattern<Notification>('function:*:render:demo', ({ data }) =>
      tell({ event: 'news', at: now(), news: data }),
    );
  const calls = app.get(CallMaker);
  process.on('message', (message) => void obey(calls, message as NumberedCommand));
  tell({ event: 'up', port });
}

async function obey(calls: CallMaker, { id, command }: NumberedCommand): Promise<void> {
  try {
    tell({ answerTo: id, result: await calls.perform(command) });
  } catch (error) {
    tell({ answerTo: id, problem: String(error) });
  }
}

void main();
