import type {
  DynamicModule,
  INestApplication,
  INestApplicationContext,
  LoggerService,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Redis } from 'ioredis';
import type { FunctionsOptions } from '../../src/index.js';
import { redisUrl, uniquePrefix } from './apps.js';

/**
 * Nest applications of a test in the shape that the test needs (HTTP, contexts with a module of its own),
 * closed in the opposite order, and their keys removed. For plain workers and callers there is `Fleet`.
 */
export class NestApps {
  readonly prefix = uniquePrefix();
  private readonly closers: (() => unknown)[] = [];
  private client: Redis | undefined;

  constructor(private readonly url: string = redisUrl()) {}

  /** Module options on this test's Redis and prefix. */
  options(more: FunctionsOptions = {}): FunctionsOptions {
    return { connection: this.url, keyPrefix: this.prefix, ...more };
  }

  /** An application context, started. */
  async context(
    module: DynamicModule,
    logger: LoggerService | false = false,
  ): Promise<INestApplicationContext> {
    const app = await NestFactory.createApplicationContext(module, { logger, abortOnError: false });
    return this.track(app);
  }

  /** An HTTP application on Express that was created, and neither initialised nor listening. */
  async http(
    module: DynamicModule,
    logger: LoggerService | false = false,
  ): Promise<INestApplication> {
    return this.track(await NestFactory.create(module, { logger, abortOnError: false }));
  }

  /** Closes it with the others. */
  track<T extends { close(): unknown }>(app: T): T {
    this.closers.push(() => app.close());
    return app;
  }

  /** A bare client on the same Redis. */
  get redis(): Redis {
    this.client ??= new Redis(this.url);
    return this.client;
  }

  async close(): Promise<void> {
    for (const close of this.closers.splice(0).reverse()) await close();
    const keys = await this.redis.keys(`${this.prefix}*`);
    if (keys.length > 0) await this.redis.del(...keys);
    this.redis.disconnect();
    this.client = undefined;
  }
}
