import { cpus, loadavg, totalmem } from 'node:os';

/** What the figures were measured on, and how busy it was with other things. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly node: string;
  readonly redis: string;
  readonly nats: string;
  /** Runnable processes, one-minute average, before the first round. */
  readonly loadBefore: number;
}

export function describeMachine(redis: string, nats: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    redis,
    nats,
    loadBefore: loadavg()[0] ?? 0,
  };
}

/** The machine in one line. */
export function machineLine(machine: Machine): string {
  const { cpu, cores, memoryGb, node, redis, nats, loadBefore } = machine;
  return `${cores} x ${cpu}, ${memoryGb} GB; Node ${node}, Redis ${redis}, nats-server ${nats}; load before ${loadBefore.toFixed(1)}`;
}
