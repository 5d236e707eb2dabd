import { afterAll, describe, expect, it } from '@jest/globals';
import { conformanceCases, conformanceCasesFor } from '../../src/conformance/index.js';
import { onMemory, onRedis } from './backends.js';

describe.each([onMemory(), onRedis()])('the backend on $title', (backend) => {
  afterAll(() => backend.close());

  it.each(conformanceCasesFor(backend))('$promise: $name', async ({ run }) => {
    await expect(run(backend)).resolves.toBeUndefined();
  });
});

describe('the conformance suite', () => {
  it('names each case once', () => {
    const names = conformanceCases.map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('leaves out what a backend cannot be made to do', () => {
    const create = onMemory().create;
    const left = conformanceCases.filter((one) => !conformanceCasesFor({ create }).includes(one));
    expect([...new Set(left.map(({ needs }) => needs))].sort()).toEqual([
      'destroyGroup',
      'forget',
      'spoil',
    ]);
  });
});
