import 'reflect-metadata';
import { randomBytes } from 'node:crypto';
import {
  Module,
  type DynamicModule,
  type INestApplicationContext,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Redis } from 'ioredis';
import { FunctionsModule, type FunctionsOptions } from '../../src/index.js';

/** The Redis of this test run. */
export function redisUrl(): string {
  const url = process.env['TEST_REDIS_URL'];
  if (url === undefined)
    throw new Error('TEST_REDIS_URL is missing: the global set-up did not run');
  return url;
}

/** A prefix of its own for a test: what separates it from every other one. */
export function uniquePrefix(): string {
  return `t-${randomBytes(5).toString('hex')}:`;
}

@Module({})
class RootModule {}

/** A root module around handlers and the functions module. */
export function rootModule(
  options: FunctionsOptions,
  parts: {
    providers?: unknown[];
    controllers?: Type<unknown>[];
    imports?: (DynamicModule | Type<unknown>)[];
  } = {},
): DynamicModule {
  return {
    module: RootModule,
    imports: [
      FunctionsModule.forRoot({ ...options, connection: options.connection ?? redisUrl() }),
      ...(parts.imports ?? []),
    ],
    providers: (parts.providers ?? []) as NonNullable<DynamicModule['providers']>,
    controllers: parts.controllers ?? [],
  };
}

/**
 * The applications of one test file's test: all on one key prefix, all closed, and nothing left behind.
 *
 * ```ts
 * const fleet = new Fleet();
 * afterEach(() => fleet.close());
 * const worker = await fleet.start({ providers: [Handlers] });
 * const caller = await fleet.start({ options: { worker: false } });
 * ```
 */
export class Fleet {
  readonly prefix = uniquePrefix();
  private readonly apps = new Set<INestApplicationContext>();
  private client: Redis | undefined;

  constructor(private readonly url: string = redisUrl()) {}

  /** Boots an application context; its functions are registered when this resolves. */
  async start(
    parts: {
      options?: FunctionsOptions;
      providers?: unknown[];
      controllers?: Type<unknown>[];
      imports?: (DynamicModule | Type<unknown>)[];
    } = {},
  ): Promise<INestApplicationContext> {
    const options = { connection: this.url, keyPrefix: this.prefix, ...parts.options };
    const app = await NestFactory.createApplicationContext(rootModule(options, parts), {
      logger: false,
      abortOnError: false,
    });
    this.apps.add(app);
    return app;
  }

  /** Closes one application, as a shutdown does. */
  async stop(app: INestApplicationContext): Promise<void> {
    this.apps.delete(app);
    await app.close();
  }

  /** A bare client on the same Redis, to look at what is there. */
  get redis(): Redis {
    this.client ??= new Redis(this.url);
    return this.client;
  }

  /** Keys of this test that exist now. */
  async keys(): Promise<string[]> {
    return (await this.redis.keys(`${this.prefix}*`)).sort();
  }

  /** Closes what is open and removes the test's keys. */
  async close(): Promise<void> {
    await Promise.all([...this.apps].map((app) => app.close()));
    this.apps.clear();
    const keys = await this.keys();
    if (keys.length > 0) await this.redis.del(...keys);
    this.redis.disconnect();
    this.client = undefined;
  }
}
