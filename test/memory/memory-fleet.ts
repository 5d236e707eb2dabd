import type { INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { rootModule, uniquePrefix } from '../harness/apps.js';
import type { FunctionsOptions } from '../../src/index.js';

/** The applications of one test, on a memory of their own. */
export class MemoryFleet {
  readonly connection = `memory://${uniquePrefix().replace(':', '')}`;
  private readonly apps = new Set<INestApplicationContext>();

  async start(
    parts: { options?: FunctionsOptions; providers?: Type<unknown>[] } = {},
  ): Promise<INestApplicationContext> {
    const options = { connection: this.connection, ...parts.options };
    const app = await NestFactory.createApplicationContext(rootModule(options, parts), {
      logger: false,
      abortOnError: false,
    });
    this.apps.add(app);
    return app;
  }

  async stop(app: INestApplicationContext): Promise<void> {
    this.apps.delete(app);
    await app.close();
  }

  async close(): Promise<void> {
    await Promise.all([...this.apps].map((app) => this.stop(app)));
  }
}
