import { afterAll, describe, expect, it } from '@jest/globals';
import {
  Catch,
  Scope,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  type CanActivate,
  type ExceptionFilter,
  type NestInterceptor,
  type PipeTransform,
  type Provider,
  type Type,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { of, type Observable } from 'rxjs';
import { EnhancedFunctionRegistry, FunctionHandler, type FunctionsError } from '../../src/index.js';
import { FunctionsTestingModule, TestFleet } from '../../src/testing/index.js';

const fleet = new TestFleet();
afterAll(() => fleet.close());

class Guard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}
class Interceptor implements NestInterceptor {
  intercept(): Observable<string> {
    return of('intercepted');
  }
}
class Pipe implements PipeTransform {
  transform(value: unknown): unknown {
    return value instanceof Object && 'fail' in value ? 'piped' : value;
  }
}
@Catch()
class Filter implements ExceptionFilter {
  catch(): Observable<string> {
    return of('filtered');
  }
}

const KINDS = {
  guard: { type: Guard, use: UseGuards(Guard), token: APP_GUARD, outcome: 'HTTP_403' },
  interceptor: {
    ...{ type: Interceptor, use: UseInterceptors(Interceptor), token: APP_INTERCEPTOR },
    outcome: 'intercepted',
  },
  pipe: { type: Pipe, use: UsePipes(Pipe), token: APP_PIPE, outcome: 'piped' },
  filter: { type: Filter, use: UseFilters(Filter), token: APP_FILTER, outcome: 'filtered' },
} as const;
type Kind = keyof typeof KINDS;
const PLACES = [
  'of the method',
  'of the class',
  'global',
  'global and request-scoped',
  'global and transient',
] as const;
type Place = (typeof PLACES)[number];

/** A handler, and this enhancer as the only one. */
function parts(kind: Kind, place: Place): Provider[] {
  class Host {
    @FunctionHandler({ name: 'work' })
    run(input: { fail: boolean }): unknown {
      if (input.fail) throw new Error('no');
      return input;
    }
  }
  const { type, use, token } = KINDS[kind];
  const method = Object.getOwnPropertyDescriptor(Host.prototype, 'run') as PropertyDescriptor;
  if (place === 'of the method') use(Host.prototype, 'run', method);
  if (place === 'of the class') use(Host);
  const own: Provider = { provide: token, useClass: type as Type<unknown> };
  if (place === 'global') return [Host, own];
  if (place === 'global and request-scoped') return [Host, { ...own, scope: Scope.REQUEST }];
  if (place === 'global and transient') return [Host, { ...own, scope: Scope.TRANSIENT }];
  return [Host];
}

const CASES = PLACES.flatMap((place) =>
  (Object.keys(KINDS) as Kind[]).map((kind) => [kind, place] as const),
);

describe('the only enhancer of a handler', () => {
  it.each(CASES)('applies: %s, %s', async (kind, place) => {
    const app = await fleet.start(
      Test.createTestingModule({
        imports: [FunctionsTestingModule.forRoot({ fleet })],
        providers: parts(kind, place),
      }),
    );
    const call = app.get(EnhancedFunctionRegistry).call('work', { fail: kind === 'filter' });
    const outcome = await call.catch((error: unknown) => (error as FunctionsError).code);
    await app.close();
    expect(outcome).toBe(KINDS[kind].outcome);
  });
});
