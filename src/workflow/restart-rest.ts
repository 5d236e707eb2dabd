import { decodeJson, isRecord } from '../protocol/json.js';
import { functionRef } from '../protocol/function-ref.js';
import type { HostProcess } from './workflow-survey.js';

/** What is left of a restart: the process that led it, which restarts last, and by its end. */
export interface RestartRest {
  readonly process: HostProcess;
  /** By function, how many healthy workers there were. */
  readonly healthy: ReadonlyMap<string, number>;
  /** Processes that the whole restart is about. */
  readonly total: number;
  /** The generation that whoever comes back has to have loaded. */
  readonly generation: number;
  readonly timeoutMs: number;
  readonly allowInterruption: boolean;
}

export function encodeRest(rest: RestartRest): string {
  const { process, healthy, total, generation, timeoutMs, allowInterruption } = rest;
  const { processId } = process;
  const others = { total, generation, timeoutMs, allowInterruption };
  const workers = process.workers.map(({ ref: { functionName }, record: { workerId, epoch } }) => ({
    functionName,
    workerId,
    epoch,
  }));
  return JSON.stringify({ ...others, processId, workers, healthy: [...healthy] });
}

/** What another process has written; nothing when it cannot be read: others may write there, too. */
export function parseRest(workflowId: string, text: string): RestartRest | undefined {
  try {
    const rest = decodeJson(text);
    if (!isRecord(rest) || !isWhole(rest)) return undefined;
    const { processId, workers, healthy, ...others } = rest;
    const hosted = workers.map(({ functionName, workerId, epoch }) => ({
      ref: functionRef(functionName, workflowId),
      record: { workerId, epoch },
    }));
    return { ...others, process: { processId, workers: hosted }, healthy: new Map(healthy) };
  } catch {
    return undefined;
  }
}

interface WrittenRest extends Omit<RestartRest, 'process' | 'healthy'> {
  readonly processId: string;
  readonly workers: readonly { functionName: string; workerId: string; epoch: number }[];
  readonly healthy: readonly [string, number][];
}

function isWhole(rest: Record<string, unknown>): rest is Record<string, unknown> & WrittenRest {
  const { processId, workers, healthy, total, generation, timeoutMs, allowInterruption } = rest;
  return (
    typeof processId === 'string' &&
    typeof allowInterruption === 'boolean' &&
    [total, generation, timeoutMs].every((number) => typeof number === 'number') &&
    Array.isArray(workers) &&
    workers.every(
      (worker: unknown) =>
        isRecord(worker) &&
        typeof worker['functionName'] === 'string' &&
        typeof worker['workerId'] === 'string' &&
        typeof worker['epoch'] === 'number',
    ) &&
    Array.isArray(healthy) &&
    healthy.every(
      (pair: unknown) =>
        Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'number',
    )
  );
}
