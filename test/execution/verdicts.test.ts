import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable } from '@nestjs/common';
import {
  DeadlineExceededError,
  EnhancedFunctionRegistry,
  FunctionHandler,
  RemoteFunctionError,
} from '../../src/index.js';
import { Fleet } from '../harness/apps.js';

@Injectable()
class Outer {
  @FunctionHandler({ name: 'outer' })
  outer(): never {
    // What a nested call of this handler would have thrown.
    throw new DeadlineExceededError('inner', 'default', 5, 'no worker finished it in time');
  }
}

describe('an error of a handler', () => {
  const fleet = new Fleet();
  afterEach(() => fleet.close());

  it('is not taken for the verdict on the call itself, although it has the same code', async () => {
    const app = await fleet.start({ providers: [Outer] });
    const failed = await app
      .get(EnhancedFunctionRegistry)
      .call('outer')
      .catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(RemoteFunctionError);
    expect(failed).toMatchObject({ code: 'DEADLINE_EXCEEDED', functionName: 'outer' });
    expect((failed as Error).message).toContain('inner');
  });
});
