import { randomUUID } from 'node:crypto';
import type { ChildProcess } from 'node:child_process';
import { TestProcess } from '../harness/processes.js';

/** One clock for all processes of this machine, in milliseconds. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** A run that some process told of. */
export interface Run {
  readonly id: string;
  readonly t: number;
}

/** Runs of all processes of the bench, by the call's id, as they are told. */
export class Runs {
  private readonly runs = new Map<string, (Run & { readonly pid: number })[]>();
  private readonly waiting = new Set<() => void>();

  watch(child: ChildProcess): void {
    child.on('message', (message: Run & { type: string }) => {
      if (message.type !== 'run') return;
      const { id, t } = message;
      this.runs.set(id, [...this.of(id), { id, t, pid: child.pid ?? 0 }]);
      for (const look of [...this.waiting]) look();
    });
  }

  of(id: string): (Run & { readonly pid: number })[] {
    return this.runs.get(id) ?? [];
  }

  /** The run number `count` of a call, once it was told of. */
  nth(id: string, count: number): Promise<Run & { readonly pid: number }> {
    return new Promise((resolve) => {
      const look = (): void => {
        const run = this.of(id)[count - 1];
        if (run === undefined) return;
        this.waiting.delete(look);
        resolve(run);
      };
      this.waiting.add(look);
      look();
    });
  }
}

/** A worker process that takes orders. */
export class BenchWorker {
  private constructor(readonly process: TestProcess) {}

  static async start(
    runs: Runs,
    env: { url: string; prefix: string; id: string },
  ): Promise<BenchWorker> {
    const process = TestProcess.start('../recovery/worker.ts', {
      REDIS_URL: env.url,
      KEY_PREFIX: env.prefix,
      WORKER_ID: env.id,
    });
    runs.watch(process.child);
    await process.message('ready', 60_000);
    return new BenchWorker(process);
  }

  get pid(): number {
    return this.process.pid;
  }

  async order(type: 'pause' | 'resume' | 'leave' | 'join' | 'role'): Promise<unknown> {
    const token = randomUUID();
    this.process.send({ type, token });
    return (await this.process.message<{ type: string; answer: unknown }>(token, 30_000)).answer;
  }

  async supervises(): Promise<boolean> {
    return (await this.order('role')) === true;
  }
}
