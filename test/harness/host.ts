import { Injectable, type Type } from '@nestjs/common';
import {
  FunctionHandler,
  type FunctionContext,
  type FunctionHandlerOptions,
} from '../../src/index.js';
import { createDeferred, type Deferred } from './deferred.js';

type Run<Input> = (input: Input, context: FunctionContext) => unknown;

/** A provider with one handler, written where it is used. */
export function hosting<Input = Record<string, unknown>>(
  fn: string | FunctionHandlerOptions,
  run: Run<Input>,
): Type<unknown> {
  class Host {
    handle(input: Input, context: FunctionContext): unknown {
      return run(input, context);
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Host.prototype, 'handle');
  const decorate = FunctionHandler(typeof fn === 'string' ? { name: fn } : fn) as MethodDecorator;
  decorate(Host.prototype, 'handle', descriptor as PropertyDescriptor);
  Injectable()(Host);
  return Host;
}

/** A run of a {@link Stage}'s handler that has started and waits for the test. */
export interface StagedRun {
  readonly callId: string;
  readonly input: Record<string, unknown>;
  readonly context: FunctionContext;
  readonly outcome: Deferred<unknown>;
}

/** A handler whose runs the test sees start, and ends when it wants. */
export class Stage {
  /** All runs so far, in the order in which they started. */
  readonly runs: StagedRun[] = [];
  /** Runs that have not ended. */
  open = 0;
  /** The most that were open at once. */
  peak = 0;
  private readonly awaited: { readonly count: number; readonly reached: Deferred<void> }[] = [];

  readonly handle = async (
    input: Record<string, unknown>,
    context: FunctionContext,
  ): Promise<unknown> => {
    const outcome = createDeferred<unknown>();
    this.runs.push({ callId: context.callId, input, context, outcome });
    this.open += 1;
    this.peak = Math.max(this.peak, this.open);
    for (const { count, reached } of this.awaited) if (this.runs.length >= count) reached.resolve();
    try {
      return await outcome.promise;
    } finally {
      this.open -= 1;
    }
  };

  /** The provider that hosts it. */
  as(fn: string | FunctionHandlerOptions): Type<unknown> {
    return hosting(fn, this.handle);
  }

  /** The run number `count`, counted from 1, once it has started. */
  async started(count = 1): Promise<StagedRun> {
    if (this.runs.length < count) {
      const reached = createDeferred();
      this.awaited.push({ count, reached });
      await reached.promise;
    }
    return this.runs[count - 1] as StagedRun;
  }

  /** Ends every run that is open. */
  finishAll(value: unknown = 'done'): void {
    for (const { outcome } of this.runs) outcome.resolve(value);
  }
}
