import { EventEmitter, once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import type { EnhancedFunctionRegistry } from 'nestjs-functions';
import { sharedClockMs } from '../stage/shared-clock.js';
import { functionName, WORKFLOW } from './function-name.js';

/** What is begun while there is no worker: a wait, or a call that waits by news or by polling. */
export type Wait = 'wait' | 'notified call' | 'polling call';

const LIMIT_MS = 60_000;
const LOOK_MS = 1;

/** Waits for the first function, one or many at once, and notes when they were released. */
export class Listening {
  private readonly events = new EventEmitter();
  private open = 0;
  private firstAt = 0;
  private lastAt = 0;

  constructor(private readonly functions: EnhancedFunctionRegistry) {}

  /** Begins to wait, once nobody offers the function; resolves when all waits are in place. */
  async arm(how: Wait, count: number): Promise<void> {
    while ((await this.functions.getInstantWorkerStatus(functionName(0), WORKFLOW)).available)
      await pause(LOOK_MS);
    this.open = count;
    this.firstAt = 0;
    for (let waiter = 0; waiter < count; waiter++) {
      this.begin(how).then(
        () => this.note(),
        (error: unknown) => this.events.emit('error', error),
      );
    }
  }

  /** When the first and the last of them were released. */
  async released(): Promise<{ readonly firstAt: number; readonly lastAt: number }> {
    if (this.open > 0) await once(this.events, 'released');
    return { firstAt: this.firstAt, lastAt: this.lastAt };
  }

  private async begin(how: Wait): Promise<void> {
    const name = functionName(0);
    switch (how) {
      case 'wait':
        await this.functions.waitForFunction(name, WORKFLOW, LIMIT_MS);
        return;
      case 'notified call':
        expectSuccess(
          await this.functions.callFunctionWithInstantReadiness(
            name,
            WORKFLOW,
            { text: 'x' },
            {},
            LIMIT_MS,
          ),
        );
        return;
      case 'polling call':
        expectSuccess(
          await this.functions.callFunction(name, WORKFLOW, { text: 'x' }, {}, LIMIT_MS),
        );
    }
  }

  private note(): void {
    this.lastAt = sharedClockMs();
    if (this.firstAt === 0) this.firstAt = this.lastAt;
    this.open -= 1;
    if (this.open === 0) this.events.emit('released');
  }
}

function expectSuccess({ success, error }: { success: boolean; error?: unknown }): void {
  if (!success) throw new Error(`the call failed: ${JSON.stringify(error)}`);
}
