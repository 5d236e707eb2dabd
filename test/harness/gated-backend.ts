import 'reflect-metadata';
import type { INestApplicationContext } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import type { Backend } from '../../src/backend/backend.js';
import type { BusEvents, NotificationBus } from '../../src/backend/notification-bus.js';
import { RedisBackend } from '../../src/backend/redis/redis-backend.js';
import { BACKEND, KEYS } from '../../src/backend/tokens.js';
import { createDeferred, type Deferred } from '../../src/common/deferred.js';
import type { FunctionsOptions } from '../../src/index.js';
import type { Keys } from '../../src/protocol/keys.js';
import { rootModule } from './apps.js';

/** A port's method that a test can stop at. */
export type GatedCall =
  | 'bus.subscribe'
  | 'bus.unsubscribe'
  | 'bus.psubscribe'
  | 'bus.publish'
  | 'workers.heartbeat'
  | 'workers.snapshot'
  | 'workers.register'
  | 'workers.change'
  | 'workers.unregister';

/** `before`: Redis has not seen it. `after`: Redis has answered, and the caller does not know yet. */
export type Stage = 'before' | 'after';

/** A call that stands still until the test lets it go on. */
export interface HeldCall {
  /** Resolves when the call has come to the gate. */
  readonly reached: Promise<void>;
  release(): void;
}

interface Gate {
  readonly reached: Deferred<void>;
  readonly opened: Deferred<void>;
}

/**
 * The real Redis backend with gates: a chosen call stands still before Redis sees it, or after Redis answered
 * and before its caller knows. This is how every order of a race is made, without a sleep and without a
 * mock: whatever passes the gates is the real thing. A call that no gate holds is not delayed by as much as
 * a microtask, so the order of commands on the connection stays what it is.
 */
export class GatedBackend {
  private readonly gates = new Map<string, Gate>();
  private readonly answers = new Map<GatedCall, number>();
  private news: (() => void)[] | undefined;
  private readonly failures = new Map<GatedCall, Error[]>();

  /** Holds the next call that comes there. */
  hold(call: GatedCall, stage: Stage): HeldCall {
    const gate: Gate = { reached: createDeferred(), opened: createDeferred() };
    this.gates.set(`${call} ${stage}`, gate);
    return { reached: gate.reached.promise, release: () => gate.opened.resolve() };
  }

  /** Keeps messages on their way, in their order, until the result is called. */
  holdNews(): () => void {
    const news: (() => void)[] = [];
    this.news = news;
    return () => {
      if (this.news === news) this.news = undefined;
      for (const deliver of news.splice(0)) deliver();
    };
  }

  /** How many messages are held. */
  get heldNews(): number {
    return this.news?.length ?? 0;
  }

  /** How many calls were answered, and their callers know of it. */
  answered(call: GatedCall): number {
    return this.answers.get(call) ?? 0;
  }

  /** Lets the next call fail, before Redis sees it. */
  failNext(call: GatedCall, error: Error): void {
    this.failures.set(call, [...(this.failures.get(call) ?? []), error]);
  }

  /** An application on a gated backend; close it like any other. */
  async start(
    url: string,
    options: FunctionsOptions,
    providers: unknown[] = [],
  ): Promise<INestApplicationContext> {
    const module = await Test.createTestingModule({
      imports: [rootModule({ connection: url, ...options }, { providers })],
    })
      .overrideProvider(BACKEND)
      .useFactory({
        factory: (keys: Keys) => this.wrap(new RedisBackend(url, keys)),
        inject: [KEYS],
      })
      .compile();
    return module.init();
  }

  private wrap(backend: Backend): Backend {
    const ports: Partial<Record<PropertyKey, unknown>> = {
      bus: this.wrapPort('bus', this.wrapNews(backend.bus)),
      workers: this.wrapPort('workers', backend.workers),
    };
    return new Proxy(backend, {
      get: (target, name) => ports[name] ?? bound(target, name),
    });
  }

  private wrapNews(bus: NotificationBus): NotificationBus {
    const attach = (events: BusEvents): (() => void) =>
      bus.attach({
        message: (...message) => {
          if (this.news === undefined) events.message(...message);
          else this.news.push(() => events.message(...message));
        },
        connected: () => events.connected(),
        disconnected: (reason) => events.disconnected(reason),
      });
    return new Proxy(bus, {
      get: (target, name) => (name === 'attach' ? attach : bound(target, name)),
    });
  }

  private wrapPort(port: string, target: object): unknown {
    return new Proxy(target, {
      get: (_, name) => {
        const value = bound(target, name);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) =>
          this.pass(`${port}.${String(name)}` as GatedCall, () =>
            (value as (...args: unknown[]) => unknown)(...args),
          );
      },
    });
  }

  private pass(call: GatedCall, run: () => unknown): unknown {
    const result = this.passGates(call, run);
    const count = (): void => void this.answers.set(call, this.answered(call) + 1);
    // A turn of the event loop later the caller has acted on it.
    if (result instanceof Promise) {
      result.then(
        () => setImmediate(count),
        () => undefined,
      );
    }
    return result;
  }

  private passGates(call: GatedCall, run: () => unknown): unknown {
    const failure = this.failures.get(call)?.shift();
    if (failure !== undefined) return Promise.reject(failure);
    const before = this.take(`${call} before`);
    const after = this.take(`${call} after`);
    if (before === undefined && after === undefined) return run();
    return this.passHeld(before, after, run);
  }

  private async passHeld(
    before: Gate | undefined,
    after: Gate | undefined,
    run: () => unknown,
  ): Promise<unknown> {
    before?.reached.resolve();
    await before?.opened.promise;
    const result = await run();
    after?.reached.resolve();
    await after?.opened.promise;
    return result;
  }

  private take(key: string): Gate | undefined {
    const gate = this.gates.get(key);
    this.gates.delete(key);
    return gate;
  }
}

function bound(target: object, name: PropertyKey): unknown {
  const value: unknown = Reflect.get(target, name);
  return typeof value === 'function'
    ? (value as (...args: unknown[]) => unknown).bind(target)
    : value;
}
