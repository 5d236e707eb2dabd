import 'reflect-metadata';
import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EnhancedFunctionRegistry, FunctionsModule, WorkerCoordinator } from 'nestjs-functions';
import { WORKER_CONCURRENCY, type PeerSettings } from '../peers/peer.js';
import { cpuMs } from './cpu-ms.js';
import { functionName, WORKFLOW } from './function-name.js';
import { createHostClass, type Work } from './host-class.js';
import { ReadyClock } from './ready-clock.js';
import { benchSettings, serve } from './serve.js';

/** Workers of the project. */
export interface HostSettings extends PeerSettings {
  /** Functions of each worker. */
  readonly functions: number;
  /** Applications in this process; each is a worker with connections, lease and presence of its own. */
  readonly workers: number;
  /** `hold`: calls are answered once the process is told to release them. */
  readonly handler: 'echo' | 'hold';
}

const settings = benchSettings<HostSettings>();
const apps: INestApplicationContext[] = [];
let release: () => void = () => undefined;
const released = new Promise<void>((resolve) => (release = resolve));
let readyClock: ReadyClock | undefined;

const commands = {
  /** Registers the first function's worker and tells when `ready` left. */
  async register(): Promise<number> {
    readyClock ??= new ReadyClock(
      `${settings.keyPrefix}function:ready:${functionName(0)}:${WORKFLOW}`,
    );
    const { registry, workerId } = firstWorker();
    await registry.registerWorkerWithInstantNotification(workerId, functionName(0), WORKFLOW);
    return readyClock.take();
  },
  async unregister(): Promise<void> {
    const { registry, workerId } = firstWorker();
    await registry.unregisterWorkerWithNotification(workerId, functionName(0), WORKFLOW);
  },
  release: () => release(),
  cpuMs: () => cpuMs(),
};

export type HostCommands = typeof commands;

async function main(): Promise<void> {
  const handle = async (work: Work): Promise<Work> => {
    await released;
    return work;
  };
  const host = createHostClass(
    settings.functions,
    settings.handler === 'hold' ? handle : (work) => work,
  );
  for (let worker = 0; worker < settings.workers; worker++) apps.push(await createApp(host));
  serve(commands, () => Promise.all(apps.map((app) => app.close())));
}

async function createApp(
  host: ReturnType<typeof createHostClass>,
): Promise<INestApplicationContext> {
  @Module({
    imports: [
      FunctionsModule.forRoot({
        connection: settings.redisUrl,
        keyPrefix: settings.keyPrefix,
        concurrency: WORKER_CONCURRENCY,
      }),
    ],
    providers: [host],
  })
  class HostModule {}
  const app = await NestFactory.createApplicationContext(HostModule, { logger: ['error'] });
  await app.get(WorkerCoordinator).whenActive();
  return app;
}

function firstWorker(): { registry: EnhancedFunctionRegistry; workerId: string } {
  const [app] = apps;
  if (app === undefined) throw new Error('the application is not up yet');
  return {
    registry: app.get(EnhancedFunctionRegistry),
    workerId: app.get(WorkerCoordinator).workerId,
  };
}

void main();
