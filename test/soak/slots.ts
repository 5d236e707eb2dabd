import { TestProcess } from '../harness/processes.js';
import type { FuseTimes } from './fuse.js';
import type { HistoryLog } from './history.js';
import { STORM } from './plan.js';

/** Drain limit of a worker, and time for a machine that does other things too. */
const EXIT_LIMIT_MS = 30_000;
const BOOT_LIMIT_MS = 60_000;

export type Role = 'worker' | 'caller' | 'listener';

/** A place in the fleet, whose process is replaced when it ends. */
export interface Slot {
  readonly role: Role;
  readonly name: string;
  readonly url: () => string;
  readonly bells: number;
  /** Whether it serves its metrics to Prometheus, and where. */
  readonly scraped: boolean;
  port: number | undefined;
  generation: number;
  process: TestProcess | undefined;
  /** A fault has it in its hands. */
  busy: boolean;
}

/** What all processes of a storm have in common. */
export interface Surroundings {
  readonly prefix: string;
  readonly dir: string;
  readonly seed: number;
  readonly fuse: FuseTimes;
  readonly history: HistoryLog;
  readonly violate: (what: string) => void;
}

/** The places of a storm's fleet, and what can be done to the processes in them. */
export class Slots {
  readonly all: Slot[] = [];
  private readonly frozen = new Set<TestProcess>();

  constructor(private readonly surroundings: Surroundings) {}

  add(role: Role, n: number, url: () => string, bells: number, scraped = false): void {
    const name = `${role}-${n + 1}`;
    this.all.push({
      ...{ role, name, url, bells, scraped },
      ...{ port: undefined, generation: 0, process: undefined, busy: false },
    });
  }

  of(role: Role): Slot[] {
    return this.all.filter((slot) => slot.role === role);
  }

  /** What the present process in a place is called in its history. */
  who({ name, generation }: Slot): string {
    return `${name}.${generation}`;
  }

  /** The place of a session, or process, of the library. */
  hosting(sessionId: string): Slot | undefined {
    const pid = Number(/-(\d+)-[0-9a-f]{8}(\.\d+)?$/.exec(sessionId)?.[1]);
    return this.all.find(({ process, busy }) => process?.pid === pid && !busy);
  }

  /** Does something to a place that nothing is done to; its name, `undefined` when there is none. */
  async with(
    slots: readonly Slot[],
    target: number,
    task: (slot: Slot) => Promise<void>,
  ): Promise<string | undefined> {
    const free = slots.filter(({ busy }) => !busy);
    const slot = free[target % Math.max(1, free.length)];
    if (slot === undefined) return undefined;
    slot.busy = true;
    const { name } = slot;
    try {
      await task(slot);
    } finally {
      slot.busy = false;
    }
    return name;
  }

  async boot(slot: Slot): Promise<void> {
    slot.process = this.spawn(slot);
    slot.port = undefined;
    const { port } = await slot.process.message<{ type: 'ready'; port?: number }>(
      'ready',
      BOOT_LIMIT_MS,
    );
    slot.port = port;
  }

  async replace(slot: Slot, pauseMs: number): Promise<void> {
    slot.process?.kill('SIGKILL');
    await slot.process?.exit();
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    await this.boot(slot);
  }

  async restart(slot: Slot, replacementFirst: boolean): Promise<void> {
    const old = slot.process;
    if (replacementFirst) await this.boot(slot);
    if (old !== undefined) await this.expectExit(slot, old);
    if (!replacementFirst) await this.boot(slot);
  }

  async freeze(slot: Slot, durationMs: number): Promise<void> {
    const { process } = slot;
    if (process === undefined) return;
    this.frozen.add(process);
    process.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, durationMs));
    process.kill('SIGCONT');
    this.frozen.delete(process);
  }

  thaw(): void {
    for (const process of this.frozen) process.kill('SIGCONT');
  }

  /** Ends its process as an orchestrator does. */
  async end(slot: Slot): Promise<void> {
    if (slot.process !== undefined) await this.expectExit(slot, slot.process);
  }

  async destroy(): Promise<void> {
    for (const { process } of this.all) await process?.destroy();
  }

  /** What the processes printed, for whoever looks into a failure. */
  outputs(): string {
    return this.all.map(({ name, process }) => `--- ${name}\n${process?.output ?? ''}`).join('\n');
  }

  private spawn(slot: Slot): TestProcess {
    slot.generation += 1;
    const { prefix, dir, seed, fuse, history } = this.surroundings;
    const who = this.who(slot);
    const process = TestProcess.start(`../soak/${slot.role}.ts`, {
      REDIS_URL: slot.url(),
      KEY_PREFIX: prefix,
      HISTORY: dir,
      WHO: who,
      LEASE_MS: String(STORM.leaseMs),
      BELLS: String(slot.bells),
      LOOPS: String(STORM.loops),
      FUSE: JSON.stringify(fuse),
      LOAD_MS: String(STORM.loadMs),
      METRICS: slot.scraped ? '1' : '',
      SEED: String(seed + 1_000 * this.all.indexOf(slot) + slot.generation),
    });
    process.child.once('exit', () => history.note({ e: 'exited', process: who }));
    return process;
  }

  private async expectExit(slot: Slot, process: TestProcess): Promise<void> {
    const { violate } = this.surroundings;
    const who = `${slot.name} (process ${process.pid})`;
    process.kill('SIGTERM');
    try {
      const { code, signal } = await process.exit(EXIT_LIMIT_MS);
      if (code !== 0)
        violate(`${who} ended with ${code ?? signal} on SIGTERM:\n${process.output.slice(-2_000)}`);
    } catch {
      violate(
        `${who} did not end within ${EXIT_LIMIT_MS} ms of SIGTERM:\n${process.output.slice(-2_000)}`,
      );
      await process.destroy();
    }
  }
}
