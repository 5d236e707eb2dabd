import type { Delivery, Notification } from 'nestjs-functions';

/** Milliseconds since the epoch, with fractions: comparable between the processes of one host. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** What the demo asks of the caller process; `call` is the number of the (first) call. */
export type CallerCommand =
  | { readonly do: 'wait'; readonly call: number; readonly polling: boolean; readonly file: string }
  | {
      readonly do: 'render';
      readonly call: number;
      readonly delivery: Delivery;
      readonly files: readonly string[];
    }
  | {
      readonly do: 'start-stream';
      readonly call: number;
      readonly everyMs: number;
      readonly pages: readonly string[];
      readonly book: readonly string[];
      readonly bookEvery: number;
    }
  | { readonly do: 'stop-stream' };

/** How one call ended. */
export interface CallReport {
  readonly call: number;
  readonly ok: boolean;
  /** When it was made and when its caller knew how it ended. */
  readonly madeAt: number;
  readonly settledAt: number;
  readonly code?: string;
  readonly message?: string;
}

/** How all calls of the stream ended. */
export interface StreamReport {
  readonly calls: readonly CallReport[];
}

/** What a child says by itself. */
export type ChildEvent =
  | { readonly event: 'up'; readonly port: number }
  | { readonly event: 'news'; readonly at: number; readonly news: Notification }
  | { readonly event: 'running'; readonly call: number; readonly workerId: string }
  | { readonly event: 'drained'; readonly finished: number; readonly handedBack: number };

/** What a child sends: an event, or the answer to a command. */
export type ChildMessage =
  ChildEvent | { readonly answerTo: number; readonly result?: unknown; readonly problem?: string };

/** What the demo sends to a child. */
export interface NumberedCommand {
  readonly id: number;
  readonly command: CallerCommand;
}

/** Says something to the demo, if there is one. */
export function tell(message: ChildMessage): void {
  if (process.connected) process.send?.(message);
}

/** How long a child may take to drain when the demo is gone. */
const END_LIMIT_MS = 5_000;

/** A child ends with the demo, however that ends. */
export function endWithParent(): void {
  process.once('disconnect', () => {
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => process.exit(1), END_LIMIT_MS).unref();
  });
}
