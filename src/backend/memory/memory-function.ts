import { BackendRefusedError } from '../../common/errors.js';
import type { FunctionRef } from '../../protocol/function-ref.js';
import type { WorkerRecord } from '../../protocol/worker-record.js';
import type { RawCall } from '../call-streams.js';
import { Aside } from './aside.js';
import { CallQueue } from './call-queue.js';
import { Letters } from './letters.js';
import { Waiters } from './waiters.js';

/** A worker as it is stored: with the pool through whose bell its process hears of calls, if any. */
export interface StoredWorker extends WorkerRecord {
  readonly pool?: string;
}

/** A blocked read: it is handed calls the moment there are any. */
export interface BlockedRead {
  /** Takes calls of this function, which has some. */
  serve(fn: MemoryFunction): void;
  /** Ends it: there is no group any more. */
  fail(error: Error): void;
}

/** Who shares the call of an idempotency key, or its result. */
export interface SharedCall {
  entryId: string | undefined;
  callId: string;
  /** Calls that wait for the result, and the processes to tell. */
  readonly sharers: Map<string, string>;
  readonly reply: string | undefined;
}

/** All that is known of one function. */
export class MemoryFunction {
  readonly queue = new CallQueue();
  readonly aside = new Aside();
  readonly letters = new Letters();
  readonly workers = new Map<string, StoredWorker>();
  /** Pools whose bell is rung when a call is added. */
  readonly bells = new Set<string>();
  readonly blockedReads = new Waiters<BlockedRead>();
  definition = '';

  constructor(readonly ref: FunctionRef) {}

  /** What it is called in texts. */
  get label(): string {
    return `${this.ref.functionName} (workflow ${this.ref.workflowId})`;
  }

  /** The next calls; they are the consumer's from here on. */
  take(consumer: string, count: number): RawCall[] {
    const { ref, queue } = this;
    return queue.take(consumer, count).map(({ id, fields }) => ({ ref, entryId: id, fields }));
  }

  /** Makes its consumer group unknown, as `XGROUP DESTROY` does: who waits for calls learns of it. */
  destroyGroup(): void {
    this.queue.destroyGroup();
    for (let read = this.blockedReads.first(); read; read = this.blockedReads.first())
      read.fail(noGroup(this.ref));
  }

  /** Hands waiting calls to those who wait for them. */
  serve(): void {
    while (this.queue.hasWaiting) {
      const read = this.blockedReads.first();
      if (read === undefined) return;
      read.serve(this);
    }
  }
}

/** What a read says of a function that has no consumer group: who reads makes it again. */
export function noGroup({ functionName, workflowId }: FunctionRef): BackendRefusedError {
  const what = `${functionName} (workflow ${workflowId})`;
  return new BackendRefusedError(
    'XREADGROUP',
    'memory://',
    `NOGROUP ${what} has no consumer group`,
  );
}
