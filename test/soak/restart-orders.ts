import type { RestartOrder } from './caller-flow.js';
import type { Slot, Slots } from './slots.js';

/** Tells callers to save the workflow `flow`, and to restart its workers. */
export class RestartOrders {
  private version = 0;

  constructor(private readonly slots: Slots) {}

  /** The place of a caller that was told to restart the workflow. */
  leading(target: number): Slot[] {
    const leader = this.order(target, target % 3 > 0);
    return this.slots.of('caller').filter(({ name }) => name === leader);
  }

  /** Tells a caller to restart the workflow, after a save or not; says which. */
  order(target: number, withSave: boolean): string | undefined {
    const callers = this.slots.of('caller').filter(({ process, busy }) => process && !busy);
    const caller = callers[target % Math.max(1, callers.length)];
    if (caller === undefined) return undefined;
    this.version += 1;
    const order: RestartOrder = {
      type: 'restart-workflow',
      id: `${this.version}`,
      only: !withSave && target % 2 === 0 ? 'outdated' : 'all',
      maxUnavailable: target % 4 === 0 ? 2 : 1,
      isLast: false,
      ...(withSave ? { version: this.version } : {}),
    };
    caller.process?.send(order);
    return caller.name;
  }
}
