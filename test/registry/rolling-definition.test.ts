import { afterEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { EnhancedFunctionRegistry, type ParameterDefinition } from '../../src/index.js';
import { Fleet } from '../harness/apps.js';
import { createDeferred } from '../harness/deferred.js';
import { hosting } from '../harness/host.js';

let fleet: Fleet;
afterEach(() => fleet.close());

const OLD: readonly ParameterDefinition[] = [{ name: 'url', type: 'string', required: true }];
const NEW: readonly ParameterDefinition[] = [...OLD, { name: 'quality', type: 'number' }];

/** A worker of one version of the function, and what its handler was given. */
async function startVersion(
  parameters: readonly ParameterDefinition[],
  name: string,
): Promise<{ app: INestApplicationContext; inputs: unknown[] }> {
  const inputs: unknown[] = [];
  const handler = hosting({ name: 'resize', parameters }, (input) => {
    inputs.push(input);
    return name;
  });
  const app = await fleet.start({ providers: [handler] });
  return { app, inputs };
}

describe('a function that gets a new optional parameter in a rolling deploy', () => {
  it('is run by workers of both versions; the old one is not given what it does not know', async () => {
    fleet = new Fleet();
    const old = await startVersion(OLD, 'old');
    const next = await startVersion(NEW, 'new');
    const caller = await fleet.start({ options: { worker: false } });
    const registry = caller.get(EnhancedFunctionRegistry);
    const parameters = { url: 'u', quality: 80 };
    await expect(registry.call('resize', parameters)).resolves.toEqual(
      expect.stringMatching(/old|new/),
    );
    // Only the old version is left, and the definition is still the new one.
    await fleet.stop(next.app);
    await expect(registry.call('resize', parameters)).resolves.toBe('old');
    expect(old.inputs.at(-1)).toEqual({ url: 'u' });
  });

  it('is given the new parameter by the new version', async () => {
    fleet = new Fleet();
    const old = await startVersion(OLD, 'old');
    const next = await startVersion(NEW, 'new');
    await fleet.stop(old.app);
    const registry = next.app.get(EnhancedFunctionRegistry);
    await expect(registry.call('resize', { url: 'u', quality: 80 })).resolves.toBe('new');
    expect(next.inputs).toEqual([{ url: 'u', quality: 80 }]);
  });
});

describe('a call that was written by hand', () => {
  const write = (payload: string): Promise<unknown> =>
    fleet.redis.xadd(
      `${fleet.prefix}nf:{resize:default}:calls`,
      '*',
      ...['c', `1 10000   by-hand\t${payload}`],
    );

  it('does not bring its handler what the definition does not declare', async () => {
    fleet = new Fleet();
    const given = createDeferred<unknown>();
    await fleet.start({
      providers: [hosting({ name: 'resize', parameters: OLD }, (input) => given.resolve(input))],
    });
    await write('{"p":{"url":"u","isAdmin":true},"i":null}');
    await expect(given.promise).resolves.toEqual({ url: 'u' });
  });

  it.each([
    ['without a required parameter', '{"p":{"isAdmin":true},"i":null}'],
    ['with a parameter of another type', '{"p":{"url":7},"i":null}'],
  ])('is refused by the worker %s', async (_title, payload) => {
    fleet = new Fleet();
    const { app, inputs } = await startVersion(OLD, 'old');
    await write(payload);
    // Behind it in the stream: the first is over when this one is.
    await app.get(EnhancedFunctionRegistry).call('resize', { url: 'after' });
    expect(inputs).toEqual([{ url: 'after' }]);
  });
});
