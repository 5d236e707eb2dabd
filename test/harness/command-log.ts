import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';

/** A command as Redis executed it: name in lower case, and its arguments. */
export interface LoggedCommand {
  readonly name: string;
  readonly args: readonly string[];
}

/** What Redis is asked to do, as MONITOR tells it; commands inside scripts are left out. */
export class CommandLog {
  private readonly commands: LoggedCommand[] = [];
  private readonly bare: Redis;
  private monitor: Redis | undefined;

  private constructor(url: string) {
    this.bare = new Redis(url);
  }

  static async start(url: string): Promise<CommandLog> {
    const log = new CommandLog(url);
    log.monitor = await log.bare.monitor();
    log.monitor.on('monitor', (_time: string, command: string[], source: string) => {
      const [name = '', ...args] = command;
      if (source !== 'lua') log.commands.push({ name: name.toLowerCase(), args });
    });
    return log;
  }

  /** Everything executed until now that has an argument in which `text` occurs. */
  async mentioning(text: string): Promise<LoggedCommand[]> {
    await this.catchUp();
    return this.commands.filter(({ args }) => args.some((arg) => arg.includes(text)));
  }

  /** Forgets what was executed until now. */
  async clear(): Promise<void> {
    await this.catchUp();
    this.commands.length = 0;
  }

  close(): void {
    this.monitor?.disconnect();
    this.bare.disconnect();
  }

  /** MONITOR keeps the order: once it tells our own mark, it has told everything before. */
  private async catchUp(): Promise<void> {
    const mark = randomBytes(8).toString('hex');
    await new Promise<void>((resolve, reject) => {
      const look = (_time: string, command: string[]): void => {
        if (command[1] !== mark) return;
        this.monitor?.off('monitor', look);
        resolve();
      };
      this.monitor?.on('monitor', look);
      this.bare.echo(mark).catch(reject);
    });
  }
}
