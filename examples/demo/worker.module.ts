import { Module, type DynamicModule } from '@nestjs/common';
import { FunctionsModule } from 'nestjs-functions';
import type { DemoEnvironment } from './environment.js';
import { OUTPUT_FOLDER, Renderer } from './renderer.js';
import { RUN_LOG, type RunLog } from './run-log.js';

/** A worker: hosts `render`, and answers /health. */
@Module({})
export class WorkerModule {
  static for(environment: DemoEnvironment, runs: RunLog): DynamicModule {
    const { connection, keyPrefix, workerId, folder, drainTimeoutMs } = environment;
    const functions = FunctionsModule.forRoot({
      connection,
      keyPrefix,
      workerId,
      ...(drainTimeoutMs === undefined ? {} : { drainTimeoutMs }),
      health: true,
    });
    const providers = [
      Renderer,
      { provide: RUN_LOG, useValue: runs },
      { provide: OUTPUT_FOLDER, useValue: folder },
    ];
    return { module: WorkerModule, imports: [functions], providers };
  }
}
