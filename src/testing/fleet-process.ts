import { MemoryBackend } from '../backend/memory/memory-backend.js';
import type { Keys } from '../protocol/keys.js';
import type { FunctionsSpy } from './functions-spy.js';
import { ProcessClock } from './process-clock.js';
import type { TestClock } from './test-clock.js';

/** One process of the fleet: an application under test, or a stub's. */
export class FleetProcess {
  readonly clock: ProcessClock<FleetProcess>;
  private backend: FleetBackend | undefined;
  private dying = false;

  constructor(
    private readonly memory: string,
    fleetClock: TestClock,
    readonly spy: FunctionsSpy,
    /** Called when its connections are closed, as the last thing of its shutdown. */
    private readonly left: (process: FleetProcess) => Promise<void>,
  ) {
    this.clock = new ProcessClock(fleetClock, this);
  }

  /** Its way to the fleet's memory. */
  connect(keys: Keys): FleetBackend {
    this.backend = new FleetBackend(this, this.memory, keys);
    return this.backend;
  }

  /**
   * It dies as by SIGKILL: its connections end and nothing is said, by whatever is left of it neither.
   *
   * @param windUp ends what is left of it, in a hurry, as far as that is possible in a process that lives on. Called
   * in the same step, so that nothing of it can wonder where its connections are
   */
  async die(windUp: () => Promise<unknown>): Promise<void> {
    this.dying = true;
    const closed = this.backend?.close();
    this.clock.hurry();
    await Promise.all([closed, windUp()]);
    this.clock.end();
    this.dying = false;
  }

  /** @internal */
  async handleClosed(): Promise<void> {
    if (this.dying) return;
    this.clock.end();
    await this.left(this);
  }
}

/** A backend that tells its process when it was closed. */
export class FleetBackend extends MemoryBackend {
  constructor(
    readonly process: FleetProcess,
    memory: string,
    keys: Keys,
  ) {
    super(memory, keys, process.clock);
  }

  override async close(): Promise<void> {
    await super.close();
    await this.process.handleClosed();
  }
}
