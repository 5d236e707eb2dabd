import { ConsoleLogger } from '@nestjs/common';
import type { HistoryLog, LifeStep } from './history.js';

/** What the checker wants to know of the library's own decisions. */
const TOLD =
  /written again|writing them again|declared dead|Redis was emptied|is dead \(|consumer group|could not be handed back|overdue/;

/** Nest's logger, whose lines about faults go into the history as well. */
export class StormLogger extends ConsoleLogger {
  constructor(private readonly history: HistoryLog) {
    super({ logLevels: ['error', 'warn'], colors: false });
  }

  override warn(message: unknown, ...rest: unknown[]): void {
    this.keep(message);
    super.warn(message, ...(rest as string[]));
  }

  override error(message: unknown, ...rest: unknown[]): void {
    this.keep(message);
    super.error(message, ...(rest as string[]));
  }

  private keep(message: unknown): void {
    const text = String(message);
    if (TOLD.test(text)) this.history.note({ e: 'log', text });
  }
}

/** A process's first line: what the wall clocks of metrics, and the names of sessions, are compared with. */
export function bootStep(): LifeStep {
  return { e: 'booted', pid: process.pid, wallMs: Date.now() };
}
