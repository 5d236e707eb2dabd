import { afterEach, describe, expect, it } from '@jest/globals';
import { ExampleProcess } from './example-process.js';

describe('the example of metrics', () => {
  let example: ExampleProcess | undefined;

  afterEach(async () => {
    await example?.stop('SIGKILL');
  });

  it('shows figures, finds the worker that becomes slow, says that it is well again, and ends', async () => {
    example = new ExampleProcess('examples/metrics/main.ts', [], {});
    await example.printed(/^\d+ calls\/s, p50 [\d.]+ ms, p99 [\d.]+ ms, \d+ running/m);
    await example.printed(/bottleneck: slow-worker worker-2/);
    await example.printed(/slow-worker ended/);
    expect(await example.exit()).toBe(0);
  }, 60_000);
});
