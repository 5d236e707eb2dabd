import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable } from '@nestjs/common';
import { EnhancedFunctionRegistry, FunctionHandler } from '../src/index.js';
import { Fleet } from './harness/apps.js';

@Injectable()
class Greeter {
  @FunctionHandler({ name: 'greet' })
  greet(input: { name: string }): { text: string } {
    return { text: `hello ${input.name}` };
  }
}

describe('the main job', () => {
  const fleet = new Fleet();
  afterEach(() => fleet.close());

  it('starts a call that was made before its worker existed when the worker is ready', async () => {
    const caller = await fleet.start({ options: { worker: false } });
    const answer = caller.get(EnhancedFunctionRegistry).call('greet', { name: 'you' });
    await fleet.start({ providers: [Greeter] });
    await expect(answer).resolves.toEqual({ text: 'hello you' });
  });
});
