import { Module, type DynamicModule } from '@nestjs/common';
import { FunctionsModule } from 'nestjs-functions';
import { TELL, type Tell } from './application.js';
import { CallMaker } from './call-maker.js';
import { POLL_INTERVAL_MS, render } from './contract.js';
import type { DemoEnvironment } from './environment.js';

/** The caller: hosts nothing, only calls. */
@Module({})
export class CallerModule {
  static for({ connection, keyPrefix }: DemoEnvironment, tell: Tell): DynamicModule {
    const functions = FunctionsModule.forRoot({
      connection,
      keyPrefix,
      worker: false,
      pollIntervalMs: POLL_INTERVAL_MS,
      // Without a worker of `render` this application is not ready, and says why.
      health: { required: [{ functionName: render.name, workflowId: 'demo' }] },
    });
    const providers = [CallMaker, { provide: TELL, useValue: tell }];
    return { module: CallerModule, imports: [functions], providers };
  }
}
