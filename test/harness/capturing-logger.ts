import type { LoggerService } from '@nestjs/common';

/** One line as Nest's Logger was given it. */
export interface LogLine {
  readonly level: 'log' | 'error' | 'warn' | 'debug' | 'verbose' | 'fatal';
  readonly context: string;
  readonly text: string;
}

/** A logger for `NestFactory.create(module, { logger })` that keeps every line, at every level. */
export class CapturingLogger implements LoggerService {
  readonly lines: LogLine[] = [];

  /** The lines of one context, and of one level if given. */
  of(context: string, level?: LogLine['level']): string[] {
    return this.lines
      .filter((line) => line.context === context && (level === undefined || line.level === level))
      .map((line) => line.text);
  }

  /** Everything that was written, stacks included. */
  get text(): string {
    return this.lines.map((line) => `${line.level} [${line.context}] ${line.text}`).join('\n');
  }

  log(message: unknown, ...rest: unknown[]): void {
    this.note('log', message, rest);
  }

  error(message: unknown, ...rest: unknown[]): void {
    this.note('error', message, rest);
  }

  warn(message: unknown, ...rest: unknown[]): void {
    this.note('warn', message, rest);
  }

  debug(message: unknown, ...rest: unknown[]): void {
    this.note('debug', message, rest);
  }

  verbose(message: unknown, ...rest: unknown[]): void {
    this.note('verbose', message, rest);
  }

  fatal(message: unknown, ...rest: unknown[]): void {
    this.note('fatal', message, rest);
  }

  /** Nest puts the context last, and a stack before it. */
  private note(level: LogLine['level'], message: unknown, rest: readonly unknown[]): void {
    const context = rest.at(-1);
    const others = rest.slice(0, -1).map(String);
    const first = message instanceof Error ? (message.stack ?? message.message) : String(message);
    this.lines.push({
      level,
      context: typeof context === 'string' ? context : '',
      text: [first, ...others].join('\n'),
    });
  }
}
