import { Inject, Injectable } from '@nestjs/common';
import {
  EnhancedFunctionRegistry,
  FunctionRegistry,
  isFunctionsError,
  type CallOptions,
} from 'nestjs-functions';
import { TELL, type Tell } from './application.js';
import { render, type RenderProgress } from './contract.js';
import { now, type CallerCommand, type CallReport, type StreamReport } from './messages.js';

type Command<Name extends CallerCommand['do']> = Extract<CallerCommand, { do: Name }>;

/** On a busy machine a worker takes its time to start: a late answer is no lost one. */
const WAIT_LIMIT_MS = 60_000;

/** Makes the calls of the demo. `item` carries a call's number, so that its runs can be counted. */
@Injectable()
export class CallMaker {
  private timer: NodeJS.Timeout | undefined;
  private readonly stream: Promise<CallReport>[] = [];

  constructor(
    private readonly enhanced: EnhancedFunctionRegistry,
    private readonly polling: FunctionRegistry,
    @Inject(TELL) private readonly tell: Tell,
  ) {}

  async perform(command: CallerCommand): Promise<CallReport | StreamReport | undefined> {
    switch (command.do) {
      case 'wait':
        return this.wait(command);
      case 'render':
        return this.render(command.call, command.files, {
          delivery: command.delivery,
          onProgress: (value) => this.tellRunning(command.call, value as RenderProgress),
        });
      case 'start-stream':
        return this.startStream(command);
      case 'stop-stream':
        clearInterval(this.timer);
        return { calls: await Promise.all(this.stream) };
    }
  }

  /** The same call by either registry; both answer with an outcome and never throw. */
  private async wait({ call, polling, file }: Command<'wait'>): Promise<CallReport> {
    const madeAt = now();
    const args = [render.name, 'demo', { files: [file] }, { call }, WAIT_LIMIT_MS] as const;
    const outcome = polling
      ? await this.polling.callFunction(...args)
      : await this.enhanced.callFunctionWithInstantReadiness(...args);
    const { success, error } = outcome;
    const times = { call, madeAt, settledAt: now() };
    return error === undefined
      ? { ...times, ok: success }
      : { ...times, ok: success, code: error.code, message: error.message };
  }

  /** A call by contract: resolves to the data, or throws a typed error. */
  private async render(
    call: number,
    files: readonly string[],
    options: CallOptions = {},
  ): Promise<CallReport> {
    const madeAt = now();
    try {
      await this.enhanced.call(
        render,
        { files: [...files] },
        { item: { call }, timeoutMs: WAIT_LIMIT_MS, ...options },
      );
      return { call, ok: true, madeAt, settledAt: now() };
    } catch (error) {
      const code = isFunctionsError(error) ? error.code : 'UNKNOWN';
      return { call, ok: false, madeAt, settledAt: now(), code, message: String(error) };
    }
  }

  private tellRunning(call: number, { workerId }: RenderProgress): void {
    this.tell({ event: 'running', call, workerId });
  }

  /** A call every few milliseconds, and now and then a long one. */
  private startStream(command: Command<'start-stream'>): undefined {
    const { call, everyMs, pages, book, bookEvery } = command;
    this.timer = setInterval(() => {
      const made = this.stream.length;
      const page = pages[made % pages.length] ?? '';
      const files = made % bookEvery === 0 ? book : [page];
      this.stream.push(this.render(call + made, files));
    }, everyMs);
  }
}
