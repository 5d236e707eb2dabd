import { afterEach, describe, expect, it } from '@jest/globals';
import {
  BadRequestException,
  CanActivate,
  Catch,
  Controller,
  ForbiddenException,
  Inject,
  Injectable,
  Module,
  Scope,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  type ArgumentsHost,
  type CallHandler,
  type DynamicModule,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, REQUEST } from '@nestjs/core';
import { RpcException } from '@nestjs/microservices';
import { asyncScheduler, from, map, observeOn, of, throwError, type Observable } from 'rxjs';
import {
  EnhancedFunctionRegistry,
  FunctionContext,
  FunctionError,
  FunctionHandler,
  RemoteFunctionError,
  WorkerCoordinator,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

type Parts = Parameters<Fleet['start']>[0] & object;

/** A worker with these parts, and a caller of its functions in another application. */
async function serve(parts: Parts): Promise<EnhancedFunctionRegistry> {
  await fleet.start(parts);
  const caller = await fleet.start({ options: { worker: false } });
  return caller.get(EnhancedFunctionRegistry);
}

/** What of a value is worth comparing: errors of handlers by what a caller acts on. */
async function failure(call: Promise<unknown>): Promise<unknown> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RemoteFunctionError);
  const { code, message, details } = error as RemoteFunctionError;
  return { code, message, details };
}

describe('a handler', () => {
  it('may stand on a provider and on a controller', async () => {
    @Injectable()
    class OnProvider {
      private readonly text = 'provider';

      @FunctionHandler({ name: 'on-provider' })
      run(): string {
        return this.text;
      }
    }

    @Controller('somewhere')
    class OnController {
      private readonly text = 'controller';

      @FunctionHandler({ name: 'on-controller' })
      run(): string {
        return this.text;
      }
    }

    const registry = await serve({ providers: [OnProvider], controllers: [OnController] });
    await expect(registry.call('on-provider')).resolves.toBe('provider');
    await expect(registry.call('on-controller')).resolves.toBe('controller');
  });

  it('is found on a provider that stands under a token of its own, and once when that has an alias', async () => {
    class Service {
      @FunctionHandler({ name: 'tokened' })
      run(): string {
        return 'ran';
      }
    }
    const registry = await serve({
      providers: [
        { provide: 'TOKEN', useFactory: () => new Service() },
        { provide: 'ALIAS', useExisting: 'TOKEN' },
      ],
    });
    await expect(registry.call('tokened')).resolves.toBe('ran');
  });

  it('is inherited from a base class, with the enhancers that stand there', async () => {
    class Yes implements CanActivate {
      canActivate(context: ExecutionContext): boolean {
        return context.getClass() === Derived;
      }
    }

    @UseGuards(Yes)
    abstract class Base {
      protected abstract readonly word: string;

      @FunctionHandler({ name: 'inherited' })
      run(input: { to: string }): string {
        return `${this.word} ${input.to}`;
      }
    }

    @Injectable()
    class Derived extends Base {
      protected readonly word = 'hello';
    }

    const registry = await serve({ providers: [Derived] });
    await expect(registry.call('inherited', { to: 'you' })).resolves.toBe('hello you');
  });

  it('may return an Observable, whose last value is the result', async () => {
    @Injectable()
    class Streams {
      @FunctionHandler({ name: 'one' })
      one(): Observable<number> {
        return of(7).pipe(observeOn(asyncScheduler));
      }

      @FunctionHandler({ name: 'several' })
      several(): Observable<string> {
        return from(['a', 'b', 'c']);
      }

      @FunctionHandler({ name: 'failing' })
      failing(): Observable<never> {
        return throwError(() => new FunctionError('BROKEN', 'it broke', { details: { at: 3 } }));
      }

      @FunctionHandler({ name: 'empty' })
      empty(): Observable<never> {
        return from([]);
      }
    }

    const registry = await serve({ providers: [Streams] });
    await expect(registry.call('one')).resolves.toBe(7);
    await expect(registry.call('several')).resolves.toBe('c');
    expect(await failure(registry.call('failing'))).toEqual({
      code: 'BROKEN',
      message: 'it broke',
      details: { at: 3 },
    });
    // Nest's own answer for a handler without a value.
    expect(await failure(registry.call('empty'))).toMatchObject({ code: 'HANDLER_FAILED' });
  });

  it('gets a new host for each call when that is request-scoped, and the call as its REQUEST', async () => {
    let made = 0;

    @Injectable({ scope: Scope.REQUEST })
    class PerCall {
      private readonly number = (made += 1);

      constructor(
        @Inject(REQUEST) private readonly request: { data: unknown; context: FunctionContext },
      ) {}

      @FunctionHandler({ name: 'scoped' })
      run(input: object, context: FunctionContext): object {
        return {
          number: this.number,
          data: this.request.data,
          same: this.request.context === context,
          callId: this.request.context.callId === context.callId,
          input,
        };
      }
    }

    const registry = await serve({ providers: [PerCall] });
    const first = await registry.call('scoped', { a: 1 });
    const second = await registry.call('scoped', { a: 2 });
    expect(first).toEqual({ number: 1, data: { a: 1 }, same: true, callId: true, input: { a: 1 } });
    expect(second).toEqual({
      number: 2,
      data: { a: 2 },
      same: true,
      callId: true,
      input: { a: 2 },
    });
  });

  it('is request-scoped too when what it depends on is', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class Tenant {
      constructor(@Inject(REQUEST) private readonly request: { context: FunctionContext }) {}

      get name(): string | undefined {
        return this.request.context.headers['tenant'];
      }
    }

    @Injectable()
    class Handlers {
      constructor(private readonly tenant: Tenant) {}

      @FunctionHandler({ name: 'tenant' })
      run(): string {
        return this.tenant.name ?? 'none';
      }
    }

    const registry = await serve({ providers: [Tenant, Handlers] });
    const call = (tenant: string): Promise<unknown> =>
      registry.call('tenant', {}, { headers: { tenant } });
    await expect(Promise.all([call('x'), call('y')])).resolves.toEqual(['x', 'y']);
  });

  it('has its dependencies on a transient provider', async () => {
    @Injectable()
    class Dependency {
      readonly word = 'there';
    }

    @Injectable({ scope: Scope.TRANSIENT })
    class Transient {
      constructor(private readonly dependency: Dependency) {}

      @FunctionHandler({ name: 'transient' })
      run(): string {
        return this.dependency.word;
      }
    }

    const registry = await serve({ providers: [Dependency, Transient] });
    await expect(registry.call('transient')).resolves.toBe('there');
  });

  it('is refused at the boot when another has its name, and both are named', async () => {
    @Injectable()
    class First {
      @FunctionHandler({ name: 'twice' })
      run(): void {}
    }

    @Injectable()
    class Second {
      @FunctionHandler({ name: 'twice' })
      handle(): void {}
    }

    await expect(fleet.start({ providers: [First, Second] })).rejects.toMatchObject({
      code: 'DUPLICATE_HANDLER',
      message: expect.stringMatching(/First\.run.*Second\.handle.*twice/),
      details: { functionName: 'twice', workflowId: 'default' },
    });
  });

  it('is refused at the boot when two modules provide its class, and both modules are named', async () => {
    @Injectable()
    class Shared {
      @FunctionHandler({ name: 'shared' })
      run(): void {}
    }

    @Module({ providers: [Shared] })
    class BillingModule {}

    @Module({ providers: [Shared] })
    class MailModule {}

    await expect(fleet.start({ imports: [BillingModule, MailModule] })).rejects.toMatchObject({
      code: 'DUPLICATE_HANDLER',
      message: expect.stringMatching(
        /^Shared\.run handles .* its class is provided twice: .*(BillingModule.*MailModule|MailModule.*BillingModule)/,
      ),
    });
  });

  it('may have the same name in two workflows', async () => {
    @Injectable()
    class Both {
      @FunctionHandler({ name: 'same', workflowId: 'a' })
      inA(): string {
        return 'a';
      }

      @FunctionHandler({ name: 'same', workflowId: 'b' })
      inB(): string {
        return 'b';
      }
    }

    const registry = await serve({ providers: [Both] });
    await expect(registry.call('same', {}, { workflowId: 'a' })).resolves.toBe('a');
    await expect(registry.call('same', {}, { workflowId: 'b' })).resolves.toBe('b');
  });

  it('is not hosted by a process with worker: false', async () => {
    @Injectable()
    class Handlers {
      @FunctionHandler({ name: 'not-here' })
      run(): void {}
    }

    const app = await fleet.start({ options: { worker: false }, providers: [Handlers] });
    expect(app.get(WorkerCoordinator).workers()).toEqual([]);
    const registry = app.get(EnhancedFunctionRegistry);
    await expect(registry.call('not-here', {}, { ifUnavailable: 'fail' })).rejects.toMatchObject({
      code: 'NO_WORKER',
    });
    await expect(
      registry.registerWorkerWithInstantNotification('w', 'not-here', 'default'),
    ).rejects.toMatchObject({ code: 'WORKER_DISABLED' });
  });

  const NAMES = [
    'a:b',
    '{tag}',
    '{a}:{b}',
    '*',
    '[x]?',
    'with space',
    '100%',
    '%3A',
    '🚀',
    'ü',
    '\n',
    '../x',
  ];

  it.each(NAMES)('may be called %j, in a workflow called so too', async (name) => {
    class Handlers {
      @FunctionHandler({ name, workflowId: name })
      run(_input: object, context: FunctionContext): string[] {
        return [context.functionName, context.workflowId];
      }
    }

    const registry = await serve({ providers: [Handlers] });
    await expect(registry.call(name, {}, { workflowId: name })).resolves.toEqual([name, name]);
    const [found] = await registry.getAvailableFunctions(name);
    expect(found).toMatchObject({ name, workflowId: name, available: true });
  });

  it('is not mixed up with one whose names join to the same text', async () => {
    class Handlers {
      @FunctionHandler({ name: 'a:b', workflowId: 'c' })
      one(): string {
        return 'a:b, c';
      }

      @FunctionHandler({ name: 'a', workflowId: 'b:c' })
      two(): string {
        return 'a, b:c';
      }
    }

    const registry = await serve({ providers: [Handlers] });
    await expect(registry.call('a:b', {}, { workflowId: 'c' })).resolves.toBe('a:b, c');
    await expect(registry.call('a', {}, { workflowId: 'b:c' })).resolves.toBe('a, b:c');
  });

  describe('is refused when its class is defined', () => {
    const cases: [string, object, string][] = [
      ['without a name', {}, 'INVALID_NAME'],
      ['with an empty name', { name: '' }, 'INVALID_NAME'],
      ['with a name of 257 characters', { name: 'x'.repeat(257) }, 'INVALID_NAME'],
      ['with half an emoji', { name: '\ud83d' }, 'INVALID_NAME'],
      ['with a workflowId that is no string', { name: 'x', workflowId: 5 }, 'INVALID_NAME'],
      ['with no concurrency', { name: 'x', concurrency: 0 }, 'INVALID_ARGUMENT'],
      ['with a broken concurrency', { name: 'x', concurrency: 1.5 }, 'INVALID_ARGUMENT'],
      ['with an input that is no class', { name: 'x', input: {} }, 'INVALID_ARGUMENT'],
      [
        'with a parameter of an unknown type',
        { name: 'x', parameters: [{ name: 'p', type: 'date' }] },
        'INVALID_ARGUMENT',
      ],
      [
        'with parameters that are no list',
        { name: 'x', parameters: { p: 'string' } },
        'INVALID_ARGUMENT',
      ],
      [
        'with a parameter named twice',
        {
          name: 'x',
          parameters: [
            { name: 'p', type: 'any' },
            { name: 'p', type: 'any' },
          ],
        },
        'INVALID_ARGUMENT',
      ],
      [
        'with a default of another type',
        { name: 'x', parameters: [{ name: 'p', type: 'string', default: 5 }] },
        'INVALID_ARGUMENT',
      ],
      ['with a description that is no text', { name: 'x', description: 5 }, 'INVALID_ARGUMENT'],
    ];

    it.each(cases)('%s', (_title, options, code) => {
      const define = (): unknown => {
        class Handlers {
          @FunctionHandler(options as { name: string })
          run(): void {}
        }
        return Handlers;
      };
      expect(define).toThrow(expect.objectContaining({ code }));
    });
  });
});

describe("Nest's enhancers on a handler", () => {
  class Doubling implements PipeTransform {
    transform(value: unknown): unknown {
      const { n } = (value ?? {}) as { n?: number };
      return n === undefined ? value : { n: n * 2 };
    }
  }

  class AddOne implements PipeTransform {
    transform(value: unknown): unknown {
      const { n } = (value ?? {}) as { n?: number };
      return n === undefined ? value : { n: n + 1 };
    }
  }

  class Refusing implements PipeTransform {
    transform(value: unknown): unknown {
      if ((value as { bad?: boolean }).bad === true) throw new BadRequestException('bad it is');
      return value;
    }
  }

  it('pipes: global, of the class and of the method apply, in that order', async () => {
    @UsePipes(AddOne)
    class Handlers {
      @UsePipes(Doubling)
      @FunctionHandler({ name: 'piped' })
      run(input: { n: number }, context: FunctionContext): number {
        expect(context).toBeInstanceOf(FunctionContext);
        return input.n;
      }
    }

    const registry = await serve({
      providers: [
        Handlers,
        { provide: APP_PIPE, useClass: Doubling },
        { provide: APP_PIPE, useClass: Refusing },
      ],
    });
    // ((5 * 2) + 1) * 2
    await expect(registry.call('piped', { n: 5 })).resolves.toBe(22);
    expect(await failure(registry.call('piped', { bad: true }))).toMatchObject({
      code: 'HTTP_400',
      message: 'bad it is',
    });
  });

  class TokenGuard implements CanActivate {
    canActivate(context: ExecutionContext): boolean {
      const call = context.switchToRpc().getContext<FunctionContext>();
      if (call.headers['token'] === 'wrong') throw new ForbiddenException('wrong token');
      return call.headers['token'] === 'right';
    }
  }

  const guarded: [string, () => Parts][] = [
    [
      'of the method',
      () => {
        class Handlers {
          @UseGuards(TokenGuard)
          @FunctionHandler({ name: 'guarded' })
          run(): string {
            return 'in';
          }
        }
        return { providers: [Handlers] };
      },
    ],
    [
      'of the class',
      () => {
        @UseGuards(TokenGuard)
        class Handlers {
          @FunctionHandler({ name: 'guarded' })
          run(): string {
            return 'in';
          }
        }
        return { providers: [Handlers] };
      },
    ],
    ['global', () => ({ providers: [Plain, { provide: APP_GUARD, useClass: TokenGuard }] })],
    [
      'global and request-scoped',
      () => ({
        providers: [Plain, { provide: APP_GUARD, useClass: TokenGuard, scope: Scope.REQUEST }],
      }),
    ],
    [
      'global, request-scoped, of a controller',
      () => ({
        controllers: [PlainController],
        providers: [{ provide: APP_GUARD, useClass: TokenGuard, scope: Scope.REQUEST }],
      }),
    ],
    [
      'global and transient',
      () => ({
        providers: [Plain, { provide: APP_GUARD, useClass: TokenGuard, scope: Scope.TRANSIENT }],
      }),
    ],
  ];

  class Plain {
    @FunctionHandler({ name: 'guarded' })
    run(): string {
      return 'in';
    }
  }

  @Controller()
  class PlainController extends Plain {}

  it.each(guarded)('guards: %s, decide who is let in', async (_title, parts) => {
    const registry = await serve(parts());
    const call = (token: string): Promise<unknown> =>
      registry.call('guarded', {}, { headers: { token } });
    await expect(call('right')).resolves.toBe('in');
    expect(await failure(call('wrong'))).toMatchObject({
      code: 'HTTP_403',
      message: 'wrong token',
      details: { status: 403 },
    });
    expect(await failure(call('other'))).toMatchObject({ code: 'HTTP_403' });
  });

  it('see the call as an rpc: its parameters as data, its FunctionContext as context', async () => {
    const seen: unknown[] = [];

    class Looking implements CanActivate {
      canActivate(context: ExecutionContext): boolean {
        const rpc = context.switchToRpc();
        seen.push(context.getType(), context.getClass().name, context.getHandler().name);
        seen.push(rpc.getData(), rpc.getContext<FunctionContext>().functionName);
        seen.push(context.getArgs().length);
        return true;
      }
    }

    class Handlers {
      @UseGuards(Looking)
      @FunctionHandler({ name: 'looked-at' })
      run(): void {}
    }

    const registry = await serve({ providers: [Handlers] });
    await registry.call('looked-at', { a: 1 });
    expect(seen).toEqual(['rpc', 'Handlers', 'run', { a: 1 }, 'looked-at', 2]);
  });

  it('interceptors: global, of the class and of the method map the result, the outermost last', async () => {
    const wrap = (name: string) => {
      class Wrapping implements NestInterceptor {
        intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
          return next.handle().pipe(map((value: unknown) => `${name}(${String(value)})`));
        }
      }
      return Wrapping;
    };

    @UseInterceptors(wrap('class'))
    class Handlers {
      @UseInterceptors(wrap('method'))
      @FunctionHandler({ name: 'wrapped' })
      run(): string {
        return 'x';
      }
    }

    const registry = await serve({
      providers: [Handlers, { provide: APP_INTERCEPTOR, useClass: wrap('global') }],
    });
    await expect(registry.call('wrapped')).resolves.toBe('global(class(method(x)))');
  });

  it('interceptors: may answer without the handler', async () => {
    let ran = false;

    class Cached implements NestInterceptor {
      intercept(): Observable<unknown> {
        return of('cached');
      }
    }

    class Handlers {
      @UseInterceptors(Cached)
      @FunctionHandler({ name: 'cached' })
      run(): void {
        ran = true;
      }
    }

    const registry = await serve({ providers: [Handlers] });
    await expect(registry.call('cached')).resolves.toBe('cached');
    expect(ran).toBe(false);
  });

  class DomainError extends Error {}

  @Catch(DomainError)
  class Mapping implements ExceptionFilter {
    catch(error: DomainError, host: ArgumentsHost): unknown {
      const { functionName } = host.switchToRpc().getContext<FunctionContext>();
      return { mapped: error.message, of: functionName };
    }
  }

  @Catch(DomainError)
  class Rethrowing implements ExceptionFilter {
    catch(error: DomainError): never {
      throw new FunctionError('RETHROWN', error.message, { retryable: true });
    }
  }

  @Catch(DomainError)
  class ThrowingObservable implements ExceptionFilter {
    catch(error: DomainError): Observable<never> {
      return throwError(() => new RpcException({ code: 'FROM_RXJS', message: error.message }));
    }
  }

  const filters: [
    string,
    typeof Mapping | typeof Rethrowing | typeof ThrowingObservable,
    object,
  ][] = [
    [
      'that maps answers with what it returns',
      Mapping,
      { data: { mapped: 'domain', of: 'filtered' } },
    ],
    ['that throws is heard by the caller', Rethrowing, { code: 'RETHROWN', message: 'domain' }],
    [
      'that returns throwError is heard by the caller',
      ThrowingObservable,
      { code: 'FROM_RXJS', message: 'domain' },
    ],
  ];

  const outcome = (call: Promise<unknown>): Promise<unknown> =>
    call.then(
      (data) => ({ data }),
      (error: RemoteFunctionError) => ({ code: error.code, message: error.message }),
    );

  class Throwing {
    @FunctionHandler({ name: 'filtered' })
    run(): never {
      throw new DomainError('domain');
    }
  }

  it.each(filters)('filters: one of the method %s', async (_title, filter, expected) => {
    class Handlers {
      @UseFilters(filter)
      @FunctionHandler({ name: 'filtered' })
      run(): never {
        throw new DomainError('domain');
      }
    }

    const registry = await serve({ providers: [Handlers] });
    expect(await outcome(registry.call('filtered'))).toEqual(expected);
  });

  it.each(filters)('filters: one of the class %s', async (_title, filter, expected) => {
    @UseFilters(filter)
    class Handlers extends Throwing {}

    const registry = await serve({ providers: [Handlers] });
    expect(await outcome(registry.call('filtered'))).toEqual(expected);
  });

  it.each(filters)('filters: a global one %s', async (_title, filter, expected) => {
    const registry = await serve({
      providers: [Throwing, { provide: APP_FILTER, useClass: filter }],
    });
    expect(await outcome(registry.call('filtered'))).toEqual(expected);
  });

  it('filters: those that do not catch an error let it pass as it is', async () => {
    class Handlers {
      @UseFilters(Mapping)
      @FunctionHandler({ name: 'passing' })
      run(): never {
        throw new FunctionError('OTHER', 'not of the domain', { details: { a: 1 } });
      }
    }

    const registry = await serve({ providers: [Handlers] });
    expect(await failure(registry.call('passing'))).toEqual({
      code: 'OTHER',
      message: 'not of the domain',
      details: { a: 1 },
    });
  });

  it('are made with what they inject', async () => {
    @Injectable()
    class Allowed {
      readonly tokens = ['right'];
    }

    @Injectable()
    class InjectingGuard implements CanActivate {
      constructor(private readonly allowed: Allowed) {}

      canActivate(context: ExecutionContext): boolean {
        const { headers } = context.switchToRpc().getContext<FunctionContext>();
        return this.allowed.tokens.includes(headers['token'] ?? '');
      }
    }

    class Handlers {
      @UseGuards(InjectingGuard)
      @FunctionHandler({ name: 'guarded' })
      run(): string {
        return 'in';
      }
    }

    const module: DynamicModule = {
      module: class HandlersModule {},
      providers: [Allowed, Handlers],
    };
    const registry = await serve({ imports: [module] });
    await expect(registry.call('guarded', {}, { headers: { token: 'right' } })).resolves.toBe('in');
    await expect(registry.call('guarded')).rejects.toMatchObject({ code: 'HTTP_403' });
  });

  it('may be request-scoped on a handler that is not', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class PerCallGuard implements CanActivate {
      constructor(@Inject(REQUEST) private readonly request: { data: { open?: boolean } }) {}

      canActivate(): boolean {
        return this.request.data.open === true;
      }
    }

    class Handlers {
      @UseGuards(PerCallGuard)
      @FunctionHandler({ name: 'guarded' })
      run(): string {
        return 'in';
      }
    }

    const registry = await serve({ providers: [Handlers] });
    await expect(registry.call('guarded', { open: true })).resolves.toBe('in');
    await expect(registry.call('guarded', { open: false })).rejects.toMatchObject({
      code: 'HTTP_403',
    });
  });
});
