import type { ProcessSession } from '../backend/worker-store.js';
import { LocalWorkers } from './local-workers.js';
import type { WorkSource } from './work-source.js';

/**
 * What this process is in the fleet at the moment, as the parts of the coordinator see it. State only: no I/O.
 * Who awaits something for a session looks again afterwards whether it is still this one.
 */
export class Membership {
  /** What it offers. */
  readonly workers = new LocalWorkers();
  /** Its session; absent before the first join, and between the loss of one and the next. */
  session: ProcessSession | undefined;
  /** What takes its calls; absent in a process whose consumer was replaced by a stub. */
  work: WorkSource | undefined;

  /** @param processId this process, for its whole life; also the name of its reply stream */
  constructor(readonly processId: string) {}

  /** The session is lost, and the registry has none of its workers. */
  forgetSession(): void {
    this.session = undefined;
    this.workers.markUnregistered();
  }
}
