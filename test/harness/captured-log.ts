import { Logger, type LoggerService } from '@nestjs/common';

/** A line that the application logged. */
export interface LogLine {
  readonly level: 'log' | 'warn' | 'error' | 'debug';
  readonly context: string;
  readonly text: string;
}

/** Takes what Nest's Logger is given, from construction until {@link release}. */
export class CapturedLog implements LoggerService {
  readonly lines: LogLine[] = [];

  constructor() {
    Logger.overrideLogger(this);
  }

  log(text: unknown, ...rest: unknown[]): void {
    this.note('log', text, rest);
  }

  warn(text: unknown, ...rest: unknown[]): void {
    this.note('warn', text, rest);
  }

  error(text: unknown, ...rest: unknown[]): void {
    this.note('error', text, rest);
  }

  debug(text: unknown, ...rest: unknown[]): void {
    this.note('debug', text, rest);
  }

  /** Lines of a level and context. */
  of(level: LogLine['level'], context: string): string[] {
    return this.lines
      .filter((line) => line.level === level && line.context === context)
      .map(({ text }) => text);
  }

  release(): void {
    Logger.overrideLogger(false);
  }

  private note(level: LogLine['level'], text: unknown, rest: unknown[]): void {
    const context = rest.at(-1);
    this.lines.push({
      level,
      text: String(text),
      context: typeof context === 'string' ? context : '',
    });
  }
}
