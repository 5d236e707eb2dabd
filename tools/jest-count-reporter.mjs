import { writeSync } from 'node:fs';

/**
 * Ends a run with one line that a person or a script can read: `12 passed, 0 failed`.
 * Jest prints its summary after all custom reporters, so the line waits for the process to end.
 */
export default class CountReporter {
  onRunComplete(_contexts, results) {
    // A suite that could not be loaded ran none of its tests: it counts as one failure.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    const line = `${results.numPassedTests} passed, ${failed} failed`;
    process.once('exit', () => print(`${line}${skipped > 0 ? `, ${skipped} skipped` : ''}\n`));
  }
}

/** Synchronous, because the process is ending; a full pipe answers EAGAIN until its reader catches up. */
function print(text) {
  for (let attempt = 0; attempt < 1_000; attempt++) {
    try {
      writeSync(1, text);
      return;
    } catch (error) {
      if (error.code !== 'EAGAIN') return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}
