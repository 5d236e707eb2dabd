import { expect, it, jest } from '@jest/globals';
import { TestProcess } from '../harness/processes.js';

jest.setTimeout(60_000);

it('a process on a memory lives until what it waits for is settled, and no longer', async () => {
  const process = TestProcess.start('memory-waits.ts', {});
  try {
    // It is not closed, and ends by itself.
    expect(await process.exit(30_000)).toEqual({ code: 0, signal: null });
    const came = process.all<{ type: 'came'; name: string; came: string }>('came');
    expect(came.map((one) => [one.name, one.came])).toEqual([
      ['a call that runs', 'DEADLINE_EXCEEDED'],
      ['a call that is to run again', 'done'],
      ['a call without a worker', 'READINESS_TIMEOUT'],
      ['a bound call', 'READINESS_TIMEOUT'],
      ['waitForFunction', 'READINESS_TIMEOUT'],
      ['waitForWorkflow, of unknown functions', 'WORKFLOW_NOT_READY'],
      ['waitForWorkflow, of named ones', 'WORKFLOW_NOT_READY'],
      ['snapshot', 'settled'],
    ]);
  } finally {
    await process.destroy();
  }
});
