import { noteRun, type Run, type RunLog } from './run-log.js';

/** The runs of workers that are applications of this process. */
export class MemoryRunLog implements RunLog {
  private readonly runs = new Map<number, Run[]>();

  add(run: Run): Promise<void> {
    noteRun(this.runs, run);
    return Promise.resolve();
  }

  byCall(): Promise<Map<number, Run[]>> {
    return Promise.resolve(new Map(this.runs));
  }

  close(): Promise<void> {
    this.runs.clear();
    return Promise.resolve();
  }
}
