import { Injectable, Module, type DynamicModule, type Type } from '@nestjs/common';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { randomBytes } from 'node:crypto';
import type { Backend } from '../backend/backend.js';
import { BACKEND } from '../backend/tokens.js';
import { createDeferred, type Deferred } from '../common/deferred.js';
import type { FunctionContext } from '../execution/worker/function-context.js';
import { FunctionsModule } from '../functions.module.js';
import type { FunctionsOptions } from '../functions.options.js';
import { EnhancedFunctionRegistry } from '../registry/enhanced-function-registry.js';
import {
  FunctionHandler,
  type FunctionHandlerOptions,
} from '../registry/function-handler.decorator.js';
import type { BackendUnderTest, ConformanceCase, GuaranteedPromise } from './conformance-case.js';

type Run = (input: Record<string, unknown>, context: FunctionContext) => unknown;

/** A provider with one handler. */
export function hosting(fn: string | FunctionHandlerOptions, run: Run): Type<unknown> {
  class Host {
    handle(input: Record<string, unknown>, context: FunctionContext): unknown {
      return run(input, context);
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Host.prototype, 'handle');
  const decorate = FunctionHandler(typeof fn === 'string' ? { name: fn } : fn) as MethodDecorator;
  decorate(Host.prototype, 'handle', descriptor as PropertyDescriptor);
  Injectable()(Host);
  return Host;
}

/** A handler whose runs start when they are called, and end when the case says so. */
export class HeldRuns {
  readonly contexts: FunctionContext[] = [];
  readonly end = createDeferred<unknown>();
  private readonly first: Deferred<FunctionContext> = createDeferred();

  readonly run: Run = (_, context) => {
    this.contexts.push(context);
    this.first.resolve(context);
    return this.end.promise;
  };

  /** Resolves when the first one has started. */
  get started(): Promise<FunctionContext> {
    return this.first.promise;
  }
}

/** Nothing takes so long that a broken backend would keep a case from its end. */
const LIMITS = { executionTimeoutMs: 5_000, drainTimeoutMs: 2_000 };

@Module({})
class RootModule {}

/** Applications on the backend, under a key prefix of their own. */
export class Applications {
  private readonly keyPrefix = `conformance-${randomBytes(5).toString('hex')}:`;
  private readonly open = new Set<INestApplicationContext>();

  constructor(private readonly backend: BackendUnderTest) {}

  async start(
    providers: readonly Type<unknown>[] = [],
    options: FunctionsOptions = {},
  ): Promise<INestApplicationContext> {
    const connection = (keys: Parameters<BackendUnderTest['create']>[0]): unknown =>
      this.backend.create(keys);
    const { keyPrefix } = this;
    const root: DynamicModule = {
      module: RootModule,
      imports: [FunctionsModule.forRoot({ ...LIMITS, connection, keyPrefix, ...options })],
      providers: [...providers],
    };
    const app = await NestFactory.createApplicationContext(root, {
      logger: false,
      abortOnError: false,
    });
    this.open.add(app);
    return app;
  }

  /** The registry of an application that only calls. */
  async caller(): Promise<EnhancedFunctionRegistry> {
    return (await this.start([], { worker: false })).get(EnhancedFunctionRegistry);
  }

  async stop(app: INestApplicationContext): Promise<void> {
    this.open.delete(app);
    await app.close();
  }

  /** Its connections end, and nothing is said. */
  async vanish(app: INestApplicationContext): Promise<void> {
    await app.get<Backend>(BACKEND).close();
  }

  async close(): Promise<void> {
    await Promise.all([...this.open].map((app) => this.stop(app)));
  }
}

/** Cases on the level of applications. */
export function applicationCases(
  promise: GuaranteedPromise,
  runs: Readonly<Record<string, (applications: Applications) => Promise<void>>>,
): ConformanceCase[] {
  return Object.entries(runs).map(([name, run]) => ({
    name,
    promise,
    level: 'application',
    needs: undefined,
    run: async (backend) => {
      const applications = new Applications(backend);
      try {
        await run(applications);
      } finally {
        await applications.close();
      }
    },
  }));
}
