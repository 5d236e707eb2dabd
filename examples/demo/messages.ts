import type { Delivery, Notification } from 'nestjs-functions';

/** Milliseconds since the epoch, with fractions: comparable between the processes of one host. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** What the demo asks of the caller; `call` is the number of the (first) call. */
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

/** What the caller, or a worker, says by itself. */
export type ActorEvent =
  | { readonly event: 'up'; readonly port: number }
  | { readonly event: 'news'; readonly at: number; readonly news: Notification }
  | { readonly event: 'running'; readonly call: number; readonly workerId: string }
  | { readonly event: 'drained'; readonly finished: number; readonly handedBack: number };

/** What a process sends: an event, or the answer to a command. */
export type ProcessMessage =
  ActorEvent | { readonly answerTo: number; readonly result?: unknown; readonly problem?: string };

/** What the demo sends to a process. */
export interface NumberedCommand {
  readonly id: number;
  readonly command: CallerCommand;
}
