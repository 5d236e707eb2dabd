import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Module,
  type DynamicModule,
  type INestApplication,
  type Type,
} from '@nestjs/common';
import {
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  RpcException,
  type MicroserviceOptions,
} from '@nestjs/microservices';
import { firstValueFrom, from, lastValueFrom, Observable, toArray } from 'rxjs';
import {
  EnhancedFunctionRegistry,
  FunctionHandler,
  FunctionsClientProxy,
  FunctionsModule,
  FunctionsRpcContext,
  FunctionsTransport,
  NotificationManager,
  WorkerCoordinator,
  type FunctionsOptions,
} from '../../src/index.js';
import { createDeferred } from '../harness/deferred.js';
import { eventually } from '../harness/eventually.js';
import { NestApps } from '../harness/nest-apps.js';

const apps = new NestApps();
afterEach(() => apps.close());

@Module({})
class Root {}

function root(controllers: Type<unknown>[], options: FunctionsOptions = {}): DynamicModule {
  return {
    module: Root,
    imports: [FunctionsModule.forRoot(apps.options(options))],
    controllers,
  };
}

type Order = 'init first' | 'microservices first';

/** A hybrid application whose transport is ours. */
async function serve(
  controllers: Type<unknown>[],
  order: Order = 'init first',
  options: FunctionsOptions = {},
): Promise<INestApplication> {
  const app = await apps.http(root(controllers, options));
  app.connectMicroservice<MicroserviceOptions>({ strategy: app.get(FunctionsTransport) });
  if (order === 'init first') await app.init();
  await app.startAllMicroservices();
  if (order === 'microservices first') await app.init();
  return app;
}

async function client(): Promise<FunctionsClientProxy> {
  const app = await apps.context(root([], { worker: false }));
  return app.get(FunctionsClientProxy);
}

@Controller()
class Messages {
  @MessagePattern('sum')
  sum(@Payload() numbers: number[]): number {
    return numbers.reduce((a, b) => a + b, 0);
  }

  @MessagePattern({ functionName: 'resize', workflowId: 'media' })
  resize(@Payload() input: object, @Ctx() context: FunctionsRpcContext): object {
    return {
      input,
      channel: context.getChannel(),
      workflowId: context.getCall()?.workflowId,
      headers: context.getCall()?.headers,
    };
  }

  @MessagePattern({ cmd: 'x' })
  command(): string {
    return 'command x';
  }

  @MessagePattern('count')
  count(@Payload() to: number): Observable<number> {
    return from(Array.from({ length: to }, (_, index) => index + 1));
  }

  @MessagePattern('nothing')
  nothing(): void {}

  @MessagePattern('refuse')
  refuse(): never {
    throw new RpcException({ code: 'REFUSED', message: 'no', details: { why: 'because' } });
  }
}

describe('@MessagePattern over FunctionsTransport', () => {
  it.each<[Order]>([['init first'], ['microservices first']])(
    'is a function: it is registered and called (%s)',
    async (order) => {
      const app = await serve([Messages], order);
      const workers = app.get(WorkerCoordinator).workers();
      expect(workers.map(({ ref }) => `${ref.functionName}/${ref.workflowId}`).sort()).toEqual([
        'count/default',
        'nothing/default',
        'refuse/default',
        'resize/media',
        'sum/default',
        '{"cmd":"x"}/default',
      ]);
      expect(workers.every(({ registered }) => registered)).toBe(true);
      const registry = app.get(EnhancedFunctionRegistry);
      await expect(registry.call('sum', [1, 2, 3])).resolves.toBe(6);
      await expect(
        registry.call('resize', { a: 1 }, { workflowId: 'media', headers: { trace: 't' } }),
      ).resolves.toEqual({
        input: { a: 1 },
        channel: '{"functionName":"resize","workflowId":"media"}',
        workflowId: 'media',
        headers: { trace: 't' },
      });
    },
  );

  it('stands beside @FunctionHandler, and the two cannot have one name', async () => {
    @Controller()
    class Mixed {
      @FunctionHandler({ name: 'direct' })
      direct(): string {
        return 'direct';
      }
    }

    @Controller()
    class Clash {
      @FunctionHandler({ name: 'sum' })
      sum(): void {}
    }

    const app = await serve([Messages, Mixed]);
    await expect(app.get(EnhancedFunctionRegistry).call('direct')).resolves.toBe('direct');
    const clashing = { code: 'DUPLICATE_HANDLER', message: expect.stringContaining('Clash.sum') };
    await expect(serve([Messages, Clash])).rejects.toMatchObject(clashing);
    await expect(serve([Messages, Clash], 'microservices first')).rejects.toMatchObject(clashing);
  });

  it('is refused in a process with worker: false', async () => {
    await expect(serve([Messages], 'init first', { worker: false })).rejects.toMatchObject({
      code: 'WORKER_DISABLED',
    });
  });

  it('drains with the process', async () => {
    const started = createDeferred();
    const release = createDeferred();

    @Controller()
    class Slow {
      @MessagePattern('slow')
      async slow(): Promise<string> {
        started.resolve();
        await release.promise;
        return 'finished';
      }
    }

    const app = await serve([Slow]);
    const proxy = await client();
    const result = firstValueFrom(proxy.send<string>('slow', {}));
    await started.promise;
    const closed = app.close();
    await eventually('the drain began', () => app.get(WorkerCoordinator).state === 'draining');
    release.resolve();
    await expect(result).resolves.toBe('finished');
    await closed;
  });
});

describe('FunctionsClientProxy.send', () => {
  it('gives the value, for patterns of every form', async () => {
    await serve([Messages]);
    const proxy = await client();
    await expect(firstValueFrom(proxy.send('sum', [4, 5]))).resolves.toBe(9);
    await expect(
      firstValueFrom(proxy.send({ functionName: 'resize', workflowId: 'media' }, { b: 2 })),
    ).resolves.toMatchObject({ input: { b: 2 }, workflowId: 'media' });
    await expect(firstValueFrom(proxy.send({ cmd: 'x' }, {}))).resolves.toBe('command x');
  });

  it('gives all values of an Observable, in order, and completes', async () => {
    await serve([Messages]);
    const proxy = await client();
    await expect(lastValueFrom(proxy.send('count', 5).pipe(toArray()))).resolves.toEqual([
      1, 2, 3, 4, 5,
    ]);
    await expect(lastValueFrom(proxy.send('count', 1).pipe(toArray()))).resolves.toEqual([1]);
  });

  it('gives null for a handler without a value, and completes', async () => {
    await serve([Messages]);
    const proxy = await client();
    await expect(lastValueFrom(proxy.send('nothing', {}).pipe(toArray()))).resolves.toEqual([null]);
  });

  it("errors with the handler's code, message and details", async () => {
    await serve([Messages]);
    const proxy = await client();
    await expect(firstValueFrom(proxy.send('refuse', {}))).rejects.toMatchObject({
      code: 'REFUSED',
      message: 'no',
      details: { why: 'because' },
    });
  });

  it('errors, and does not throw, for what cannot be sent', async () => {
    const proxy = await client();
    await expect(firstValueFrom(proxy.send('sum', { n: 1n }))).rejects.toMatchObject({
      code: 'PAYLOAD_NOT_SERIALIZABLE',
    });
    await expect(firstValueFrom(proxy.send({ functionName: '' }, {}))).rejects.toMatchObject({
      code: 'INVALID_NAME',
    });
  });

  it('is durable: sent while no worker exists, it is run by the one that comes', async () => {
    const proxy = await client();
    const result = firstValueFrom(proxy.send('sum', [1, 1]));
    await serve([Messages]);
    await expect(result).resolves.toBe(2);
  });

  it('sends nothing before somebody subscribes', async () => {
    let runs = 0;

    @Controller()
    class Counting {
      @MessagePattern('counting')
      counting(): number {
        return (runs += 1);
      }
    }

    await serve([Counting]);
    const proxy = await client();
    const cold = proxy.send('counting', {});
    await expect(firstValueFrom(proxy.send('counting', {}))).resolves.toBe(1);
    await expect(firstValueFrom(cold)).resolves.toBe(2);
    await expect(firstValueFrom(cold)).resolves.toBe(3);
  });

  it("cancels the call when it is unsubscribed: the handler's signal aborts", async () => {
    const started = createDeferred();
    const aborted = createDeferred<unknown>();

    @Controller()
    class Long {
      @MessagePattern('long')
      long(@Payload() _input: object, @Ctx() context: FunctionsRpcContext): Promise<never> {
        const signal = context.getCall()?.signal;
        signal?.addEventListener('abort', () => aborted.resolve(signal.reason));
        started.resolve();
        return new Promise(() => undefined);
      }
    }

    await serve([Long], 'init first', { drainTimeoutMs: 0 });
    const proxy = await client();
    const subscription = proxy.send('long', {}).subscribe();
    await started.promise;
    subscription.unsubscribe();
    await expect(aborted.promise).resolves.toMatchObject({ code: 'CALL_CANCELLED' });
  });

  it("unsubscribes from the handler's Observable when it is unsubscribed", async () => {
    const first = createDeferred();
    const ended = createDeferred();

    @Controller()
    class Endless {
      @MessagePattern('endless')
      endless(): Observable<number> {
        return new Observable((subscriber) => {
          subscriber.next(1);
          subscriber.next(2);
          return () => ended.resolve();
        });
      }
    }

    await serve([Endless], 'init first', { drainTimeoutMs: 0 });
    const proxy = await client();
    const subscription = proxy.send('endless', {}).subscribe(() => first.resolve());
    await first.promise;
    subscription.unsubscribe();
    await ended.promise;
    expect(subscription.closed).toBe(true);
  });

  it('needs no connect and no close of its own', async () => {
    await serve([Messages]);
    const proxy = await client();
    await proxy.connect();
    proxy.close();
    await expect(firstValueFrom(proxy.send('sum', [1]))).resolves.toBe(1);
  });
});

describe('@EventPattern over FunctionsTransport', () => {
  it.each<[Order]>([['init first'], ['microservices first']])(
    'listens to a channel, and to a glob (%s)',
    async (order) => {
      const heard: unknown[] = [];

      @Controller()
      class Listeners {
        @EventPattern<string>('app:cleared')
        cleared(@Payload() data: unknown, @Ctx() context: FunctionsRpcContext): void {
          heard.push(['cleared', data, context.getChannel(), context.getCall()]);
        }

        @EventPattern<string>('function:ready:*')
        ready(@Payload() data: { workerId: string }, @Ctx() context: FunctionsRpcContext): void {
          heard.push(['ready', data.workerId, context.getChannel()]);
        }
      }

      await serve([Listeners], order);
      const proxy = await client();
      await lastValueFrom(proxy.emit('app:cleared', { region: 'eu' }));
      await eventually('the event is heard', () => heard.length === 1);
      const worker = await apps.context(root([], { workerId: 'w-1' }));
      await worker
        .get(EnhancedFunctionRegistry)
        .registerWorkerWithInstantNotification('w-1', 'fn', 'wf');
      await eventually('the notification is heard', () => heard.length === 2);
      expect(heard).toEqual([
        ['cleared', { region: 'eu' }, 'app:cleared', undefined],
        ['ready', 'w-1', 'function:ready:fn:wf'],
      ]);
    },
  );

  it('takes several listeners of one channel, and an object as a channel', async () => {
    const heard: string[] = [];

    @Controller()
    class Listeners {
      @EventPattern<string>('twice')
      first(): void {
        heard.push('first');
      }

      @EventPattern<string>('twice')
      second(): void {
        heard.push('second');
      }

      @EventPattern({ kind: 'object' })
      object(): void {
        heard.push('object');
      }
    }

    await serve([Listeners]);
    const proxy = await client();
    await lastValueFrom(proxy.emit('twice', {}));
    await lastValueFrom(proxy.emit({ kind: 'object' }, {}));
    await eventually('all are heard', () => heard.length === 3);
    expect(heard.sort()).toEqual(['first', 'object', 'second']);
  });

  it("survives a listener's error", async () => {
    const heard: unknown[] = [];

    @Controller()
    class Failing {
      @EventPattern<string>('risky')
      risky(@Payload() data: { fail: boolean }): void {
        heard.push(data);
        if (data.fail) throw new Error('in a listener');
      }
    }

    await serve([Failing]);
    const proxy = await client();
    await lastValueFrom(proxy.emit('risky', { fail: true }));
    await lastValueFrom(proxy.emit('risky', { fail: false }));
    await eventually('the second is heard', () => heard.length === 2);
  });

  it('is unsubscribed when the application closes', async () => {
    @Controller()
    class Listeners {
      @EventPattern<string>('leaving')
      leaving(): void {}
    }

    const app = await serve([Listeners]);
    const publisher = (await apps.context(root([], { worker: false }))).get(NotificationManager);
    await expect(publisher.publish('leaving', {})).resolves.toBe(1);
    await app.close();
    await eventually('nobody listens', async () => (await publisher.publish('leaving', {})) === 0);
  });
});

describe('both sides', () => {
  it('say where to listen instead of an event emitter', async () => {
    const app = await apps.context(root([]));
    expect(() => app.get(FunctionsTransport).on()).toThrow(/NotificationManager\.on\(\)/);
    expect(() => app.get(FunctionsClientProxy).on()).toThrow(/NotificationManager\.on\(\)/);
    expect(app.get(FunctionsTransport).unwrap()).toBe(app.get(NotificationManager));
    expect(app.get(FunctionsClientProxy).unwrap()).toBe(app.get(EnhancedFunctionRegistry));
  });
});
