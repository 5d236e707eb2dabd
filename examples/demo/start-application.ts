import 'reflect-metadata';
import type { NestApplicationOptions } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { NestFactory } from '@nestjs/core';
import { NotificationManager, WorkerCoordinator, type Notification } from 'nestjs-functions';
import type { Application, Tell } from './application.js';
import { CallMaker } from './call-maker.js';
import { CallerModule } from './caller.module.js';
import type { DemoEnvironment } from './environment.js';
import { now } from './messages.js';
import type { RunLog } from './run-log.js';
import { WorkerModule } from './worker.module.js';

const NEST: NestApplicationOptions = { logger: ['error', 'fatal'], abortOnError: false };

/** Starts what the environment says. */
export async function startApplication(
  environment: DemoEnvironment,
  runs: RunLog,
  tell: Tell,
): Promise<Application> {
  const { role, port } = environment;
  const module =
    role === 'caller' ? CallerModule.for(environment, tell) : WorkerModule.for(environment, runs);
  const app = await NestFactory.create<NestExpressApplication>(module, NEST);
  await app.listen(port, '127.0.0.1');
  const application = role === 'caller' ? await asCaller(app, tell) : asWorker(app, tell);
  tell({ event: 'up', port });
  return application;
}

/** Makes calls as it is told, and passes on what it hears of the workers. */
async function asCaller(app: NestExpressApplication, tell: Tell): Promise<Application> {
  await app
    .get(NotificationManager)
    .subscribePattern<Notification>('function:*:render:demo', ({ data }) =>
      tell({ event: 'news', at: now(), news: data }),
    );
  const calls = app.get(CallMaker);
  return { perform: (command) => calls.perform(command), close: () => app.close() };
}

/** Hosts `render`, and drains when it is closed. */
function asWorker(app: NestExpressApplication, tell: Tell): Application {
  const coordinator = app.get(WorkerCoordinator);
  return {
    perform: () => Promise.reject(new Error('a worker makes no calls')),
    close: async () => {
      // Nest's shutdown hook drains; asked for it once more, the coordinator tells what came of it.
      const drained = coordinator.drain().then((drain) => tell({ event: 'drained', ...drain }));
      await Promise.all([drained, app.close()]);
    },
  };
}
